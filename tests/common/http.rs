//! A small HTTP server for tests: every answer is what a function makes of the request.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// A request without its body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// By names in lower case.
    pub(crate) headers: HashMap<String, String>,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// How much of the body is sent before the connection breaks.
    pub(crate) cut: Option<usize>,
}

impl Response {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Answers all requests on a port of this machine until the process ends.
pub(crate) fn serve(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> SocketAddr {
    serve_on(Ipv4Addr::LOCALHOST, handler)
}

/// Answers all requests on a port of this address until the process ends.
pub(crate) fn serve_on(
    address: Ipv4Addr,
    handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("bind");
    let address = listener.local_addr().expect("address");
    let handler = Arc::new(handler);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = handler.clone();
            std::thread::spawn(move || answer(stream, handler.as_ref()));
        }
    });
    address
}

/// Answers all requests on a socket until the process ends.
#[cfg(unix)]
pub(crate) fn serve_unix(
    path: &std::path::Path,
    handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
) {
    let listener = std::os::unix::net::UnixListener::bind(path).expect("bind");
    let handler = Arc::new(handler);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = handler.clone();
            std::thread::spawn(move || answer(stream, handler.as_ref()));
        }
    });
}

fn answer(stream: impl Read + Write, handler: &dyn Fn(&Request) -> Response) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if !stream.read_line(&mut line).is_ok_and(|length| length > 0) {
            return;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut words = lines[0].split(' ').map(str::to_owned);
    let request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers: lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect(),
    };
    let response = handler(&request);
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", response.status);
    if response
        .headers
        .iter()
        .all(|(name, _)| *name != "Content-Length")
    {
        head.push_str("Content-Length: ");
        head.push_str(&response.body.len().to_string());
        head.push_str("\r\n");
    }
    for (name, value) in &response.headers {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let body = &response.body[..response.cut.unwrap_or(response.body.len())];
    // A client may go away whenever it likes.
    let _ = stream.get_mut().write_all(head.as_bytes());
    let _ = stream.get_mut().write_all(body);
}
