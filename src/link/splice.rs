//! Joining two byte streams into one.
//!
//! What passes is not copied on the way: what is read from a connection becomes the payload of a record, and what a record has
//! brought is written from where it was decrypted.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;
use tokio_util::io::poll_read_buf;

use super::stream::ByteStream;
use crate::protocol::frame::MAX_PAYLOAD;

/// Bytes that are read from a connection at once while little comes.
const SMALL: usize = 4 * 1024;

/// The same while much comes: payloads that fill their records.
const LARGE: usize = 4 * MAX_PAYLOAD;

/// Bytes that are taken from a stream before they are written to a connection, and pieces of them.
const PENDING: usize = 256 * 1024;
const PIECES: usize = 16;

/// Carries bytes both ways between a stream and a connection until both directions have ended. Each direction ends by itself,
/// as in TCP.
///
/// # Errors
///
/// When either fails. Both are to be dropped then, which tells both ends that the connection broke.
pub async fn splice(
    mut stream: ByteStream,
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let (mut inwards, mut outwards) = (Inwards::new(), Outwards::default());
    poll_fn(|cx| {
        let inwards = inwards.poll(&mut connection, &mut stream, cx)?;
        let outwards = outwards.poll(&mut stream, &mut connection, cx)?;
        both(inwards, outwards)
    })
    .await
}

/// Carries bytes both ways between two streams, like [`splice`].
///
/// # Errors
///
/// As of [`splice`].
pub async fn relay(mut a: ByteStream, mut b: ByteStream) -> io::Result<()> {
    let (mut there, mut back) = (Passing::default(), Passing::default());
    poll_fn(|cx| {
        let there = there.poll(&mut a, &mut b, cx)?;
        let back = back.poll(&mut b, &mut a, cx)?;
        both(there, back)
    })
    .await
}

fn both(one: Poll<()>, other: Poll<()>) -> Poll<io::Result<()>> {
    if one.is_ready() && other.is_ready() {
        Poll::Ready(Ok(()))
    } else {
        Poll::Pending
    }
}

/// From a connection to a stream.
struct Inwards {
    /// How much is read next, in bytes.
    size: usize,
    /// Empty, and of that size while something comes.
    buffer: BytesMut,
    /// Read and not yet written.
    pending: Bytes,
    /// The connection has ended.
    ended: bool,
    /// The stream has been told.
    finished: bool,
}

impl Inwards {
    fn new() -> Self {
        Self {
            size: SMALL,
            buffer: BytesMut::new(),
            pending: Bytes::new(),
            ended: false,
            finished: false,
        }
    }

    fn poll(
        &mut self,
        connection: &mut (impl AsyncRead + Unpin),
        stream: &mut ByteStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.finished {
            while !self.pending.is_empty() {
                ready!(stream.poll_write_bytes(&mut self.pending, cx))?;
            }
            if self.ended {
                stream.finish();
                self.finished = true;
            } else {
                ready!(self.poll_read(connection, cx))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        connection: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.capacity() < self.size {
            self.buffer = BytesMut::with_capacity(self.size);
        }
        let Poll::Ready(read) = poll_read_buf(Pin::new(connection), cx, &mut self.buffer) else {
            // Whoever waits for something to come holds no memory for it.
            self.buffer = BytesMut::new();
            return Poll::Pending;
        };
        let length = read?;
        self.ended = length == 0;
        let capacity = self.buffer.capacity();
        if length == capacity {
            self.size = (capacity * 4).min(LARGE);
        } else if length < capacity / 4 {
            self.size = (capacity / 2).max(SMALL);
        }
        if length < capacity / 2 {
            // A long buffer is not kept alive for the sake of a short payload.
            self.pending = Bytes::copy_from_slice(&self.buffer);
            self.buffer.clear();
        } else {
            self.pending = std::mem::take(&mut self.buffer).freeze();
        }
        Poll::Ready(Ok(()))
    }
}

/// From a stream to a connection.
#[derive(Default)]
struct Outwards {
    /// Taken from the stream and not yet written.
    pieces: VecDeque<Bytes>,
    /// Length of all pieces, in bytes.
    pending: usize,
    /// The stream has ended.
    ended: bool,
    /// Something was written that may wait in the connection.
    unflushed: bool,
    /// The connection has been told.
    finished: bool,
}

impl Outwards {
    fn poll(
        &mut self,
        stream: &mut ByteStream,
        connection: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.finished {
            self.take(stream, cx)?;
            if !self.pieces.is_empty() {
                ready!(self.poll_write(connection, cx))?;
            } else if self.ended {
                ready!(Pin::new(&mut *connection).poll_shutdown(cx))?;
                self.finished = true;
            } else {
                if self.unflushed {
                    ready!(Pin::new(&mut *connection).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what has come, as much as one write is worth.
    fn take(&mut self, stream: &mut ByteStream, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.ended && self.pending < PENDING && self.pieces.len() < PIECES {
            match stream.poll_bytes(cx)? {
                Poll::Ready(Some(bytes)) => {
                    self.pending += bytes.len();
                    self.pieces.push_back(bytes);
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_write(
        &mut self,
        connection: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        let slices = &slices[..self.pieces.len()];
        let mut written = ready!(Pin::new(connection).poll_write_vectored(cx, slices))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.pending -= written;
        while let Some(piece) = self.pieces.front_mut() {
            let length = piece.len().min(written);
            piece.advance(length);
            written -= length;
            if !piece.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

/// From one stream to another.
#[derive(Default)]
struct Passing {
    /// Taken and not yet written.
    pending: Bytes,
    finished: bool,
}

impl Passing {
    fn poll(
        &mut self,
        from: &mut ByteStream,
        to: &mut ByteStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.finished {
            if self.pending.is_empty() {
                // Streams alone never make a task yield, however much comes.
                let progress = ready!(coop::poll_proceed(cx));
                let next = ready!(from.poll_bytes(cx))?;
                progress.made_progress();
                if let Some(bytes) = next {
                    self.pending = bytes;
                } else {
                    to.finish();
                    self.finished = true;
                }
            } else {
                ready!(to.poll_write_bytes(&mut self.pending, cx))?;
            }
        }
        Poll::Ready(Ok(()))
    }
}
