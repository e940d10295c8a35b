//! What a link runs over: anything that carries bytes both ways, and ways to get one.

use std::io;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use super::memory::Private;
use crate::tcp;

/// A connection: bytes both ways, in order.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// What it has beside its bytes if both ends are in this process, and nobody between them: only connections of
    /// [`memory`](super::memory()) have it.
    fn private(&mut self) -> Option<&mut Private> {
        None
    }
}

impl Transport for TcpStream {}

/// In memory, but what is at its other end may be anything.
impl Transport for DuplexStream {}

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
            let address = &self.address;
            let connected = tcp::connect(address).await;
            let stream = connected.map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("{address} cannot be reached: {error}"),
                )
            })?;
            tcp::hurry(&stream, stream.peer_addr()?)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

impl Listen for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let (stream, peer) = TcpListener::accept(self).await?;
            tcp::hurry(&stream, peer)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}
