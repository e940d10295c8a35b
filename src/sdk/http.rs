//! Just enough HTTP to see whether a web server has come up.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};

use super::error::Error;

/// First and longest pause between two requests.
const FIRST_RETRY: Duration = Duration::from_millis(2);
const LAST_RETRY: Duration = Duration::from_millis(200);

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest status line that is looked at, in bytes.
const MAX_STATUS_LINE: u64 = 256;

/// Refuses a host name that is not this machine's.
///
/// # Errors
///
/// When it resolves to no loopback address.
pub async fn require_local(host: &str) -> Result<(), Error> {
    let local = match lookup_host((host, 0)).await {
        Ok(mut addresses) => addresses.any(|address| address.ip().is_loopback()),
        Err(_) => false,
    };
    if local {
        Ok(())
    } else {
        Err(Error::NotLocal {
            host: host.to_owned(),
        })
    }
}

/// The address to show to a browser.
#[must_use]
pub fn url(host: &str, port: u16, path: &str) -> String {
    let slash = if path.starts_with('/') { "" } else { "/" };
    if port == 80 {
        format!("http://{host}{slash}{path}")
    } else {
        format!("http://{host}:{port}{slash}{path}")
    }
}

/// Asks again and again until the answer has status 200.
pub(super) async fn wait_200(
    address: SocketAddr,
    host: &str,
    path: &str,
    limit: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_RETRY;
    loop {
        if let Ok(Ok(200)) = timeout(REQUEST_TIMEOUT, status(address, host, path)).await {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::TimedOut {
                what: format!(
                    "waiting for status 200 from {}",
                    url(host, address.port(), path)
                ),
                limit,
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_RETRY);
    }
}

/// Status of the answer to one `GET`.
async fn status(address: SocketAddr, host: &str, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let port = address.port();
    let host = if port == 80 {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let request =
        format!("GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    let mut answer = stream.take(MAX_STATUS_LINE);
    while !line.contains(&b'\n') && answer.read_buf(&mut line).await? > 0 {}
    Ok(parse_status(&line).unwrap_or(0))
}

/// Reads the status out of the first line of an answer.
fn parse_status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(
        answer
            .split(|byte| *byte == b'\r' || *byte == b'\n')
            .next()?,
    )
    .ok()?;
    let mut words = line.split(' ');
    words.next()?.starts_with("HTTP/1.").then_some(())?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_from_the_first_line_only() {
        assert_eq!(parse_status(b"HTTP/1.1 200 OK\r\nX: 1\r\n"), Some(200));
        assert_eq!(parse_status(b"HTTP/1.0 404 Not Found\n"), Some(404));
        for garbage in [
            &b""[..],
            b"\r\n",
            b"SSH-2.0-x\r\nHTTP/1.1 200 OK",
            b"HTTP/1.1",
            b"\xff\xff 200",
        ] {
            assert_eq!(parse_status(garbage), None);
        }
    }

    #[tokio::test]
    async fn only_this_machine_is_local() {
        assert!(require_local("localhost").await.is_ok());
        assert!(require_local("127.0.0.1").await.is_ok());
        assert!(matches!(
            require_local("192.0.2.1").await,
            Err(Error::NotLocal { .. })
        ));
        assert!(matches!(
            require_local("no such name").await,
            Err(Error::NotLocal { .. })
        ));
    }

    #[test]
    fn urls_leave_the_usual_port_out() {
        assert_eq!(url("localhost", 80, ""), "http://localhost/");
        assert_eq!(url("localhost", 8080, "/x"), "http://localhost:8080/x");
    }
}
