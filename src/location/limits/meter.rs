//! Uploads, for as long as there is room for what comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Room, too_much_stored};
use crate::protocol::messages::Fault;

/// An upload that ends with an error where the user's room does.
pub(crate) struct Meter<R> {
    inner: R,
    room: Room,
    most: Option<u64>,
    exceeded: bool,
}

impl<R> Meter<R> {
    /// `room` is that of an upload, which counts; `most` is how much may be stored.
    pub(super) fn new(inner: R, room: Room, most: Option<u64>) -> Self {
        Self {
            inner,
            room,
            most,
            exceeded: false,
        }
    }

    /// What the client is told if it was this that ended the upload.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let most = self.most.filter(|_| self.exceeded)?;
        Some(too_much_stored(most, most))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Meter<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let more = (buffer.filled().len() - before) as u64;
        let Some(most) = self.most else { return read };
        if self.room.store(more) > most {
            self.exceeded = true;
            // With an error, nothing has been read.
            buffer.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        read
    }
}
