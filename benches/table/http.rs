//! Asking a web server for its page, as a browser does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an answer begins with that is as it should be.
const OK: &[u8] = b"HTTP/1.1 200";

/// Asks for the page on a port of localhost, which is to come with status 200.
pub(crate) fn get(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut start = Vec::new();
    stream.take(OK.len() as u64).read_to_end(&mut start)?;
    let shown = String::from_utf8_lossy(&start);
    ensure!(start == OK, "the answer begins with {shown:?}");
    Ok(())
}
