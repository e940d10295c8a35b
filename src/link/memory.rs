//! Connections within this process.
//!
//! They begin like all others: with the same handshake over bytes, in which each side proves its key, up to the sealed messages
//! that start or continue a session. After it, records cross as they are, neither sealed nor copied.
//!
//! That is safe because nobody is between two tasks of one process: whoever could read or change what passes here has the memory
//! of both ends, and with it their keys and all that a seal would hide. Nothing else is different: a peer is who it has proved to
//! be, what it may do follows from that, and a record that breaks the protocol ends its session.
//!
//! No other transport can have [`Private`], which only this module makes. Both ends have to show theirs, or neither counts: a
//! connection with an end that is wrapped into something else is one like any other, and its records are sealed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::transport::{Dial, Listen, Transport};
use crate::protocol::replay::Parts;

/// Bytes that a connection holds before writing waits: those of the handshake, or all, if an end is wrapped.
const BUFFER: usize = 256 * 1024;

/// Records that it holds before sending waits. They take no memory of their own: the sender keeps them for as long in any case.
const RECORDS: usize = 8;

/// Connections that wait to be accepted by a [`MemoryListener`] before dialling waits.
const BACKLOG: usize = 16;

/// Both ends of a way to connect within this process.
#[must_use]
pub fn memory() -> (MemoryDial, MemoryListener) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (MemoryDial { sender }, MemoryListener { receiver })
}

/// Dials a [`MemoryListener`].
#[derive(Debug, Clone)]
pub struct MemoryDial {
    sender: mpsc::Sender<MemoryStream>,
}

impl MemoryDial {
    async fn connect(&self) -> io::Result<MemoryStream> {
        let (ours, theirs) = MemoryStream::pair();
        let sent = self.sender.send(theirs).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(ours)
    }
}

impl Dial for MemoryDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async { Ok(Box::new(self.connect().await?) as Box<dyn Transport>) })
    }
}

/// Dials a [`MemoryListener`] as if it were somewhere else: records are sealed.
#[cfg(test)]
pub(super) struct SealedDial(pub(super) MemoryDial);

#[cfg(test)]
impl Dial for SealedDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async { Ok(Box::new(self.0.connect().await?.bytes) as Box<dyn Transport>) })
    }
}

/// Accepts what [`MemoryDial`] dials.
#[derive(Debug)]
pub struct MemoryListener {
    receiver: mpsc::Receiver<MemoryStream>,
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

/// One end of a connection.
#[derive(Debug)]
pub(super) struct MemoryStream {
    pub(super) bytes: DuplexStream,
    private: Private,
}

impl MemoryStream {
    pub(super) fn pair() -> (Self, Self) {
        let (ours, theirs) = duplex(BUFFER);
        let (private, of_peer) = Private::pair();
        let ours = Self {
            bytes: ours,
            private,
        };
        let theirs = Self {
            bytes: theirs,
            private: of_peer,
        };
        (ours, theirs)
    }
}

impl Transport for MemoryStream {
    fn private(&mut self) -> Option<&mut Private> {
        Some(&mut self.private)
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, buf)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

/// What the two ends of a connection within this process have beside its bytes.
#[derive(Debug)]
pub struct Private {
    shown: Arc<AtomicBool>,
    shown_by_peer: Arc<AtomicBool>,
    records: Option<Records>,
}

impl Private {
    fn pair() -> (Self, Self) {
        let (ours, theirs) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (records, of_peer) = Records::pair();
        let end = |shown: &Arc<_>, by_peer: &Arc<_>, records| Self {
            shown: Arc::clone(shown),
            shown_by_peer: Arc::clone(by_peer),
            records: Some(records),
        };
        (end(&ours, &theirs, records), end(&theirs, &ours, of_peer))
    }

    /// Shows it to the peer, before the first message is sent.
    pub(super) fn show(&self) {
        self.shown.store(true, Ordering::Release);
    }

    /// The way of the records, if both ends have shown theirs: to be asked after the peer's first message, when each has or never
    /// will.
    pub(super) fn records(&mut self) -> Option<Records> {
        let both = self.shown.load(Ordering::Acquire) && self.shown_by_peer.load(Ordering::Acquire);
        self.records.take_if(|_| both)
    }
}

/// Carries records within this process, both ways, in order.
#[derive(Debug)]
pub(super) struct Records {
    sender: PollSender<Parts>,
    receiver: mpsc::Receiver<Parts>,
}

impl Records {
    fn pair() -> (Self, Self) {
        let (to_them, from_us) = mpsc::channel(RECORDS);
        let (to_us, from_them) = mpsc::channel(RECORDS);
        let end = |sender, receiver| Self {
            sender: PollSender::new(sender),
            receiver,
        };
        (end(to_them, from_them), end(to_us, from_us))
    }

    /// Waits until there is room for a record. Fails when the peer is gone.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reserved = self.sender.poll_reserve(cx);
        reserved.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends a record, for which there is room.
    pub(super) fn send(&mut self, record: Parts) -> io::Result<()> {
        let sent = self.sender.send_item(record);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits for a record; none when the peer is gone.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Parts>> {
        self.receiver.poll_recv(cx)
    }
}
