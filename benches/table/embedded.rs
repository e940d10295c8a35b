//! The library, with a location in this process and a count of what goes to it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use anyhow::Result;
use futures_util::future::BoxFuture;
use tfnz::config::Config;
use tfnz::link::{Dial, Transport};
use tfnz::sdk::Location;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

/// A session. It ends when this is dropped.
pub(crate) struct Embedded {
    /// Where its tasks run.
    pub(crate) runtime: Runtime,
    /// The session.
    pub(crate) location: Location,
    sent: Arc<AtomicU64>,
}

impl Embedded {
    /// A session at a new location that keeps its state in a directory.
    pub(crate) fn start(home: &Path) -> Result<Self> {
        let config = Config {
            home: home.join("home"),
            state: home.join("state"),
            cache: home.join("cache"),
            location: None,
            max_cache: None,
            address: None,
        };
        let sent = Arc::new(AtomicU64::new(0));
        let runtime = Runtime::new()?;
        let location = runtime.block_on(async {
            let mut dialler = tfnz::dialler(&config).await?;
            dialler.dial = Arc::new(CountingDial {
                dial: dialler.dial,
                sent: Arc::clone(&sent),
            });
            Location::connect(dialler).await
        })?;
        Ok(Self {
            runtime,
            location,
            sent,
        })
    }

    /// Bytes that have been sent to the location, the handshake and all encryption included.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.runtime.block_on(self.location.disconnect());
    }
}

/// Counts what is sent over the connections that it makes.
struct CountingDial {
    dial: Arc<dyn Dial>,
    sent: Arc<AtomicU64>,
}

impl Dial for CountingDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let counting = Counting {
                transport: self.dial.dial().await?,
                sent: Arc::clone(&self.sent),
            };
            Ok(Box::new(counting) as Box<dyn Transport>)
        })
    }
}

struct Counting {
    transport: Box<dyn Transport>,
    sent: Arc<AtomicU64>,
}

/// Sees all that passes, which is therefore sealed.
impl Transport for Counting {}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = &written {
            self.sent.fetch_add(*length as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}
