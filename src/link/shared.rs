//! What the handles of a link, its streams and the task that drives it have in common.
//!
//! All of it is behind one lock that is held for short moments and never across an `await`. Whoever changes something that
//! others wait for takes their wakers along and wakes them after the lock is released.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Status;
use super::error::{CloseReason, Closed};
use super::mailbox::{Arrival, Mailbox};
use crate::keys::PublicKey;
use crate::protocol::control::Message;
use crate::protocol::frame::{CONTROL, StreamId};
use crate::protocol::handshake::Role;
use crate::protocol::mux::{Event, Mux, Read, Side, Write};
use crate::protocol::record::{Record, Violation};

/// Bytes of DATA records that are received before an acknowledgement is sent for them alone.
const ACKNOWLEDGE: usize = 128 * 1024;

/// Streams that a client and its location may each have open at once.
const CLIENT_STREAMS: usize = 1024;

/// The same for a node, whose link carries the streams of all clients.
const NODE_STREAMS: usize = 16 * 1024;

/// One link.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// The application has ended the link, or dropped all of it.
    pub(super) closing: CancellationToken,
    pub(super) status: watch::Sender<Status>,
    pub(super) peer: PublicKey,
}

/// The part behind the lock.
#[derive(Debug)]
pub(super) struct State {
    mux: Mux,
    mailbox: Mailbox,
    closed: Option<CloseReason>,
    streams: HashMap<StreamId, Waiting>,
    /// Streams whose writers wait for room, the longest waiting first.
    for_room: VecDeque<StreamId>,
    /// Tasks that wait to open a stream.
    openers: Vec<Waker>,
    /// The task that drives the link, when it has nothing to send.
    driver: Option<Waker>,
    due: Due,
}

/// Tasks that wait for a stream.
#[derive(Debug, Default)]
struct Waiting {
    read: Option<Waker>,
    write: Option<Waker>,
    /// The writer is in `for_room`.
    for_room: bool,
}

/// What is to be said on the connection beside DATA.
#[derive(Debug, Default)]
struct Due {
    /// The count of received records that the peer was told last.
    told: u64,
    /// DATA received since, in bytes.
    untold: usize,
    ping: bool,
    pong: bool,
    /// CLOSE has been said, so nothing more is.
    closed: bool,
}

/// Wakers to call after the lock is released.
#[derive(Default)]
pub(super) struct Wake(Vec<Waker>);

impl Wake {
    pub(super) fn one(&mut self, waker: &mut Option<Waker>) {
        self.0.extend(waker.take());
    }

    pub(super) fn all(&mut self, wakers: &mut Vec<Waker>) {
        self.0.append(wakers);
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

/// Adds a task to those that wait, unless it is one of them.
pub(super) fn register(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

impl Shared {
    /// A link at its start, whose connecting side is a `role`.
    pub(super) fn new(side: Side, role: Role, peer: PublicKey) -> Arc<Self> {
        let streams = match role {
            Role::Client => CLIENT_STREAMS,
            Role::Node => NODE_STREAMS,
        };
        Arc::new(Self {
            state: Mutex::new(State::new(Mux::new(side, streams))),
            closing: CancellationToken::new(),
            status: watch::Sender::new(Status::Up),
            peer,
        })
    }

    /// Runs `f` under the lock, then wakes the driver if there is something to send, and those that `f` found to be woken.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State, &mut Wake) -> T) -> T {
        // Declared first, and so dropped last: the lock is free when the tasks wake.
        let mut wake = Wake::default();
        let mut state = self.lock();
        let result = f(&mut state, &mut wake);
        if state.driver.is_some() && state.has_record() {
            wake.one(&mut state.driver);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics half-way through a change that others rely on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the link has ended, if it has.
    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.lock().closed
    }

    /// Ends the link. The first reason counts.
    pub(super) fn close(&self, reason: CloseReason) {
        let reason = self.with(|state, wake| {
            state.close(reason, wake);
            state.closed.unwrap_or(reason)
        });
        self.status.send_replace(Status::Closed(reason));
    }
}

impl State {
    fn new(mux: Mux) -> Self {
        Self {
            mux,
            mailbox: Mailbox::default(),
            closed: None,
            streams: HashMap::new(),
            for_room: VecDeque::new(),
            openers: Vec::new(),
            driver: None,
            due: Due::default(),
        }
    }

    fn check(&self) -> Result<(), Closed> {
        self.closed.map_or(Ok(()), |reason| Err(Closed(reason)))
    }

    /// Opens a stream.
    pub(super) fn poll_open(
        &mut self,
        header: &Bytes,
        cx: &Context<'_>,
    ) -> Poll<Result<StreamId, Closed>> {
        self.check()?;
        if let Some(stream) = self.mux.open(header.clone()) {
            return Poll::Ready(Ok(stream));
        }
        register(&mut self.openers, cx);
        Poll::Pending
    }

    /// Takes the next bytes of a stream. [`Read::Empty`] means that the link has ended before the stream has.
    pub(super) fn poll_read(&mut self, stream: StreamId, cx: &Context<'_>) -> Poll<Read> {
        let read = self.mux.read(stream);
        if read == Read::Empty && self.closed.is_none() {
            let waiting = self.streams.entry(stream).or_default();
            waiting.read = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(read)
    }

    /// Writes to a stream. Returns how many bytes it took; none when the peer reads no more.
    pub(super) fn poll_write(
        &mut self,
        stream: StreamId,
        buf: &[u8],
        cx: &Context<'_>,
    ) -> Poll<Result<Option<usize>, Closed>> {
        self.check()?;
        let write = self.mux.write(stream, buf);
        match write {
            Write::Taken(length) => return Poll::Ready(Ok(Some(length))),
            Write::Refused => return Poll::Ready(Ok(None)),
            Write::NoWindow | Write::NoRoom => {}
        }
        let waiting = self.streams.entry(stream).or_default();
        waiting.write = Some(cx.waker().clone());
        if write == Write::NoRoom && !waiting.for_room {
            waiting.for_room = true;
            self.for_room.push_back(stream);
        }
        Poll::Pending
    }

    /// Ends the writing direction of a stream.
    pub(super) fn finish(&mut self, stream: StreamId) {
        self.mux.finish(stream);
    }

    /// Gives a stream up, both ways.
    pub(super) fn reset(&mut self, stream: StreamId) {
        self.mux.reset(stream);
    }

    /// Forgets a stream that nobody holds any more.
    pub(super) fn abandon(&mut self, stream: StreamId, wake: &mut Wake) {
        self.streams.remove(&stream);
        self.mux.abandon(stream);
        wake.all(&mut self.openers);
    }

    /// Waits until there is room for a call or notice.
    pub(super) fn poll_outbox(&mut self, cx: &Context<'_>) -> Poll<Result<(), Closed>> {
        self.check()?;
        self.mailbox.poll_room(cx).map(Ok)
    }

    /// Sends a message, without regard to how many wait.
    pub(super) fn send(&mut self, message: &Message, wake: &mut Wake) {
        if self.closed.is_none() {
            self.mailbox.send(&mut self.mux, message, wake);
        }
    }

    /// Sends a call; the answer comes through the channel, which is closed if there is none.
    pub(super) fn call(
        &mut self,
        kind: u16,
        body: Bytes,
        wake: &mut Wake,
    ) -> (u32, oneshot::Receiver<Message>) {
        let (id, answer) = self.mailbox.expect();
        if self.closed.is_some() {
            self.mailbox.forget(id);
        }
        self.send(&Message { kind, id, body }, wake);
        (id, answer)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn forget(&mut self, call: u32) {
        self.mailbox.forget(call);
    }

    /// What the peer asks for next; none when the link has ended.
    pub(super) fn poll_arrival(
        &mut self,
        cx: &Context<'_>,
        wake: &mut Wake,
    ) -> Poll<Option<Arrival>> {
        if let Some(arrival) = self.mailbox.take() {
            self.pump_in(wake);
            return Poll::Ready(Some(arrival));
        }
        if self.closed.is_some() {
            return Poll::Ready(None);
        }
        self.mailbox.wait(cx);
        Poll::Pending
    }

    /// From now on, nothing that the peer asks for is taken.
    pub(super) fn stop_taking(&mut self, wake: &mut Wake) {
        for stream in self.mailbox.stop_taking(&mut self.mux, wake) {
            self.abandon(stream, wake);
        }
        self.pump_in(wake);
    }

    fn pump_in(&mut self, wake: &mut Wake) {
        if let Err(violation) = self.mailbox.pump_in(&mut self.mux, wake) {
            self.close(CloseReason::Protocol(violation.0), wake);
        }
    }

    /// DATA records that have arrived.
    pub(super) fn received(&self) -> u64 {
        self.mux.received()
    }

    /// Takes a record that has arrived.
    pub(super) fn receive(&mut self, record: Bytes, wake: &mut Wake) -> Result<(), Violation> {
        let length = record.len();
        match Record::decode(record)? {
            Record::Data(frames) => {
                self.due.untold += length;
                let mut events = Vec::new();
                self.mux.receive(frames, &mut events)?;
                for event in events {
                    self.event(event, wake)?;
                }
            }
            Record::Ack(received) | Record::Pong(received) => self.acknowledged(received, wake)?,
            Record::Ping(received) => {
                self.acknowledged(received, wake)?;
                self.due.pong = true;
            }
            Record::Close => self.close(CloseReason::Clean, wake),
        }
        Ok(())
    }

    fn event(&mut self, event: Event, wake: &mut Wake) -> Result<(), Violation> {
        match event {
            Event::Readable(CONTROL) => self.mailbox.pump_in(&mut self.mux, wake)?,
            Event::Writable(CONTROL) => self.mailbox.pump_out(&mut self.mux, wake),
            Event::Readable(stream) => {
                if let Some(waiting) = self.streams.get_mut(&stream) {
                    wake.one(&mut waiting.read);
                }
            }
            Event::Writable(stream) => {
                if let Some(waiting) = self.streams.get_mut(&stream) {
                    wake.one(&mut waiting.write);
                }
            }
            Event::Opened(stream, _) if self.mailbox.is_deaf() => self.abandon(stream, wake),
            Event::Opened(stream, header) => {
                self.mailbox.arrive(Arrival::Stream(stream, header), wake);
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, received: u64, wake: &mut Wake) -> Result<(), Violation> {
        self.mux.replay().acknowledge(received)?;
        self.offer_room(wake);
        Ok(())
    }

    /// Wakes those that wait for room, if there is some.
    fn offer_room(&mut self, wake: &mut Wake) {
        if !self.mux.has_room() {
            return;
        }
        self.mailbox.pump_out(&mut self.mux, wake);
        for stream in self.for_room.drain(..) {
            if let Some(waiting) = self.streams.get_mut(&stream) {
                waiting.for_room = false;
                wake.one(&mut waiting.write);
            }
        }
        wake.all(&mut self.openers);
    }

    /// Makes the next record a PING.
    pub(super) fn ping(&mut self) {
        self.due.ping = true;
    }

    /// Whether there is a record to send, the last one aside.
    fn has_record(&mut self) -> bool {
        let due = &self.due;
        due.ping || due.pong || due.untold >= ACKNOWLEDGE || self.mux.replay().waiting() > 0
    }

    /// The next record to send, encoded; if there is none, `cx` is woken when there is.
    pub(super) fn poll_record(
        &mut self,
        closing: bool,
        cx: &Context<'_>,
        wake: &mut Wake,
    ) -> Poll<Bytes> {
        let received = self.mux.received();
        let waiting = self.mux.replay().waiting() > 0;
        let due = &mut self.due;
        let acknowledgement = if std::mem::take(&mut due.pong) {
            Some(Record::Pong(received))
        } else if std::mem::take(&mut due.ping) {
            Some(Record::Ping(received))
        } else if due.untold >= ACKNOWLEDGE || waiting && due.told != received {
            // Beside other records, it costs next to nothing.
            Some(Record::Ack(received))
        } else {
            None
        };
        if let Some(record) = acknowledgement {
            due.told = received;
            due.untold = 0;
            return Poll::Ready(record.encode());
        }
        if let Some(record) = self.mux.replay().pop() {
            self.offer_room(wake);
            return Poll::Ready(record);
        }
        if closing && !due.closed && !self.mailbox.is_sending() {
            due.closed = true;
            return Poll::Ready(Record::Close.encode());
        }
        self.driver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether [`State::poll_record`] has returned CLOSE.
    pub(super) fn said_close(&self) -> bool {
        self.due.closed
    }

    /// Prepares for a new connection to a peer that has received so many records, and that knows how many this side has.
    pub(super) fn resume(&mut self, received: u64, wake: &mut Wake) -> Result<(), Violation> {
        self.mux.replay().rewind(received)?;
        self.due = Due {
            told: self.mux.received(),
            ..Due::default()
        };
        self.offer_room(wake);
        Ok(())
    }

    fn close(&mut self, reason: CloseReason, wake: &mut Wake) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        self.mailbox.close(wake);
        for waiting in self.streams.values_mut() {
            wake.one(&mut waiting.read);
            wake.one(&mut waiting.write);
        }
        wake.all(&mut self.openers);
        wake.one(&mut self.driver);
    }
}
