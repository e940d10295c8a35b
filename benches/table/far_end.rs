//! What tunnels lead to: this program itself, in a container or on this machine, so that all tunnels carry the same.
//!
//! A client says with its first byte what it wants: everything back that it sends, or as much as it says each time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::guarded::Guarded;

/// Where it is in an image.
pub(crate) const PATH: &str = "bin/far-end";

/// First argument of a program that is to be it; the second is the address that it listens on.
pub(crate) const VERB: &str = "__far_end";

/// Port that it listens on in a container.
pub(crate) const PORT: u16 = 7;

/// The wish to have everything back.
pub(crate) const ECHO: u8 = b'e';
const SOURCE: u8 = b's';

/// Bytes that are read or written at once.
const PIECE: usize = 256 * 1024;

/// Bytes that go back and forth when a round trip is measured.
pub(crate) const PING: usize = 64;

/// Is the far end, and does not return, if this program was started to be it.
pub(crate) fn serve_if_asked() {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some(VERB) {
        return;
    }
    let address = words.next().and_then(|address| address.parse().ok());
    let served = address.map(serve);
    eprintln!("{served:?}");
    #[allow(clippy::exit, reason = "the program is another one")]
    std::process::exit(1);
}

fn serve(address: SocketAddrV4) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    loop {
        let (stream, _) = listener.accept()?;
        // Whoever leaves early is done.
        thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    let mut piece = vec![0; PIECE];
    if wish[0] == SOURCE {
        let mut size = [0; 8];
        loop {
            stream.read_exact(&mut size)?;
            let mut left = u64::from_le_bytes(size);
            while left > 0 {
                let length = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                stream.write_all(&piece[..length])?;
                left -= length as u64;
            }
        }
    }
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            length => stream.write_all(&piece[..length])?,
        }
    }
}

/// Starts it on this machine.
pub(crate) fn start(address: SocketAddrV4, log: &Path) -> Result<Guarded> {
    let program = std::env::current_exe()?;
    let words = [
        program.as_os_str(),
        VERB.as_ref(),
        address.to_string().as_ref(),
    ]
    .map(ToOwned::to_owned);
    let mut server = Guarded::start(words, log)?;
    server.until(|| round_trips(address, 1).map(drop))?;
    Ok(server)
}

/// Reads so many bytes from what is at this address, over one connection, and returns how long that took.
pub(crate) fn read(address: SocketAddrV4, size: u64) -> Result<Duration> {
    Source::connect(address)?.read(size)
}

/// A connection to it over which it sends as much as it is told, again and again.
pub(crate) struct Source(TcpStream);

impl Source {
    /// Makes one.
    pub(crate) fn connect(address: SocketAddrV4) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&[SOURCE])?;
        Ok(Self(stream))
    }

    /// The same connection once more.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Ends it for all who have it.
    pub(crate) fn end(&self) -> Result<()> {
        Ok(self.0.shutdown(Shutdown::Both)?)
    }

    /// Reads so many bytes, and returns how long that took.
    pub(crate) fn read(&mut self, size: u64) -> Result<Duration> {
        let mut piece = vec![0; PIECE];
        let began = Instant::now();
        self.0.write_all(&size.to_le_bytes())?;
        let mut left = size;
        while left > 0 {
            let length = self.0.read(&mut piece)? as u64;
            ensure!(length > 0, "the connection ended early");
            left = left.checked_sub(length).context("more came than should")?;
        }
        Ok(began.elapsed())
    }
}

/// Sends a few bytes to and fro so many times, over one connection, and returns how long each time took.
pub(crate) fn round_trips(address: SocketAddrV4, times: u32) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[ECHO])?;
    let mut ping = [0; PING];
    // Once for whatever has to happen before.
    stream.write_all(&ping)?;
    stream.read_exact(&mut ping)?;
    let mut trips = Vec::new();
    for _ in 0..times {
        let began = Instant::now();
        stream.write_all(&ping)?;
        stream.read_exact(&mut ping)?;
        trips.push(began.elapsed());
    }
    Ok(trips)
}
