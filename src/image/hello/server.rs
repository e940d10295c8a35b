//! The web server of `hello`: small, on the standard library alone, and unimpressed by whatever connects.
//!
//! One thread per connection, of which there is a limited number; a request has a limited length and a limited time. It
//! runs as the first process of a container, where signals without a handler are ignored, so it handles them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;

use super::SPAWNED_AT;
use super::page::{Facts, render};

/// Address that is served.
const ADDRESS: &str = "0.0.0.0:80";

/// Connections at a time; further ones are told to come back later.
const MAX_CONNECTIONS: usize = 64;

/// Longest request line and headers together, in bytes.
const MAX_REQUEST: usize = 8 * 1024;

/// How long a client may take for its request, and for taking the answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long accepting rests after it has failed, for lack of memory or file descriptors.
const REST: Duration = Duration::from_millis(50);

/// Longest start that is believed. Clocks of two machines can be further apart.
const MAX_START: Duration = Duration::from_hours(1);

/// Memory of a connection's thread, in bytes.
const STACK: usize = 128 * 1024;

/// Serves the page on port 80 until a signal asks this process to end.
///
/// The signals `SIGTERM`, `SIGINT` and `SIGHUP` end it. Connections that are open then end with the process, so the
/// caller should end it.
///
/// # Errors
///
/// When the port cannot be bound, or no thread can be started.
pub fn serve() -> io::Result<()> {
    // On a thread of its own, so that it works on one of an asynchronous runtime too.
    let server = std::thread::Builder::new().spawn(run)?;
    server
        .join()
        .map_err(|_| io::Error::other("the server's thread failed"))?
}

fn run() -> io::Result<()> {
    let signals = Signals::take()?;
    let listener = TcpListener::bind(ADDRESS)?;
    let page: Arc<str> = render(&Facts {
        hostname: hostname(),
        start: start_time(std::env::var(SPAWNED_AT).ok().as_deref(), SystemTime::now()),
    })
    .into();
    std::thread::Builder::new().spawn(move || accept(&listener, &page))?;
    signals.wait();
    Ok(())
}

/// How long it took from `spawned`, in microseconds since the epoch, to now.
fn start_time(spawned: Option<&str>, now: SystemTime) -> Option<Duration> {
    let spawned = Duration::from_micros(spawned?.parse().ok()?);
    let start = now.duration_since(UNIX_EPOCH).ok()?.checked_sub(spawned)?;
    (start <= MAX_START).then_some(start)
}

#[cfg(unix)]
fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| String::new(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(not(unix))]
fn hostname() -> String {
    String::new()
}

/// The signals that end the server.
///
/// For the first process of a container, the kernel drops signals that have no handler. So they get handlers, of the
/// asynchronous runtime, since installing one by hand is not safe.
struct Signals {
    runtime: Runtime,
    #[cfg(unix)]
    kinds: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    /// Handles the signals from now on.
    fn take() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        #[cfg(unix)]
        let kinds = {
            use tokio::signal::unix::{SignalKind, signal};
            let _context = runtime.enter();
            [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            ]
        };
        Ok(Self {
            runtime,
            #[cfg(unix)]
            kinds,
        })
    }

    #[cfg(unix)]
    fn wait(mut self) {
        let [terminate, interrupt, hangup] = &mut self.kinds;
        self.runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
    }

    #[cfg(not(unix))]
    fn wait(self) {
        // Without signals to wait for, only the end of the process ends it.
        self.runtime.block_on(std::future::pending())
    }
}

fn accept(listener: &TcpListener, page: &Arc<str>) {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(REST);
            continue;
        };
        let place = Place::take(&connections);
        let page = page.clone();
        let answer = move || {
            // A client that goes away in the middle is its own business.
            let _ = match place {
                Some(_place) => answer(&stream, &page),
                None => refuse(&stream),
            };
        };
        // Without a thread, the connection is dropped with the closure.
        let _ = std::thread::Builder::new().stack_size(STACK).spawn(answer);
    }
}

/// One of the connections that may be open.
struct Place {
    connections: Arc<AtomicUsize>,
}

impl Place {
    fn take(connections: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self {
            connections: connections.clone(),
        };
        // Dropping the place on the way out gives the number back.
        (connections.fetch_add(1, Ordering::Relaxed) < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refuse(stream: &TcpStream) -> io::Result<()> {
    stream.set_write_timeout(Some(REST))?;
    send(
        stream,
        "503 Service Unavailable",
        "text/plain",
        "too many connections\n",
        Body::Sent,
    )
}

/// Answers one request and closes the connection.
fn answer(stream: &TcpStream, page: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(TIME_LIMIT))?;
    let Some(request) = read_request(stream)? else {
        return send(
            stream,
            "400 Bad Request",
            "text/plain",
            "the request cannot be read\n",
            Body::Sent,
        );
    };
    let (method, path) = request;
    let body = match method.as_str() {
        "GET" => Body::Sent,
        "HEAD" => Body::LeftOut,
        _ => {
            return send(
                stream,
                "405 Method Not Allowed",
                "text/plain",
                "only GET and HEAD\n",
                Body::Sent,
            );
        }
    };
    match path.split('?').next().unwrap_or_default() {
        "/" | "/index.html" => send(stream, "200 OK", "text/html; charset=utf-8", page, body),
        "/healthz" => send(stream, "200 OK", "text/plain", "ok\n", body),
        _ => send(
            stream,
            "404 Not Found",
            "text/plain",
            "there is only one page: /\n",
            body,
        ),
    }
}

/// Reads up to the empty line and returns method and path; none if that is no request.
fn read_request(mut stream: &TcpStream) -> io::Result<Option<(String, String)>> {
    let deadline = Instant::now() + TIME_LIMIT;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n")
        && !request.windows(2).any(|window| window == b"\n\n")
    {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || request.len() > MAX_REQUEST {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            length => request.extend_from_slice(&buffer[..length]),
        }
    }
    let line = request
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else {
        return Ok(None);
    };
    let mut words = line.split(' ');
    Ok(
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(method), Some(path), Some(version), None) if version.starts_with("HTTP/1.") => {
                Some((method.to_owned(), path.to_owned()))
            }
            _ => None,
        },
    )
}

/// Whether an answer's body is sent or only described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Sent,
    LeftOut,
}

fn send(
    mut stream: &TcpStream,
    status: &str,
    kind: &str,
    content: &str,
    body: Body,
) -> io::Result<()> {
    let length = content.len();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n"
    );
    if body == Body::Sent {
        answer.push_str(content);
    }
    stream.write_all(answer.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        std::thread::spawn(move || accept(&listener, &"<p>page</p>".into()));
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.write_all(request).expect("write");
        stream.shutdown(Shutdown::Write).expect("shut down");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("read");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn the_page_and_the_health_are_served() {
        let answer = ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("<p>page</p>"),
            "{answer}"
        );
        assert!(ask(b"GET /?a=b HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
        assert!(ask(b"GET /healthz HTTP/1.1\r\n\r\n").ends_with("ok\n"));
        assert!(ask(b"GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask(b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        let head = ask(b"HEAD / HTTP/1.1\r\n\r\n");
        assert!(
            head.contains("Content-Length: 11\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }

    #[test]
    fn garbage_gets_an_error_and_no_panic() {
        for request in [
            &b""[..],
            b"\n\n",
            b"GET\r\n\r\n",
            b"\xff\xfe / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/2\r\n\r\n",
        ] {
            let answer = ask(request);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        }
        let answer = ask(&vec![b'a'; MAX_REQUEST + 2048]);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }

    #[test]
    fn more_connections_than_allowed_are_refused_and_places_come_back() {
        let connections = Arc::new(AtomicUsize::new(0));
        let places: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|_| Place::take(&connections))
            .collect();
        assert!(places.iter().all(Option::is_some));
        assert!(Place::take(&connections).is_none());
        drop(places);
        assert!(Place::take(&connections).is_some());
        assert_eq!(connections.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_a_believable_start_is_shown() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(
            start_time(Some("999990000"), now),
            Some(Duration::from_millis(10))
        );
        for nonsense in [None, Some(""), Some("-5"), Some("1000000001"), Some("x")] {
            assert_eq!(start_time(nonsense, now), None, "{nonsense:?}");
        }
        let much_later = UNIX_EPOCH + Duration::from_secs(100_000);
        assert_eq!(start_time(Some("1"), much_later), None);
    }
}
