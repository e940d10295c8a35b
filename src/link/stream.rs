//! Byte streams: one for each thing that carries bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Owner;
use super::call::Malformed;
use super::error::{CloseReason, Closed};
use crate::protocol::control::from_cbor;
use crate::protocol::frame::StreamId;
use crate::protocol::mux::Read;

/// A stream that the peer has opened.
#[derive(Debug)]
pub struct OpenedStream {
    header: Bytes,
    stream: ByteStream,
}

impl OpenedStream {
    pub(super) fn new(header: Bytes, stream: ByteStream) -> Self {
        Self { header, stream }
    }

    /// What the peer says the bytes are.
    ///
    /// # Errors
    ///
    /// When the header is not an `H`.
    pub fn header<H: DeserializeOwned>(&self) -> Result<H, Malformed> {
        from_cbor(&self.header).map_err(|problem| Malformed { kind: 0, problem })
    }

    /// What the peer says the bytes are, and the stream. Resets the stream if that cannot be read.
    ///
    /// # Errors
    ///
    /// When the header is not an `H`.
    pub fn accept<H: DeserializeOwned>(self) -> Result<(H, ByteStream), Malformed> {
        self.header().map(|header| (header, self.stream))
    }
}

/// Bytes both ways, in order, with flow control of its own.
///
/// `shutdown` ends the writing direction and leaves the other open. A stream that is dropped before that is reset: what the
/// peer reads and writes fails with [`io::ErrorKind::ConnectionReset`]. One that is dropped after it, but before the peer has
/// ended its own direction, makes only the peer's writes fail. A lost connection is not noticed here, except that nothing
/// moves until it is back.
#[derive(Debug)]
pub struct ByteStream {
    owner: Arc<Owner>,
    id: StreamId,
    /// Taken from the link and not yet read.
    current: Bytes,
}

impl ByteStream {
    pub(super) fn new(owner: Arc<Owner>, id: StreamId) -> Self {
        Self {
            owner,
            id,
            current: Bytes::new(),
        }
    }

    /// Gives both directions up at once. What the peer has not read yet is lost.
    pub fn reset(self) {
        self.owner.shared.with(|state, _| state.reset(self.id));
    }

    /// The next bytes as they came, without a copy; none at the end.
    ///
    /// # Errors
    ///
    /// When the stream was reset or the link has ended.
    pub fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.current.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.current))));
        }
        let shared = &self.owner.shared;
        let read = ready!(shared.with(|state, _| state.poll_read(self.id, cx)));
        Poll::Ready(match read {
            Read::Data(bytes) => Ok(Some(bytes)),
            Read::End => Ok(None),
            Read::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            Read::Empty => Err(Closed(shared.closed().unwrap_or(CloseReason::Clean)).into()),
        })
    }
}

impl ByteStream {
    /// Writes the start of `bytes`, which is not empty, and takes it off them. Long ones are not copied.
    ///
    /// # Errors
    ///
    /// When the peer reads no more, or the link has ended.
    pub(super) fn poll_write_bytes(
        &mut self,
        bytes: &mut Bytes,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = &self.owner.shared;
        let taken = ready!(shared.with(|state, _| state.poll_write_bytes(self.id, bytes, cx)));
        Poll::Ready(match taken? {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        })
    }

    /// Ends the writing direction.
    pub(super) fn finish(&mut self) {
        self.owner.shared.with(|state, _| state.finish(self.id));
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(mut bytes) = ready!(self.poll_bytes(cx))? else {
            return Poll::Ready(Ok(()));
        };
        let length = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..length]);
        bytes.advance(length);
        if !bytes.is_empty() {
            self.current = bytes;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let shared = &self.owner.shared;
        let taken = ready!(shared.with(|state, _| state.poll_write(self.id, buf, cx)));
        Poll::Ready(taken?.ok_or_else(|| io::ErrorKind::ConnectionReset.into()))
    }

    /// Does nothing: what was written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        self.owner
            .shared
            .with(|state, wake| state.abandon(self.id, wake));
    }
}
