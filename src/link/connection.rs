//! One connection of a link: moves records between the shared state and the transport, with few copies. That is what the driver's
//! task does; while it is at rest, whoever has little to send does the sending.
//!
//! Records are encrypted straight into the buffer that is written, several of them for one write. The buffers exist while
//! something moves and are given back when the connection is idle. Within this process, records are handed over as they are.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::CloseReason;
use super::memory::Records;
use super::noise::{Cipher, PREFIX, Sealed, TAG};
use super::shared::Shared;
use super::transport::Transport;
use crate::protocol::handshake::Answer;
use crate::protocol::record::MAX_RECORD;
use crate::protocol::replay::Parts;

/// Size of the buffers while much moves, in bytes: a few records of full length.
const LARGE: usize = 4 * (PREFIX + MAX_RECORD + TAG);

/// Size of the buffer that waits for something to come, in bytes.
const SMALL: usize = 2 * 1024;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The transport broke; the link goes on with another one.
    Lost,
    /// The link is over.
    Closed(CloseReason),
}

/// A transport with its cipher and buffers, or where the records go instead.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and none is a state"
)]
pub(super) struct Connection {
    transport: Box<dyn Transport>,
    cipher: Cipher,
    /// The way of the records within this process; only the answer goes over the transport then.
    records: Option<Records>,
    /// Sealed messages that were not yet written: `output[written..sealed]`.
    output: Vec<u8>,
    written: usize,
    sealed: usize,
    unflushed: bool,
    /// Bytes that were read and not yet opened: `input[opened..read]`.
    input: Vec<u8>,
    opened: usize,
    read: usize,
    heard: bool,
    moved: bool,
    /// Sending has failed.
    broken: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(sealed: Sealed) -> Self {
        Self::with_answer(sealed, None)
    }

    /// A connection on which `answer` goes before all records.
    pub(super) fn with_answer(mut sealed: Sealed, answer: Option<&Answer>) -> Self {
        let output = answer.map_or(Vec::new(), |answer| sealed.cipher.seal_value(answer));
        Self {
            records: sealed.records(),
            transport: sealed.transport,
            cipher: sealed.cipher,
            written: 0,
            sealed: output.len(),
            output,
            unflushed: false,
            input: Vec::new(),
            opened: 0,
            read: 0,
            heard: false,
            moved: false,
            broken: false,
        }
    }

    /// Moves what can be moved, until the connection or the link ends.
    pub(super) fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if let Some(reason) = shared.closed() {
                return Poll::Ready(Ended::Closed(reason));
            }
            if self.broken {
                return Poll::Ready(self.hear_out(shared, cx));
            }
            let wrote = match self.poll_output(shared, cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(_)) => return Poll::Ready(self.hear_out(shared, cx)),
                Poll::Pending => false,
            };
            let read = match self.poll_input(shared, cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                Poll::Pending => false,
            };
            if self.is_flushed() && shared.with(|state, _| state.said_close()) {
                return Poll::Ready(Ended::Closed(CloseReason::Clean));
            }
            if !wrote && !read {
                return Poll::Pending;
            }
        }
    }

    /// Takes what has come from a peer that takes nothing more: its last word may have been that it ends the link.
    fn hear_out(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Ended {
        loop {
            if let Some(reason) = shared.closed() {
                return Ended::Closed(reason);
            }
            match self.poll_input(shared, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(ended)) => return ended,
                Poll::Pending => return Ended::Lost,
            }
        }
    }

    /// Sends what there is, and returns whether the driver has nothing more to see to. `cx` is the driver's.
    pub(super) fn send(&mut self, shared: &Shared, cx: &mut Context<'_>) -> bool {
        if shared.closing.is_cancelled() {
            // The end of a link is the driver's.
            return false;
        }
        loop {
            match self.poll_output(shared, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.broken = true;
                    return false;
                }
                Poll::Pending => return true,
            }
        }
    }

    /// Writes once; pending when there is nothing to write or no place for it.
    fn poll_output(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written == self.sealed && self.records.is_none() {
            self.fill(shared, cx);
        }
        if self.written == self.sealed {
            if self.unflushed {
                ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
                self.unflushed = false;
            }
            return self.poll_hand_over(shared, cx);
        }
        let bytes = &self.output[self.written..self.sealed];
        let count = ready!(Pin::new(&mut self.transport).poll_write(cx, bytes))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += count;
        self.unflushed = true;
        self.moved = true;
        Poll::Ready(Ok(()))
    }

    /// Hands over one record within this process.
    fn poll_hand_over(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(records) = &mut self.records else {
            return Poll::Pending;
        };
        ready!(records.poll_room(cx))?;
        let closing = shared.closing.is_cancelled();
        let record = ready!(shared.with(|state, wake| state.poll_record(closing, cx, wake)));
        records.send(record)?;
        self.moved = true;
        Poll::Ready(Ok(()))
    }

    /// Seals the records that wait, as many as fit.
    fn fill(&mut self, shared: &Shared, cx: &mut Context<'_>) {
        self.written = 0;
        self.sealed = 0;
        let closing = shared.closing.is_cancelled();
        let mut burst = usize::MAX;
        while self.sealed < burst && LARGE - self.sealed >= Cipher::sealed_length(MAX_RECORD) {
            let record = shared.with(|state, wake| {
                burst = state.burst();
                state.poll_record(closing, cx, wake)
            });
            let Poll::Ready(record) = record else {
                break;
            };
            let end = self.sealed + Cipher::sealed_length(record.len());
            if self.output.len() < end {
                // Grows to its full size once, not step by step, unless there is little to send.
                let size = if end <= SMALL { SMALL } else { LARGE };
                self.output.resize(size, 0);
            }
            let out = &mut self.output[self.sealed..end];
            self.cipher.seal(&record.head, &record.payload, out);
            self.sealed = end;
        }
    }

    /// Reads once and takes what has come.
    fn poll_input(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if let Some(records) = &mut self.records {
            let record = ready!(records.poll_receive(cx)).ok_or(Ended::Lost)?;
            self.heard = true;
            self.moved = true;
            return Poll::Ready(take(shared, record));
        }
        if self.input.is_empty() {
            self.input.resize(SMALL, 0);
        }
        let mut buf = ReadBuf::new(&mut self.input[self.read..]);
        let result = ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buf));
        let count = buf.filled().len();
        if result.is_err() || count == 0 {
            return Poll::Ready(Err(Ended::Lost));
        }
        self.read += count;
        self.heard = true;
        self.moved = true;
        while let Some(message) = self.message() {
            let Some(record) = self.cipher.open(&self.input[message]) else {
                // Whoever forged it does not end the link, only this connection.
                return Poll::Ready(Err(Ended::Lost));
            };
            take(shared, record.into())?;
        }
        self.make_room();
        Poll::Ready(Ok(()))
    }

    /// Where the next whole message is.
    fn message(&mut self) -> Option<std::ops::Range<usize>> {
        let waiting = &self.input[self.opened..self.read];
        let (prefix, rest) = waiting.split_first_chunk::<PREFIX>()?;
        let length = usize::from(u16::from_be_bytes(*prefix));
        if rest.len() < length {
            return None;
        }
        let start = self.opened + PREFIX;
        self.opened = start + length;
        Some(start..self.opened)
    }

    /// Makes room for the rest of the message that has begun, and for more where much comes.
    fn make_room(&mut self) {
        let full = self.read == self.input.len();
        self.input.copy_within(self.opened..self.read, 0);
        self.read -= self.opened;
        self.opened = 0;
        let needed = match self.input[..self.read] {
            [high, low, ..] => PREFIX + usize::from(u16::from_be_bytes([high, low])),
            _ => SMALL,
        };
        if full || needed > self.input.len() {
            // A peer gets a large buffer by sending much, not by announcing it.
            let size = self.input.len() * 8;
            self.input
                .resize(size.max(needed.min(2 * size)).min(LARGE), 0);
        }
    }

    /// Looks back on the time since the last call: gives the buffers back if nothing has moved, and tells whether the peer was
    /// heard.
    pub(super) fn rest(&mut self) -> bool {
        if !std::mem::take(&mut self.moved) {
            if self.written == self.sealed {
                self.output = Vec::new();
                self.written = 0;
                self.sealed = 0;
            }
            if self.read == 0 {
                self.input = Vec::new();
            }
        }
        std::mem::take(&mut self.heard)
    }

    /// Whether all that was taken from the shared state has been written.
    fn is_flushed(&self) -> bool {
        self.written == self.sealed && !self.unflushed
    }

    /// Says that nothing follows, and waits until the peer does the same, so that nothing that is still on its way is lost.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(Pin::new(&mut self.transport).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut scrap = [0; SMALL];
        loop {
            let mut buf = ReadBuf::new(&mut scrap);
            let result = ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buf));
            if result.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

/// Has the state take a record that has come.
fn take(shared: &Shared, record: Parts) -> Result<(), Ended> {
    let taken = shared.with(|state, wake| state.receive(record, wake));
    taken.map_err(|violation| Ended::Closed(CloseReason::Protocol(violation.0)))
}
