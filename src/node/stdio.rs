//! Standard streams of processes on their way over a link.
//!
//! A stream belongs to its process for as long as that lives. If the link ends in the middle, what the client has not got is
//! kept, and whoever opens the stream next goes on there.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use super::container::{Input, Lent, Stream};
use crate::link::{Budget, Resume};

/// How much is read at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// Carries a standard stream one way until it ends. `position` is where the client is, if it counts.
pub(super) async fn carry(
    mut link: impl AsyncRead + AsyncWrite + Unpin,
    mut lent: Lent,
    position: Option<u64>,
    budget: &Budget,
) {
    match lent.stream() {
        Stream::In(input) => {
            input.receiving.begin(position);
            let fed = poll_fn(|cx| input.poll_feed(&mut link, cx)).await;
            if fed.as_ref().is_err_and(is_interruption) {
                return;
            }
            // It fails if the process has ended.
            let _ = input.writer.shutdown().await;
            let mut receiving = std::mem::take(&mut input.receiving);
            lent.use_up();
            // Only now: the client sends its end again until it hears this.
            if fed.is_ok() {
                let _ = poll_fn(|cx| receiving.poll_finish(&mut link, cx)).await;
            }
        }
        Stream::Out(output) => {
            let resume = position.map_or(Resume::Uncounted, Resume::From);
            if let Err(error) = output.sending.begin(resume) {
                tracing::debug!("a client's standard stream was refused: {error}");
                return;
            }
            let (sending, reader) = (&mut output.sending, &mut *output.reader);
            let sent = poll_fn(|cx| sending.poll(reader, &mut link, budget, cx)).await;
            // Its end can be read again, should it not have arrived.
            if sent.is_err_and(|error| !is_interruption(&error)) {
                lent.use_up();
            }
        }
    }
}

/// Whether the client may come back on another link, after an error of this one's stream: a reset is its decision that it does
/// not want the rest, or has none.
fn is_interruption(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::ConnectionReset
}

impl Input {
    /// Gives the process what comes over the link, until the end of that.
    fn poll_feed(
        &mut self,
        link: &mut (impl AsyncRead + AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            // What cannot be said now is said with the next.
            let _ = self.receiving.poll_tell(link, cx)?;
            while self.unwritten.has_remaining() {
                match ready!(Pin::new(&mut self.writer).poll_write(cx, &self.unwritten)) {
                    Ok(written) if written > 0 => self.unwritten.advance(written),
                    // The process has closed its end. What is still typed has nowhere to go, and nobody is hindered by that.
                    _ => self.unwritten.clear(),
                }
            }
            self.unwritten.reserve(CHUNK);
            let Poll::Ready(read) = poll_read_buf(Pin::new(&mut *link), cx, &mut self.unwritten)
            else {
                let _ = self.receiving.poll_tell_idle(link, cx)?;
                return Poll::Pending;
            };
            match read? {
                0 => return Poll::Ready(Ok(())),
                length => self.receiving.add(length),
            }
        }
    }
}
