//! What the streams of two sides do to each other, with nothing in between.

use super::*;
use proptest::prelude::*;

const HELLO: &[u8] = b"hello";
const LIMIT: usize = 1024;
const MAX_GROWTH: usize = LIMIT * INITIAL_WINDOW / 2;

/// Round trips for which the largest window, and the smallest, are of use.
const LONG: Duration = Duration::from_millis(200);
const SHORT: Duration = Duration::from_micros(50);

/// Two sides with a long line between them.
fn pair() -> (Mux, Mux) {
    let [a, b] = [Side::Connecting, Side::Accepting].map(|side| {
        let mut mux = Mux::new(side, LIMIT);
        mux.set_round_trip(LONG);
        mux
    });
    (a, b)
}

/// Moves all that `from` has to send; returns what `to` learns from it.
fn flow(from: &mut Mux, to: &mut Mux) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(Parts { head, payload }) = from.replay().pop() {
        // In its two parts, as within a process, or as one, as over a network.
        let head = head.slice(1..);
        let parts = Parts { head, payload };
        let frames = if to.received().is_multiple_of(2) {
            parts
        } else {
            parts.concat().into()
        };
        to.receive(frames, &mut events)
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
    mux.receive(Bytes::from(record), &mut Vec::new())
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
fn a_window_grows_no_larger_than_the_line_has_use_for() {
    let (mut a, mut b) = pair();
    let stream = open(&mut a, &mut b);
    let grow = |a: &mut Mux, b: &mut Mux| {
        for _ in 0..20 {
            saturate(a, b, stream);
            drain(b, stream);
            flow(b, a);
        }
        b.streams[&stream].window
    };
    b.set_round_trip(SHORT);
    assert_eq!(grow(&mut a, &mut b), MILLISECONDS_WINDOW);
    b.set_round_trip(Duration::from_millis(3));
    assert_eq!(grow(&mut a, &mut b), 3 * MILLISECONDS_WINDOW);
    b.set_round_trip(Duration::MAX);
    assert_eq!(grow(&mut a, &mut b), MAX_WINDOW);
    b.set_round_trip(SHORT);
    assert_eq!(grow(&mut a, &mut b), MAX_WINDOW, "what was granted stays");
    let next = open(&mut a, &mut b);
    saturate(&mut a, &mut b, next);
    drain(&mut b, next);
    assert!(b.streams[&next].window <= MILLISECONDS_WINDOW);
}

#[test]
fn what_one_stream_needed_the_next_gets_in_one_step() {
    let (mut a, mut b) = pair();
    let first = open(&mut a, &mut b);
    while b.streams[&first].window < MAX_WINDOW {
        saturate(&mut a, &mut b, first);
        drain(&mut b, first);
        flow(&mut b, &mut a);
    }
    b.abandon(first);
    let (quick, stalled) = (open(&mut a, &mut b), open(&mut a, &mut b));
    for stream in [quick, stalled] {
        assert_eq!(b.streams[&stream].window, INITIAL_WINDOW);
        saturate(&mut a, &mut b, stream);
    }
    drain(&mut b, quick);
    assert_eq!(b.streams[&quick].window, MAX_WINDOW);
    assert_eq!(b.streams[&stalled].window, INITIAL_WINDOW);
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
    while let Some(stream) = a.open(Bytes::new()) {
        sent += fill(&mut a, stream);
        while let Some(record) = a.replay().pop() {
            b.receive(record.concat().slice(1..), &mut events)
                .expect("in order");
        }
    }
    assert!(sent <= MAX_HELD + INITIAL_WINDOW, "{sent}");
    assert!(!a.has_room());
    a.replay().acknowledge(b.received()).expect("it was sent");
    assert!(a.open(Bytes::new()).is_some());
}

#[test]
fn little_waits_to_be_sent_on_a_long_line() {
    for (round_trip, most) in [(SHORT, MAX_WAITING), (LONG, FAR_WAITING)] {
        let (mut a, mut b) = pair();
        a.set_round_trip(round_trip);
        let streams: Vec<_> = (0..8).map(|_| open(&mut a, &mut b)).collect();
        for stream in streams {
            fill(&mut a, stream);
        }
        let waiting = a.replay().waiting();
        assert!(
            (most..most + INITIAL_WINDOW).contains(&waiting),
            "{waiting}"
        );
        assert_eq!(a.burst(), most);
    }
}

#[test]
fn a_flood_of_streams_is_reset_and_harms_no_other() {
    let (mut a, mut b) = pair();
    let first = open(&mut a, &mut b);
    for number in 1..=u32::try_from(4 * LIMIT).expect("small") {
        let id = StreamId(first.0 + 2 * number);
        forge(&mut b, id, &Frame::Open(Bytes::new())).expect("not against the rules");
    }
    assert_eq!(b.streams.len(), 1 + 2 * LIMIT);
    assert_eq!(a.write(first, HELLO), Write::Taken(5));
    while let Some(record) = a.replay().pop() {
        b.receive(record.concat().slice(1..), &mut Vec::new())
            .expect("in order");
    }
    assert_eq!(b.read(first), Read::Data(Bytes::from_static(HELLO)));
}

#[test]
fn a_peer_that_acknowledges_nothing_is_stopped() {
    let mut b = Mux::new(Side::Accepting, LIMIT);
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
        let mut mux = Mux::new(Side::Accepting, LIMIT);
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
        let mut mux = Mux::new(Side::Accepting, LIMIT);
        for record in records {
            let _ = mux.receive(Bytes::from(record), &mut Vec::new());
        }
    }

    /// Frames with plausible numbers reach further than random bytes.
    #[test]
    fn no_frames_make_it_panic(frames in proptest::collection::vec((0_u8..8, 0_u32..7, 0_usize..70_000), 0..60)) {
        let mut mux = Mux::new(Side::Connecting, LIMIT);
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

#[test]
fn long_bytes_are_taken_without_a_copy_and_short_ones_are_not_kept_alive() {
    let (mut a, mut b) = pair();
    let stream = open(&mut a, &mut b);
    let long = Bytes::from(vec![7; SHARE]);
    let mut rest = long.clone();
    assert_eq!(a.write_bytes(stream, &mut rest), Write::Taken(SHARE));
    assert!(rest.is_empty());
    let sent = a.replay().pop().expect("it waits to be sent");
    assert_eq!(sent.payload.as_ptr(), long.as_ptr());
    let mut record = sent.concat();
    record.advance(1);
    b.receive(record, &mut Vec::new()).expect("in order");
    assert_eq!(b.read(stream), Read::Data(long.clone()));

    let mut short = long.slice(..SHARE - 1);
    assert_eq!(a.write_bytes(stream, &mut short), Write::Taken(SHARE - 1));
    let sent = a.replay().pop().expect("it waits to be sent");
    assert!(sent.payload.is_empty());
}

#[test]
fn bytes_beyond_the_window_stay_with_the_writer() {
    let (mut a, mut b) = pair();
    let stream = open(&mut a, &mut b);
    let mut bytes = Bytes::from(vec![7; 2 * INITIAL_WINDOW]);
    while let Write::Taken(length) = a.write_bytes(stream, &mut bytes) {
        assert!(length > 0);
    }
    assert_eq!(bytes.len(), INITIAL_WINDOW);
    flow(&mut a, &mut b);
    assert_eq!(drain(&mut b, stream), INITIAL_WINDOW);
}
