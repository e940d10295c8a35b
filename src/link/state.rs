//! The state of a link: its streams, its messages, and who waits for what.
//!
//! A plain value that is changed under the lock of [`Shared`](super::shared::Shared). Functions named `poll_` register the task of
//! their context, to be woken when trying again makes sense.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{CloseReason, Closed};
use super::mailbox::{Arrival, Mailbox};
use super::shared::{Wake, register};
use crate::protocol::control::Message;
use crate::protocol::frame::{CONTROL, StreamId};
use crate::protocol::mux::{Event, Mux, Read, Write};
use crate::protocol::record::{Record, Violation};
use crate::protocol::replay::Parts;

/// Bytes of DATA records that are received before an acknowledgement is sent for them alone.
const ACKNOWLEDGE: usize = 128 * 1024;

/// Up to so many bytes are sent by whoever has them, rather than by the driver.
const LITTLE: usize = 16 * 1024;

/// What is behind the lock.
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
    /// When the PING was said that has not been answered.
    asked: Option<Instant>,
    /// CLOSE has been said, so nothing more is.
    closed: bool,
}

impl State {
    /// A link at its start.
    pub(super) fn new(mux: Mux) -> Self {
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

    /// Why the link has ended, if it has.
    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.closed
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
        self.written(stream, write, cx)
    }

    /// Writes to a stream like [`State::poll_write`], and takes what it took off `bytes`. Long ones are not copied.
    pub(super) fn poll_write_bytes(
        &mut self,
        stream: StreamId,
        bytes: &mut Bytes,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<usize>, Closed>> {
        self.check()?;
        let write = self.mux.write_bytes(stream, bytes);
        self.written(stream, write, cx)
    }

    fn written(
        &mut self,
        stream: StreamId,
        write: Write,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<usize>, Closed>> {
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
    pub(super) fn receive(&mut self, record: Parts, wake: &mut Wake) -> Result<(), Violation> {
        let length = record.len();
        let Parts { head, payload } = record;
        match Record::decode(head)? {
            Record::Data(head) => {
                self.due.untold += length;
                let mut events = Vec::new();
                self.mux.receive(Parts { head, payload }, &mut events)?;
                for event in events {
                    self.event(event, wake)?;
                }
            }
            Record::Ack(received) => self.acknowledged(received, wake)?,
            Record::Pong(received) => {
                if let Some(asked) = self.due.asked.take() {
                    self.mux.set_round_trip(asked.elapsed());
                }
                self.acknowledged(received, wake)?;
            }
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

    /// Makes the next record a PING, whose answer also tells how long a round trip takes.
    pub(super) fn ping(&mut self) {
        self.due.ping = true;
    }

    /// The driver, if it waits and there is something to send.
    pub(super) fn driver_to_wake(&mut self) -> Option<Waker> {
        let due = &self.due;
        let something =
            due.ping || due.pong || due.untold >= ACKNOWLEDGE || self.mux.replay().waiting() > 0;
        self.driver.take_if(|_| something)
    }

    /// How much should be given to the connection at once, in bytes.
    pub(super) fn burst(&self) -> usize {
        self.mux.burst()
    }

    /// Whether so little is to be sent that it is not worth a turn of the driver.
    pub(super) fn has_little_to_send(&mut self) -> bool {
        self.mux.replay().waiting() <= LITTLE
    }

    /// The next record to send; if there is none, `cx` is woken when there is.
    pub(super) fn poll_record(
        &mut self,
        closing: bool,
        cx: &Context<'_>,
        wake: &mut Wake,
    ) -> Poll<Parts> {
        let received = self.mux.received();
        let waiting = self.mux.replay().waiting() > 0;
        let due = &mut self.due;
        let acknowledgement = if std::mem::take(&mut due.pong) {
            Some(Record::Pong(received))
        } else if std::mem::take(&mut due.ping) {
            due.asked.get_or_insert_with(Instant::now);
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
            return Poll::Ready(record.encode().into());
        }
        if let Some(record) = self.mux.replay().pop() {
            self.offer_room(wake);
            return Poll::Ready(record);
        }
        if closing && !due.closed && !self.mailbox.is_sending() {
            due.closed = true;
            return Poll::Ready(Record::Close.encode().into());
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

    /// Ends the link, unless it has ended before.
    pub(super) fn close(&mut self, reason: CloseReason, wake: &mut Wake) {
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
