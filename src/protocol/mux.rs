//! Streams side by side in one session, each with a window of its own.
//!
//! A plain state machine: the caller feeds it the records that arrive, takes away those to send, and acts on events. A window
//! says how much the receiver is ready to hold for a stream; a reader that stalls fills its own window and nothing else. It
//! starts small and doubles each time that the sender reports to wait for it although the reader has read everything, so
//! that a large window is only ever given where it is not filled.
//!
//! ```text
//! sending    Open ── finish ──▶ Finished          receiving   Open ── FIN ──▶ Ended
//!             └──── STOP ─────▶ Stopped           either way  RESET ──▶ reset
//! ```
//!
//! Limits hold per session, whatever the peer does: [`MAX_ACCEPTED`] streams, an initial window for each and [`MAX_GROWTH`] for
//! all together, [`MAX_HELD`] for what has been sent and not acknowledged.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::frame::{CONTROL, FRAME_HEADER, Frame, MAX_PAYLOAD, StreamId};
use super::record::Violation;
use super::replay::Replay;

/// What a stream's sender may send before the receiver has granted anything, in bytes.
pub const INITIAL_WINDOW: usize = 64 * 1024;

/// Up to here a window grows, in bytes.
const MAX_WINDOW: usize = 8 * 1024 * 1024;

/// By how much all windows of a session may exceed the initial one, summed up, in bytes.
pub const MAX_GROWTH: usize = 32 * 1024 * 1024;

/// Streams that this side has open at once; opening one more waits.
pub const MAX_OPENED: usize = 1024;

/// Streams that the peer may have open at once; one more is reset. Above [`MAX_OPENED`], since the two sides do not see the
/// end of a stream at the same time.
pub const MAX_ACCEPTED: usize = 2 * MAX_OPENED;

/// Sent and not acknowledged, in bytes: from here on, writing waits. Enough to fill a line of 80 MB/s and 100 ms.
pub const MAX_HELD: usize = 8 * 1024 * 1024;

/// Not yet sent, in bytes: from here on, writing waits, so that what is urgent does not wait long behind what is bulky.
const MAX_WAITING: usize = 256 * 1024;

/// Slices of received records shorter than this, in bytes, are copied, so that what is kept is never much smaller than the
/// memory that it keeps alive.
const KEEP_SLICE: usize = 24 * 1024;

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
    streams: HashMap<StreamId, Stream>,
    /// Number of the stream that this side opens next.
    next: u32,
    /// Highest number that the peer has opened.
    last: u32,
    opened: usize,
    accepted: usize,
    /// Sum of all windows beyond their initial size, in bytes.
    growth: usize,
    /// DATA records received, over all connections.
    received: u64,
    replay: Replay,
}

#[derive(Debug)]
struct Stream {
    sending: Sending,
    /// Bytes that the peer still takes.
    credit: usize,
    /// The peer knows that the credit was too little.
    told: bool,
    receiving: Receiving,
    /// Bytes that the peer may still send.
    granted: usize,
    window: usize,
    /// The peer has said that it waits for credit.
    starved: bool,
    /// Received and not read, the older part.
    queue: VecDeque<Bytes>,
    /// Received and not read, the newer part.
    tail: BytesMut,
    /// Length of both, in bytes.
    unread: usize,
    reset: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    Finished,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Open,
    Ended,
}

impl Mux {
    /// A session at its start: only the control stream is open.
    #[must_use]
    pub fn new(side: Side) -> Self {
        let (next, last) = match side {
            Side::Connecting => (1, 0),
            Side::Accepting => (2, 0),
        };
        Self {
            side,
            streams: HashMap::from([(CONTROL, Stream::new())]),
            next,
            last,
            opened: 0,
            accepted: 0,
            growth: 0,
            received: 0,
            replay: Replay::default(),
        }
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

    /// Whether a writer that got [`Write::NoRoom`] should try again.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.replay.waiting() < MAX_WAITING && self.replay.held() < MAX_HELD
    }

    /// Opens a stream, or returns nothing if there is no room for one at the moment.
    pub fn open(&mut self, header: Bytes) -> Option<StreamId> {
        if self.opened >= MAX_OPENED || !self.has_room() {
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
        let room = self.has_room();
        let Some(stream) = self.streams.get_mut(&id) else {
            return Write::Refused;
        };
        if stream.reset || stream.sending != Sending::Open {
            return Write::Refused;
        }
        if stream.credit == 0 {
            if !stream.told {
                stream.told = true;
                self.send(id, &Frame::Blocked);
            }
            return Write::NoWindow;
        }
        if !room {
            return Write::NoRoom;
        }
        let length = buf.len().min(stream.credit);
        let length = length.min(self.replay.fits(FRAME_HEADER)).min(MAX_PAYLOAD);
        stream.credit -= length;
        self.replay
            .push(&Frame::data_header(length, id), &buf[..length]);
        Write::Taken(length)
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
    pub fn receive(&mut self, mut record: Bytes, events: &mut Vec<Event>) -> Result<(), Violation> {
        let length = record.len();
        while !record.is_empty() {
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
        if self.accepted >= MAX_ACCEPTED {
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
            let growth = stream.window.min(MAX_WINDOW - stream.window);
            if self.growth + growth <= MAX_GROWTH {
                self.growth += growth;
                stream.window += growth;
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

impl Stream {
    fn new() -> Self {
        Self {
            sending: Sending::Open,
            credit: INITIAL_WINDOW,
            told: false,
            receiving: Receiving::Open,
            granted: INITIAL_WINDOW,
            window: INITIAL_WINDOW,
            starved: false,
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            unread: 0,
            reset: false,
        }
    }

    fn push(&mut self, bytes: Bytes, record: usize) {
        self.unread += bytes.len();
        // A slice keeps its whole record alive.
        if bytes.len() >= KEEP_SLICE
            || bytes.len() + FRAME_HEADER == record && self.unread == bytes.len()
        {
            if !self.tail.is_empty() {
                self.queue.push_back(self.tail.split().freeze());
            }
            self.queue.push_back(bytes);
        } else {
            self.tail.extend_from_slice(&bytes);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let bytes = self
            .queue
            .pop_front()
            .or_else(|| (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).freeze()))?;
        self.unread -= bytes.len();
        Some(bytes)
    }

    fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.tail = BytesMut::new();
        self.unread = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: &[u8] = b"hello";

    fn pair() -> (Mux, Mux) {
        (Mux::new(Side::Connecting), Mux::new(Side::Accepting))
    }

    /// Moves all that `from` has to send; returns what `to` learns from it.
    fn flow(from: &mut Mux, to: &mut Mux) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(record) = from.replay().pop() {
            to.receive(record.slice(1..), &mut events)
                .expect("both keep the rules");
            from.replay()
                .acknowledge(to.received())
                .expect("it was sent");
        }
        events
    }

    fn open(from: &mut Mux, to: &mut Mux) -> StreamId {
        let stream = from.open(Bytes::from_static(b"header")).expect("room");
        let events = flow(from, to);
        assert_eq!(
            events,
            [Event::Opened(stream, Bytes::from_static(b"header"))]
        );
        stream
    }

    /// Writes until the window or the queue is full; returns how many bytes were taken.
    fn fill(mux: &mut Mux, stream: StreamId) -> usize {
        let mut taken = 0;
        while let Write::Taken(length) = mux.write(stream, &[7; 10_000]) {
            taken += length;
        }
        taken
    }

    /// Sends until the window is used up.
    fn saturate(from: &mut Mux, to: &mut Mux, stream: StreamId) {
        while fill(from, stream) > 0 {
            flow(from, to);
        }
        flow(from, to);
    }

    /// Reads all there is; returns how many bytes.
    fn drain(mux: &mut Mux, stream: StreamId) -> usize {
        let mut read = 0;
        while let Read::Data(bytes) = mux.read(stream) {
            read += bytes.len();
        }
        read
    }

    /// What becomes of one frame that a peer makes up.
    fn forge(mux: &mut Mux, stream: StreamId, frame: &Frame) -> Result<(), Violation> {
        let (header, payload) = frame.encode(stream);
        let record = [&header[..], &payload].concat();
        mux.receive(record.into(), &mut Vec::new())
    }

    #[test]
    fn each_side_ends_its_own_direction() {
        let (mut a, mut b) = pair();
        let stream = open(&mut a, &mut b);
        assert_eq!(a.write(stream, HELLO), Write::Taken(5));
        a.finish(stream);
        let readable = Event::Readable(stream);
        assert_eq!(flow(&mut a, &mut b), [readable.clone(), readable]);
        assert_eq!(b.read(stream), Read::Data(Bytes::from_static(HELLO)));
        assert_eq!(b.read(stream), Read::End);
        assert_eq!(a.write(stream, HELLO), Write::Refused);
        assert_eq!(b.write(stream, HELLO), Write::Taken(5));
        b.finish(stream);
        flow(&mut b, &mut a);
        assert_eq!(a.read(stream), Read::Data(Bytes::from_static(HELLO)));
        assert_eq!(a.read(stream), Read::End);
        a.abandon(stream);
        b.abandon(stream);
        assert_eq!((a.replay().held(), b.replay().held()), (0, 0));
    }

    #[test]
    fn a_stream_that_is_dropped_open_is_reset() {
        let (mut a, mut b) = pair();
        let stream = open(&mut a, &mut b);
        assert_eq!(a.write(stream, HELLO), Write::Taken(5));
        a.abandon(stream);
        flow(&mut a, &mut b);
        assert_eq!(b.read(stream), Read::Reset);
        assert_eq!(b.write(stream, HELLO), Write::Refused);
        b.abandon(stream);
        assert_eq!(b.replay().held(), 0);
    }

    #[test]
    fn a_stream_that_is_dropped_finished_keeps_what_was_sent() {
        let (mut a, mut b) = pair();
        let stream = open(&mut a, &mut b);
        assert_eq!(a.write(stream, HELLO), Write::Taken(5));
        a.finish(stream);
        a.abandon(stream);
        flow(&mut a, &mut b);
        assert_eq!(b.write(stream, HELLO), Write::Refused);
        assert_eq!(b.read(stream), Read::Data(Bytes::from_static(HELLO)));
        assert_eq!(b.read(stream), Read::End);
    }

    #[test]
    fn a_stream_can_be_reset_after_it_was_finished() {
        let (mut a, mut b) = pair();
        let stream = open(&mut a, &mut b);
        a.finish(stream);
        a.reset(stream);
        a.abandon(stream);
        flow(&mut a, &mut b);
        assert_eq!(b.read(stream), Read::Reset);
    }

    #[test]
    fn a_stalled_reader_stops_its_own_stream_only() {
        let (mut a, mut b) = pair();
        let stalled = open(&mut a, &mut b);
        let other = open(&mut a, &mut b);
        assert_eq!(fill(&mut a, stalled), INITIAL_WINDOW);
        assert_eq!(a.write(stalled, HELLO), Write::NoWindow);
        for _ in 0..100 {
            flow(&mut a, &mut b);
            flow(&mut b, &mut a);
            assert!(fill(&mut a, other) > 0);
            flow(&mut a, &mut b);
            assert!(drain(&mut b, other) > 0);
        }
        assert_eq!(drain(&mut b, stalled), INITIAL_WINDOW);
        let writable = Event::Writable(stalled);
        assert!(flow(&mut b, &mut a).contains(&writable));
    }

    #[test]
    fn the_window_grows_where_the_reader_keeps_up() {
        let (mut a, mut b) = pair();
        let quick = open(&mut a, &mut b);
        let slow = open(&mut a, &mut b);
        for _ in 0..20 {
            for stream in [quick, slow] {
                saturate(&mut a, &mut b, stream);
            }
            drain(&mut b, quick);
            // Always leaves something unread.
            if b.streams[&slow].queue.len() > 1 {
                b.read(slow);
            }
            flow(&mut b, &mut a);
        }
        assert_eq!(b.streams[&quick].window, MAX_WINDOW);
        assert_eq!(b.streams[&slow].window, INITIAL_WINDOW);
        assert_eq!(b.growth, MAX_WINDOW - INITIAL_WINDOW);
        b.abandon(quick);
        assert_eq!(b.growth, 0);
    }

    #[test]
    fn all_windows_together_grow_to_their_limit_and_no_further() {
        let (mut a, mut b) = pair();
        let streams: Vec<_> = (0..20).map(|_| open(&mut a, &mut b)).collect();
        for _ in 0..20 {
            for stream in &streams {
                saturate(&mut a, &mut b, *stream);
                drain(&mut b, *stream);
                flow(&mut b, &mut a);
            }
        }
        assert!(b.growth > MAX_GROWTH / 2, "{}", b.growth);
        assert!(b.growth <= MAX_GROWTH, "{}", b.growth);
    }

    #[test]
    fn writing_waits_while_nothing_is_acknowledged() {
        let (mut a, mut b) = pair();
        let mut sent = 0;
        let mut events = Vec::new();
        loop {
            let Some(stream) = a.open(Bytes::new()) else {
                break;
            };
            sent += fill(&mut a, stream);
            while let Some(record) = a.replay().pop() {
                b.receive(record.slice(1..), &mut events).expect("in order");
            }
        }
        assert!(sent <= MAX_HELD + INITIAL_WINDOW, "{sent}");
        assert!(!a.has_room());
        a.replay().acknowledge(b.received()).expect("it was sent");
        assert!(a.open(Bytes::new()).is_some());
    }

    #[test]
    fn a_flood_of_streams_is_reset_and_harms_no_other() {
        let (mut a, mut b) = pair();
        let first = open(&mut a, &mut b);
        for number in 1..=u32::try_from(2 * MAX_ACCEPTED).expect("small") {
            let id = StreamId(first.0 + 2 * number);
            forge(&mut b, id, &Frame::Open(Bytes::new())).expect("not against the rules");
        }
        assert_eq!(b.streams.len(), 1 + MAX_ACCEPTED);
        assert_eq!(a.write(first, HELLO), Write::Taken(5));
        while let Some(record) = a.replay().pop() {
            b.receive(record.slice(1..), &mut Vec::new())
                .expect("in order");
        }
        assert_eq!(b.read(first), Read::Data(Bytes::from_static(HELLO)));
    }

    #[test]
    fn a_peer_that_acknowledges_nothing_is_stopped() {
        let mut b = Mux::new(Side::Accepting);
        let flood = (1..u32::MAX)
            .step_by(2)
            .map(|id| forge(&mut b, StreamId(id), &Frame::Open(Bytes::new())));
        let held = flood.take(4_000_000).find_map(Result::err);
        assert_eq!(held, Some(Violation("too much that is not acknowledged")));
    }

    #[test]
    fn short_frames_do_not_keep_long_records_alive() {
        let (mut a, mut b) = pair();
        let stream = open(&mut a, &mut b);
        for _ in 0..INITIAL_WINDOW {
            let frame = Frame::Data(Bytes::from_static(b"x"));
            forge(&mut b, stream, &frame).expect("within the window");
        }
        let held = &b.streams[&stream];
        assert!(held.queue.len() <= 1);
        assert!(held.tail.capacity() <= 2 * INITIAL_WINDOW);
    }

    #[test]
    fn breaking_the_rules_is_noticed() {
        let peer = StreamId(1);
        let own = StreamId(2);
        for (stream, frames) in [
            (peer, vec![Frame::Fin]),
            (own, vec![Frame::Data(Bytes::from_static(HELLO))]),
            (own, vec![Frame::Open(Bytes::new())]),
            (CONTROL, vec![Frame::Open(Bytes::new())]),
            (CONTROL, vec![Frame::Reset]),
            (CONTROL, vec![Frame::Fin]),
            (CONTROL, vec![Frame::Window(u32::MAX)]),
            (
                peer,
                vec![Frame::Open(Bytes::new()), Frame::Open(Bytes::new())],
            ),
            (
                peer,
                vec![
                    Frame::Open(Bytes::new()),
                    Frame::Fin,
                    Frame::Data(Bytes::from_static(HELLO)),
                ],
            ),
            (
                CONTROL,
                vec![
                    Frame::Data(vec![0; MAX_PAYLOAD].into()),
                    Frame::Data(vec![0; 100].into()),
                ],
            ),
        ] {
            let mut mux = Mux::new(Side::Accepting);
            let results: Vec<_> = frames
                .iter()
                .map(|frame| forge(&mut mux, stream, frame))
                .collect();
            assert!(results.last().is_some_and(Result::is_err), "{frames:?}");
            assert_eq!(
                results.iter().filter(|result| result.is_err()).count(),
                1,
                "{frames:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20)) {
            let mut mux = Mux::new(Side::Accepting);
            for record in records {
                let _ = mux.receive(record.into(), &mut Vec::new());
            }
        }

        /// Frames with plausible numbers reach further than random bytes.
        #[test]
        fn no_frames_make_it_panic(frames in proptest::collection::vec((0_u8..8, 0_u32..7, 0_usize..70_000), 0..60)) {
            let mut mux = Mux::new(Side::Connecting);
            mux.open(Bytes::new());
            for (kind, stream, length) in frames {
                let frame = match kind {
                    0 | 1 => Frame::Data(vec![0; length.min(MAX_PAYLOAD)].into()),
                    2 => Frame::Window(u32::try_from(length).expect("small")),
                    3 => Frame::Open(Bytes::new()),
                    4 => Frame::Fin,
                    5 => Frame::Reset,
                    6 => Frame::Stop,
                    _ => Frame::Blocked,
                };
                let _ = forge(&mut mux, StreamId(stream), &frame);
                mux.read(StreamId(stream));
                mux.write(StreamId(stream), HELLO);
                if length % 5 == 0 {
                    mux.abandon(StreamId(stream.max(1)));
                }
            }
        }
    }
}
