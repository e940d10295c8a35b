//! Streams side by side in one session, each with a window of its own.
//!
//! A plain state machine: the caller feeds it the records that arrive, takes away those to send, and acts on events. A window
//! says how much the receiver is ready to hold for a stream; a reader that stalls fills its own window and nothing else. It
//! starts small and grows each time that the sender reports to wait for it although the reader has read everything, so
//! that a large window is only ever given where it is not filled. What one stream has needed, the next gets in one step. A
//! reader may stall later all the same, when what it writes to is full; so no window is larger than the line has use for.
//!
//! ```text
//! sending    Open ── finish ──▶ Finished          receiving   Open ── FIN ──▶ Ended
//!             └──── STOP ─────▶ Stopped           either way  RESET ──▶ reset
//! ```
//!
//! Limits hold per session, whatever the peer does: a number of streams, an initial window for each and as much again for
//! half of them, to be divided as needed, and [`MAX_HELD`] for what has been sent and not acknowledged.

mod stream;

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf as _, Bytes};

use self::stream::{Receiving, Sending, Stream};
use super::frame::{CONTROL, FRAME_HEADER, Frame, MAX_PAYLOAD, StreamId};
use super::record::Violation;
use super::replay::{Parts, Replay};

/// What a stream's sender may send before the receiver has granted anything, in bytes.
pub const INITIAL_WINDOW: usize = 64 * 1024;

/// Up to here a window grows on a long line, in bytes.
const MAX_WINDOW: usize = 8 * 1024 * 1024;

/// The same for each millisecond of a round trip, and on the shortest line: what 8 Gbit/s keep on their way.
const MILLISECONDS_WINDOW: usize = 1024 * 1024;

/// How many times larger a window gets when it was too small. On a long line each step takes a round trip in which little is
/// sent, and from which congestion control may conclude that the line is slow.
const GROWTH: usize = 4;

/// Sent and not acknowledged, in bytes: from here on, writing waits. Enough to fill a line of 80 MB/s and 100 ms.
pub const MAX_HELD: usize = 8 * 1024 * 1024;

/// Not yet sent, in bytes: from here on, writing waits, so that what is urgent does not wait long behind what is bulky.
const MAX_WAITING: usize = 256 * 1024;

/// The same on a line whose round trip takes so long: it is also the slower one, and so the wait behind the same is longer.
const FAR_WAITING: usize = 64 * 1024;
const FAR: Duration = Duration::from_millis(4);

/// From this length on, in bytes, what is written as [`Bytes`] is kept where it is.
const SHARE: usize = 32 * 1024;

/// Which end of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Opens streams with odd numbers.
    Connecting,
    /// Opens streams with even numbers.
    Accepting,
}

/// Something that a waiting task wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Reading from the stream has something to say.
    Readable(StreamId),
    /// Writing to the stream has something to say.
    Writable(StreamId),
    /// The peer has opened the stream, with this header.
    Opened(StreamId, Bytes),
}

/// What reading from a stream gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The next bytes, at least one.
    Data(Bytes),
    /// Nothing yet; [`Event::Readable`] follows.
    Empty,
    /// The peer has finished.
    End,
    /// The peer has given the stream up.
    Reset,
}

/// What writing to a stream gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// So many bytes were taken, at least one.
    Taken(usize),
    /// The window is used up; [`Event::Writable`] follows.
    NoWindow,
    /// Too much waits to be sent; try again when [`Mux::has_room`].
    NoRoom,
    /// The peer reads no more.
    Refused,
}

/// The session's streams, and what they have to send.
#[derive(Debug)]
pub struct Mux {
    side: Side,
    /// Streams that each side has open at once; opening one more waits.
    limit: usize,
    streams: HashMap<StreamId, Stream>,
    /// Number of the stream that this side opens next.
    next: u32,
    /// Highest number that the peer has opened.
    last: u32,
    opened: usize,
    accepted: usize,
    /// Sum of all windows beyond their initial size, in bytes.
    growth: usize,
    /// Up to here a window grows on this line, in bytes.
    max_window: usize,
    /// From so much on that is not yet sent, in bytes, writing waits on this line.
    max_waiting: usize,
    /// The largest window that a stream has had so far, in bytes: about what the line needs.
    widest: usize,
    /// DATA records received, over all connections.
    received: u64,
    replay: Replay,
}

impl Mux {
    /// A session at its start: only the control stream is open. Each side may open `limit` streams more.
    #[must_use]
    pub fn new(side: Side, limit: usize) -> Self {
        let (next, last) = match side {
            Side::Connecting => (1, 0),
            Side::Accepting => (2, 0),
        };
        Self {
            side,
            limit,
            streams: HashMap::from([(CONTROL, Stream::new())]),
            next,
            last,
            opened: 0,
            accepted: 0,
            growth: 0,
            max_window: MILLISECONDS_WINDOW,
            max_waiting: MAX_WAITING,
            widest: INITIAL_WINDOW,
            received: 0,
            replay: Replay::default(),
        }
    }

    /// Says how long a round trip takes, which decides how much is of use in a window and in the queue of what is to be sent. A
    /// window that has grown stays as it is.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.max_waiting = if round_trip < FAR {
            MAX_WAITING
        } else {
            FAR_WAITING
        };
        let milliseconds = usize::try_from(round_trip.as_millis()).unwrap_or(usize::MAX);
        self.max_window = (milliseconds.max(1))
            .saturating_mul(MILLISECONDS_WINDOW)
            .min(MAX_WINDOW);
    }

    /// How many DATA records have been received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What is to be sent.
    pub fn replay(&mut self) -> &mut Replay {
        &mut self.replay
    }

    /// How much should be given to the connection at once, in bytes.
    #[must_use]
    pub fn burst(&self) -> usize {
        self.max_waiting
    }

    /// Whether a writer that got [`Write::NoRoom`] should try again.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.replay.waiting() < self.max_waiting && self.replay.held() < MAX_HELD
    }

    /// Opens a stream, or returns nothing if there is no room for one at the moment.
    pub fn open(&mut self, header: Bytes) -> Option<StreamId> {
        if self.opened >= self.limit || !self.has_room() {
            return None;
        }
        let stream = StreamId(self.next);
        self.next = self.next.checked_add(2)?;
        self.opened += 1;
        self.streams.insert(stream, Stream::new());
        self.send(stream, &Frame::Open(header));
        Some(stream)
    }

    /// Takes as many bytes of `buf`, which is not empty, as the stream takes now.
    pub fn write(&mut self, id: StreamId, buf: &[u8]) -> Write {
        let room = self.replay.fits(FRAME_HEADER).min(MAX_PAYLOAD);
        let length = match self.take(id, buf.len().min(room)) {
            Ok(length) => length,
            Err(refusal) => return refusal,
        };
        self.replay
            .push(&Frame::data_header(length, id), &buf[..length]);
        Write::Taken(length)
    }

    /// Takes as many bytes off `bytes`, which is not empty, as the stream takes now. Long ones are not copied; they should be
    /// most of the memory that they keep alive.
    pub fn write_bytes(&mut self, id: StreamId, bytes: &mut Bytes) -> Write {
        if bytes.len() < SHARE {
            let write = self.write(id, bytes);
            if let Write::Taken(length) = write {
                bytes.advance(length);
            }
            return write;
        }
        let length = match self.take(id, bytes.len().min(MAX_PAYLOAD)) {
            Ok(length) => length,
            Err(refusal) => return refusal,
        };
        let header = Frame::data_header(length, id);
        let payload = bytes.split_to(length);
        if length < SHARE {
            self.replay.push(&header, &payload);
        } else {
            self.replay.push_shared(&header, payload);
        }
        Write::Taken(length)
    }

    /// How many of `wanted` bytes the stream takes now, which are taken off its credit; the error is why it takes none.
    fn take(&mut self, id: StreamId, wanted: usize) -> Result<usize, Write> {
        let room = self.has_room();
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(Write::Refused);
        };
        if stream.reset || stream.sending != Sending::Open {
            return Err(Write::Refused);
        }
        if stream.credit == 0 {
            if !stream.told {
                stream.told = true;
                self.send(id, &Frame::Blocked);
            }
            return Err(Write::NoWindow);
        }
        if !room {
            return Err(Write::NoRoom);
        }
        let length = wanted.min(stream.credit);
        stream.credit -= length;
        Ok(length)
    }

    /// Ends the writing direction, after what was written.
    pub fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.sending == Sending::Open
            && !stream.reset
        {
            stream.sending = Sending::Finished;
            self.send(id, &Frame::Fin);
        }
    }

    /// Takes the next bytes that have arrived, and grants the peer new ones.
    pub fn read(&mut self, id: StreamId) -> Read {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Read::Reset;
        };
        let Some(bytes) = stream.pop() else {
            return match stream.receiving {
                _ if stream.reset => Read::Reset,
                Receiving::Ended => Read::End,
                Receiving::Open => Read::Empty,
            };
        };
        self.grant(id);
        Read::Data(bytes)
    }

    /// Forgets a stream that nobody holds any more, and tells the peer if it does not know yet.
    pub fn abandon(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.growth -= stream.window - INITIAL_WINDOW;
        if self.is_own(id) {
            self.opened -= 1;
        } else {
            self.accepted -= 1;
        }
        if stream.reset {
            return;
        }
        if stream.sending == Sending::Open {
            self.send(id, &Frame::Reset);
        } else if stream.receiving == Receiving::Open {
            self.send(id, &Frame::Stop);
        }
    }

    /// Gives a stream up, both ways, even if this side has finished writing.
    pub fn reset(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.reset
        {
            stream.reset = true;
            stream.clear();
            self.send(id, &Frame::Reset);
        }
    }

    /// Takes the frames of a DATA record, and adds to `events` what follows from them.
    ///
    /// # Errors
    ///
    /// When the peer breaks the rules; the session cannot go on.
    pub fn receive(
        &mut self,
        frames: impl Into<Parts>,
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        let mut record = frames.into();
        let length = record.len();
        while record.len() > 0 {
            let (stream, frame) = Frame::decode(&mut record)?;
            self.frame(stream, frame, length, events)?;
        }
        self.received += 1;
        // Frames that answer others are not held back by `has_room`. A peer that provokes them and acknowledges nothing must
        // not make this side hold ever more.
        if self.replay.held() > 2 * MAX_HELD {
            return Err(Violation("too much that is not acknowledged"));
        }
        Ok(())
    }

    fn frame(
        &mut self,
        id: StreamId,
        frame: Frame,
        record: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        if let Frame::Open(header) = frame {
            return self.opened(id, header, events);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            let known = if self.is_own(id) {
                id.0 < self.next
            } else {
                id.0 <= self.last
            };
            // What was on its way when this side gave the stream up.
            return if known {
                Ok(())
            } else {
                Err(Violation("a frame of a stream that was never opened"))
            };
        };
        if id == CONTROL && matches!(frame, Frame::Fin | Frame::Reset | Frame::Stop) {
            return Err(Violation("an end of the control stream"));
        }
        match frame {
            Frame::Data(bytes) => {
                if stream.receiving == Receiving::Ended {
                    return Err(Violation("bytes after the end of a stream"));
                }
                stream.granted = (stream.granted.checked_sub(bytes.len()))
                    .ok_or(Violation("more bytes than the window allows"))?;
                if !bytes.is_empty() && !stream.reset {
                    stream.push(bytes, record);
                    events.push(Event::Readable(id));
                }
            }
            Frame::Window(credit) => {
                let credit = usize::try_from(credit).expect("32 bits fit into a usize");
                stream.credit = (stream.credit.checked_add(credit))
                    .filter(|credit| u32::try_from(*credit).is_ok())
                    .ok_or(Violation("a window beyond 32 bits"))?;
                stream.told = false;
                events.push(Event::Writable(id));
            }
            Frame::Fin => {
                stream.receiving = Receiving::Ended;
                events.push(Event::Readable(id));
            }
            Frame::Reset => {
                stream.reset = true;
                stream.clear();
                events.push(Event::Readable(id));
                events.push(Event::Writable(id));
            }
            Frame::Stop => {
                stream.sending = Sending::Stopped;
                events.push(Event::Writable(id));
            }
            Frame::Blocked => {
                stream.starved = true;
                self.grant(id);
            }
            Frame::Open(_) => unreachable!("handled above"),
        }
        Ok(())
    }

    fn opened(
        &mut self,
        id: StreamId,
        header: Bytes,
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        if id == CONTROL || self.is_own(id) || id.0 <= self.last {
            return Err(Violation("a stream number out of order"));
        }
        self.last = id.0;
        // The peer sees the end of a stream earlier than this side, if it is the one that lets go first.
        if self.accepted >= 2 * self.limit {
            self.send(id, &Frame::Reset);
            return Ok(());
        }
        self.accepted += 1;
        self.streams.insert(id, Stream::new());
        events.push(Event::Opened(id, header));
        Ok(())
    }

    /// Grants what the reader has made room for, once it is worth a frame.
    fn grant(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.receiving == Receiving::Ended || stream.reset {
            return;
        }
        if stream.starved && stream.unread == 0 {
            let left = (self.limit * INITIAL_WINDOW / 2).saturating_sub(self.growth);
            let step = stream.window * GROWTH;
            let sizes = [step.max(self.widest), step].map(|size| size.min(self.max_window));
            let growths = sizes.map(|size| size.saturating_sub(stream.window));
            if let Some(growth) = growths.into_iter().find(|growth| *growth <= left) {
                self.growth += growth;
                stream.window += growth;
                self.widest = self.widest.max(stream.window);
            }
        }
        let credit = stream.window - stream.granted - stream.unread;
        if credit >= stream.window / 2 {
            stream.granted += credit;
            stream.starved = false;
            let credit = u32::try_from(credit).expect("a window is below 4 GiB");
            self.send(id, &Frame::Window(credit));
        }
    }

    fn send(&mut self, id: StreamId, frame: &Frame) {
        let (header, payload) = frame.encode(id);
        self.replay.push(&header, &payload);
    }

    fn is_own(&self, id: StreamId) -> bool {
        let odd = id.0 % 2 == 1;
        odd == (self.side == Side::Connecting)
    }
}

#[cfg(test)]
mod tests;
