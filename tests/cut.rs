//! A way to dial whose connections break, stall or come in pieces, as told.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tfnz::link::{Dial, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What happens to one connection.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    /// Bytes that this side can send before the end.
    pub(crate) sends: usize,
    /// Bytes that this side can receive before the end.
    pub(crate) receives: usize,
    /// Most bytes that move at once.
    pub(crate) piece: usize,
    /// Whether the end is silence rather than an error.
    pub(crate) silent: bool,
    /// Number of the received byte of which a bit is flipped.
    pub(crate) flips: Option<usize>,
}

impl Default for Fate {
    fn default() -> Self {
        Self {
            sends: usize::MAX,
            receives: usize::MAX,
            piece: usize::MAX,
            silent: false,
            flips: None,
        }
    }
}

/// Dials another dialler, and has the next connections meet their fates. Those after them are left alone.
#[derive(Clone)]
pub(crate) struct Cut {
    inner: Arc<Mutex<Arc<dyn Dial>>>,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    pub(crate) dialled: Arc<AtomicUsize>,
    /// Bytes sent and received over all connections.
    pub(crate) sent: Arc<AtomicUsize>,
    pub(crate) received: Arc<AtomicUsize>,
}

impl Cut {
    pub(crate) fn new(inner: impl Dial, fates: impl IntoIterator<Item = Fate>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Arc::new(inner))),
            fates: Arc::new(Mutex::new(fates.into_iter().collect())),
            dialled: Arc::default(),
            sent: Arc::default(),
            received: Arc::default(),
        }
    }

    /// Dials `inner` from now on.
    pub(crate) fn redirect(&self, inner: impl Dial) {
        *self.inner.lock().expect("no test panics with it") = Arc::new(inner);
    }
}

impl Dial for Cut {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            self.dialled.fetch_add(1, Ordering::Relaxed);
            let dial = Arc::clone(&self.inner.lock().expect("no test panics with it"));
            let inner = dial.dial().await?;
            let fate = self
                .fates
                .lock()
                .expect("no test panics with it")
                .pop_front();
            Ok(Box::new(Doomed {
                inner,
                fate: fate.unwrap_or_default(),
                sent: Arc::clone(&self.sent),
                received: Arc::clone(&self.received),
            }) as Box<dyn Transport>)
        })
    }
}

struct Doomed {
    inner: Box<dyn Transport>,
    fate: Fate,
    sent: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
}

impl Doomed {
    fn end<T>(&self) -> Poll<io::Result<T>> {
        if self.fate.silent {
            Poll::Pending
        } else {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }
}

/// Sees all that passes, which is therefore sealed.
impl Transport for Doomed {}

impl AsyncRead for Doomed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.fate.receives == 0 {
            return this.end();
        }
        let piece = this.fate.piece.min(this.fate.receives).min(buf.remaining());
        let mut part = buf.take(piece);
        let result = Pin::new(&mut this.inner).poll_read(cx, &mut part);
        let count = part.filled().len();
        // The bytes were written through `part`, which was cut from `buf` and is initialised this far.
        let initialised = buf.initialize_unfilled_to(piece);
        assert!(count <= initialised.len());
        if let Some(at) = this.fate.flips.take() {
            if at < count {
                initialised[at] ^= 0x10;
            } else {
                this.fate.flips = Some(at - count);
            }
        }
        buf.advance(count);
        this.fate.receives -= count;
        this.received.fetch_add(count, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for Doomed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.fate.sends == 0 {
            return this.end();
        }
        let piece = this.fate.piece.min(this.fate.sends).min(buf.len());
        let result = Pin::new(&mut this.inner).poll_write(cx, &buf[..piece]);
        if let Poll::Ready(Ok(count)) = result {
            this.fate.sends -= count;
            this.sent.fetch_add(count, Ordering::Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
