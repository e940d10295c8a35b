//! Streams that go one way and outlive the link: where one broke, the next goes on.
//!
//! The receiver counts what it has and says so, on the way back that carries nothing else; the sender keeps what it has not
//! heard of. Whoever opens the stream anew says its own count in the header.
//!
//! ```text
//! sender ──── bytes … end ────▶ receiver
//!        ◀── count, count … end, once it has all
//! ```
//!
//! A count is 64 bits, big-endian. What the sender keeps is bounded, and so is what it sends without an answer: it starts small,
//! and grows out of a budget that all streams share when the receiver is quick and far away.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::poll_read_buf;

use crate::protocol::backlog::Backlog;

/// How much is read from a source at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// What a sender may keep in any case, and what it may keep at most, in bytes.
const LEAST: usize = 64 * 1024;
const MOST: usize = 8 * 1024 * 1024;

/// From so many bytes on the receiver says that it has them: while more comes, and when nothing more does. The latter is less than
/// any sender may keep, so none waits for ever, and enough not to answer every letter that is typed.
const TELL: u64 = 256 * 1024;
const TELL_IDLE: u64 = 16 * 1024;

/// What all senders together may keep beyond what each may keep in any case. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }
}

impl Default for Budget {
    /// As much as eight streams can make use of.
    fn default() -> Self {
        Self::new(8 * MOST)
    }
}

/// From where a sender goes on in a new stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Behind what was sent: the receiver is older and does not count.
    Uncounted,
    /// The receiver has so many bytes.
    From(u64),
    /// From what the receiver will say.
    AsTold,
}

/// The sender's end of a stream, beyond single links.
#[derive(Debug)]
pub struct Sending {
    /// None if this process was not there from the start, and so cannot tell how much there was.
    backlog: Option<Backlog>,
    source_ended: bool,
    /// What it may keep beyond the least.
    extra: Option<OwnedSemaphorePermit>,
    // From here on: of this link.
    counted: bool,
    counts: Counts,
    phase: Phase,
}

/// How far a sender is with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The receiver has still to say from where to send.
    Awaiting,
    Open,
    /// The end was sent.
    Finished,
}

impl Sending {
    /// A stream from its start.
    #[must_use]
    pub fn new() -> Self {
        Self {
            backlog: Some(Backlog::default()),
            source_ended: false,
            extra: None,
            counted: false,
            counts: Counts::default(),
            phase: Phase::Open,
        }
    }

    /// A stream that an earlier process has sent the start of. The receiver says how much that was.
    #[must_use]
    pub fn continued() -> Self {
        Self {
            backlog: None,
            ..Self::new()
        }
    }

    /// How many bytes were sent until now.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.backlog.as_ref().map_or(0, Backlog::position)
    }

    /// Begins with a new stream.
    ///
    /// # Errors
    ///
    /// When the receiver claims what cannot be.
    pub fn begin(&mut self, resume: Resume) -> io::Result<()> {
        self.counted = resume != Resume::Uncounted;
        self.counts = Counts::default();
        self.phase = match resume {
            // Of nothing, the receiver has everything.
            Resume::AsTold if self.position() > 0 => Phase::Awaiting,
            _ => Phase::Open,
        };
        match (&mut self.backlog, resume) {
            (Some(backlog), Resume::From(received)) => {
                backlog.rewind(received).map_err(io::Error::other)?;
            }
            (Some(backlog), Resume::Uncounted) => backlog.forget_sent(),
            (Some(_), Resume::AsTold) => {}
            (none, Resume::From(received)) => *none = Some(Backlog::starting_at(received)),
            (none, _) => *none = Some(Backlog::default()),
        }
        Ok(())
    }

    /// Sends what comes from `source`, until its end and until the receiver has all. An error of `source` is its end.
    ///
    /// # Errors
    ///
    /// When the stream breaks. It can go on in another one.
    pub fn poll(
        &mut self,
        source: &mut (impl AsyncRead + Unpin + ?Sized),
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        budget: &Budget,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.poll_counts(stream, cx)?.is_ready() {
                return Poll::Ready(if self.phase == Phase::Finished {
                    Ok(())
                } else {
                    Err(io::Error::other("the receiver has ended before the sender"))
                });
            }
            let backlog = self.backlog.get_or_insert_default();
            if self.phase == Phase::Awaiting {
                return Poll::Pending;
            } else if !backlog.unsent().is_empty() {
                let sent = ready!(Pin::new(&mut *stream).poll_write(cx, backlog.unsent()))?;
                backlog.sent(sent);
                if !self.counted {
                    backlog.forget_sent();
                }
            } else if self.source_ended {
                if self.phase == Phase::Finished {
                    return Poll::Pending;
                }
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                self.phase = Phase::Finished;
            } else if backlog.held() >= allowed(self.extra.as_ref())
                && !grow(&mut self.extra, budget)
            {
                return Poll::Pending;
            } else {
                let read = poll_read_buf(Pin::new(&mut *source), cx, &mut backlog.tail(CHUNK));
                match read {
                    Poll::Ready(Ok(0) | Err(_)) => self.source_ended = true,
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        self.rest();
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Takes what the receiver says. Ready when that has ended.
    fn poll_counts(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(count) = ready!(self.counts.poll_next(stream, cx))? {
            let Some(backlog) = self.backlog.as_mut().filter(|_| self.counted) else {
                continue;
            };
            if self.phase == Phase::Awaiting {
                backlog.rewind(count).map_err(io::Error::other)?;
                self.phase = Phase::Open;
            } else {
                backlog.acknowledge(count).map_err(io::Error::other)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whoever waits for something to come holds little memory for it.
    fn rest(&mut self) {
        if let Some(backlog) = &mut self.backlog
            && backlog.held() < LEAST / 2
            && (self.extra.is_some() || backlog.held() == 0)
        {
            backlog.shrink();
            self.extra = None;
        }
    }
}

impl Default for Sending {
    fn default() -> Self {
        Self::new()
    }
}

fn allowed(extra: Option<&OwnedSemaphorePermit>) -> usize {
    LEAST + extra.map_or(0, OwnedSemaphorePermit::num_permits)
}

/// Doubles what may be kept. All of that was sent, so the link takes more than the receiver has answered.
fn grow(extra: &mut Option<OwnedSemaphorePermit>, budget: &Budget) -> bool {
    let now = allowed(extra.as_ref());
    let more = u32::try_from(now).unwrap_or(u32::MAX);
    if now >= MOST {
        return false;
    }
    let Ok(more) = Arc::clone(&budget.0).try_acquire_many_owned(more) else {
        return false;
    };
    match extra {
        Some(extra) => extra.merge(more),
        None => *extra = Some(more),
    }
    true
}

/// Reads counts, which may come in parts.
#[derive(Debug, Default)]
struct Counts {
    bytes: [u8; 8],
    filled: usize,
}

impl Counts {
    fn poll_next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<u64>>> {
        while self.filled < self.bytes.len() {
            let mut buffer = ReadBuf::new(&mut self.bytes[self.filled..]);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            match buffer.filled().len() {
                0 => return Poll::Ready(Ok(None)),
                length => self.filled += length,
            }
        }
        self.filled = 0;
        Poll::Ready(Ok(Some(u64::from_be_bytes(self.bytes))))
    }
}

/// The receiver's end of a stream, beyond single links.
#[derive(Debug)]
pub struct Receiving {
    /// None if this process was not there from the start, and so cannot tell how much there was.
    received: Option<u64>,
    // From here on: of this link.
    counted: bool,
    /// What the sender was told last, if anything.
    told: Option<u64>,
    /// What the sender is being told, and how much of it was written.
    telling: [u8; 8],
    written: usize,
}

impl Receiving {
    /// A stream from its start.
    #[must_use]
    pub fn new() -> Self {
        Self {
            received: Some(0),
            ..Self::continued()
        }
    }

    /// A stream that an earlier process has received the start of. The sender says how much that was.
    #[must_use]
    pub fn continued() -> Self {
        Self {
            received: None,
            counted: false,
            told: None,
            telling: [0; 8],
            written: 8,
        }
    }

    /// How many bytes have arrived until now.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.received.unwrap_or(0)
    }

    /// Begins with a new stream, of which the sender has sent so much in earlier ones; none if it does not want to be told.
    pub fn begin(&mut self, sent: Option<u64>) {
        *self = Self {
            received: self.received.or(sent),
            counted: sent.is_some(),
            ..Self::continued()
        };
    }

    /// So many bytes more are there.
    pub fn add(&mut self, length: usize) {
        // Where it began, the sender has said.
        self.received = Some(self.position().saturating_add(length as u64));
    }

    /// Tells the sender, if it is time for it: while more comes.
    ///
    /// # Errors
    ///
    /// When the stream breaks.
    pub fn poll_tell(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_tell_from(TELL, stream, cx)
    }

    /// The same while nothing comes.
    ///
    /// # Errors
    ///
    /// When the stream breaks.
    pub fn poll_tell_idle(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_tell_from(TELL_IDLE, stream, cx)
    }

    /// Tells the sender of the last bytes, and that nothing more is expected.
    ///
    /// # Errors
    ///
    /// When the stream breaks.
    pub fn poll_finish(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_tell_from(1, stream, cx))?;
        Pin::new(stream).poll_shutdown(cx)
    }

    fn poll_tell_from(
        &mut self,
        news: u64,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.written < self.telling.len() {
                let rest = &self.telling[self.written..];
                self.written += ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            }
            let received = self.position();
            if !self.counted
                || self
                    .told
                    .is_some_and(|told| received.saturating_sub(told) < news)
            {
                return Poll::Ready(Ok(()));
            }
            self.told = Some(received);
            self.telling = received.to_be_bytes();
            self.written = 0;
        }
    }
}

impl Default for Receiving {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
