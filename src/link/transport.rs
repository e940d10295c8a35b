//! What a link runs over: anything that carries bytes both ways, and ways to get one.

use std::io;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Bytes that an in-memory connection holds before writing waits.
const MEMORY_BUFFER: usize = 256 * 1024;

/// Connections that wait to be accepted by a [`MemoryListener`] before dialling waits.
const MEMORY_BACKLOG: usize = 16;

/// A connection: bytes both ways, in order.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// Makes connections to one peer, again whenever one is lost.
pub trait Dial: Send + Sync + 'static {
    /// Makes a connection.
    ///
    /// # Errors
    ///
    /// When the peer cannot be reached.
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>>;
}

/// Takes connections from peers.
pub trait Listen: Send + 'static {
    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// When none can come any more, or for a moment (file descriptors are used up); see [`io::Error::kind`].
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>>;
}

/// Dials a TCP address.
#[derive(Debug, Clone)]
pub struct TcpDial {
    address: String,
}

impl TcpDial {
    /// Dials `address`, a `host:port` that is looked up anew each time.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
        }
    }
}

impl Dial for TcpDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

impl Listen for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let (stream, _) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

/// Both ends of a way to connect within this process.
#[must_use]
pub fn memory() -> (MemoryDial, MemoryListener) {
    let (sender, receiver) = mpsc::channel(MEMORY_BACKLOG);
    (MemoryDial { sender }, MemoryListener { receiver })
}

/// Dials a [`MemoryListener`].
#[derive(Debug, Clone)]
pub struct MemoryDial {
    sender: mpsc::Sender<DuplexStream>,
}

impl Dial for MemoryDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let (ours, theirs) = duplex(MEMORY_BUFFER);
            let sent = self.sender.send(theirs).await;
            sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(Box::new(ours) as Box<dyn Transport>)
        })
    }
}

/// Accepts what [`MemoryDial`] dials.
#[derive(Debug)]
pub struct MemoryListener {
    receiver: mpsc::Receiver<DuplexStream>,
}

impl Listen for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let stream = self.receiver.recv().await;
            let stream = stream.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}
