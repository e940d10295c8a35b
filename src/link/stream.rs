//! Byte streams: one for each thing that carries bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::call::Malformed;

/// A stream that the peer has opened.
#[derive(Debug)]
pub struct OpenedStream {
    header: Vec<u8>,
    stream: ByteStream,
}

impl OpenedStream {
    /// What the peer says the bytes are, and the stream. Resets the stream if that cannot be read.
    ///
    /// # Errors
    ///
    /// When the header is not an `H`.
    pub fn accept<H: DeserializeOwned>(self) -> Result<(H, ByteStream), Malformed> {
        let _ = (self.header, self.stream);
        todo!()
    }
}

/// Bytes both ways, in order, with flow control of its own.
///
/// `shutdown` ends the writing direction and leaves the other open. A stream that is dropped before both directions have
/// ended is reset: the peer's reads and writes fail with [`io::ErrorKind::ConnectionReset`]. A lost connection is not
/// noticed here, except that nothing moves until it is back.
#[derive(Debug)]
pub struct ByteStream {}

impl ByteStream {
    /// Gives both directions up at once; what was not sent yet is lost.
    pub fn reset(self) {
        drop(self);
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        todo!()
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        todo!()
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
}
