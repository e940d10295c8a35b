//! Records and frames of a peer that may send anything, into a session in any state.
//!
//! The bytes are a program: one says what happens next, further ones are its arguments.

use bytes::Bytes;
use tfnz::protocol::chunks::Decoder;
use tfnz::protocol::chunks::Header as ChunkHeader;
use tfnz::protocol::frame::{Frame, StreamId};
use tfnz::protocol::mux::{Event, MAX_HELD, Mux, Side};
use tfnz::protocol::record::{MAX_RECORD, Record};

/// Streams that a side may open: few, so that the limit is met.
const LIMIT: usize = 4;

/// Runs the program.
pub fn run(data: &[u8]) {
    chunks(data);
    let mut data = Bytes::copy_from_slice(data);
    let side = match take(&mut data, 1).first() {
        Some(byte) if byte % 2 == 0 => Side::Connecting,
        _ => Side::Accepting,
    };
    let mut mux = Mux::new(side, LIMIT);
    let mut events = Vec::new();
    while !data.is_empty() {
        let what = take(&mut data, 1)[0];
        let stream = StreamId(u32::from(what >> 4));
        match what & 0x0f {
            // The peer is heard most.
            0..8 => {
                let length = usize::from(take(&mut data, 1).first().copied().unwrap_or_default());
                let bytes = take(&mut data, length);
                if peer(&mut mux, bytes, &mut events).is_none() {
                    // The session ends with the first thing that breaks the rules.
                    return;
                }
            }
            8 => {
                mux.open(take(&mut data, 3));
            }
            9 => {
                let length =
                    1 + usize::from(take(&mut data, 1).first().copied().unwrap_or_default()) * 300;
                mux.write(stream, &vec![7; length]);
            }
            10 => {
                mux.read(stream);
            }
            11 => mux.finish(stream),
            // The control stream is never let go.
            12 if stream.0 != 0 => mux.abandon(stream),
            13 if stream.0 != 0 => mux.reset(stream),
            14 => while mux.replay().pop().is_some() {},
            _ => {
                let received = u64::from(what >> 4);
                let _ = mux.replay().rewind(received);
            }
        }
        let held = mux.replay().held();
        assert!(held <= 3 * MAX_HELD, "{held} bytes are held");
    }
}

/// One record of the peer. None if it breaks the rules.
fn peer(mux: &mut Mux, bytes: Bytes, events: &mut Vec<Event>) -> Option<()> {
    assert!(bytes.len() <= MAX_RECORD);
    let record = Record::decode(bytes.clone()).ok()?;
    assert_eq!(record.encode(), bytes, "records have one form");
    match record {
        Record::Data(frames) => {
            rewritten(frames.clone());
            mux.receive(frames, events).ok()?;
        }
        Record::Ack(received) | Record::Ping(received) | Record::Pong(received) => {
            mux.replay().acknowledge(received).ok()?;
        }
        Record::Close => {}
    }
    events.clear();
    Some(())
}

/// Frames have one form, too.
fn rewritten(whole: Bytes) {
    let mut frames = whole.clone().into();
    let mut again = Vec::new();
    while let Ok((stream, frame)) = Frame::decode(&mut frames) {
        let (header, payload) = frame.encode(stream);
        again.extend_from_slice(&header);
        again.extend_from_slice(&payload);
    }
    assert!(whole.starts_with(&again), "frames have one form");
}

/// Compressed parts of a layer, as they travel.
fn chunks(mut data: &[u8]) {
    let Ok(mut decoder) = Decoder::new() else {
        return;
    };
    let mut content = Vec::new();
    while let Some((header, rest)) = data.split_first_chunk() {
        let Ok(Some(header)) = ChunkHeader::parse(*header) else {
            return;
        };
        let (frame, rest) = rest.split_at(header.frame_length().min(rest.len()));
        if decoder.decode(header, frame, &mut content).is_ok() {
            assert_eq!(content.len(), header.content_length());
        } else {
            assert!(content.is_empty());
        }
        data = rest;
    }
}

fn take(data: &mut Bytes, length: usize) -> Bytes {
    data.split_to(length.min(data.len()))
}

/// Sessions to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let record = |frames: &[(u32, Frame)]| {
        let mut bytes = vec![0];
        for (stream, frame) in frames {
            let (header, payload) = frame.encode(StreamId(*stream));
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(&payload);
        }
        let length = u8::try_from(bytes.len()).expect("seeds are short");
        [vec![0, length], bytes].concat()
    };
    let data = |text: &'static str| Frame::Data(Bytes::from_static(text.as_bytes()));
    let open = || Frame::Open(Bytes::from_static(b"tunnel"));
    let mut chunk = Vec::new();
    let encoded = tfnz::protocol::chunks::Encoder::new()
        .and_then(|mut encoder| encoder.encode(b"part of a layer", &mut chunk));
    assert!(encoded.is_ok());
    vec![
        // The peer opens two streams, sends, and ends them in two ways; this side reads and answers.
        [
            vec![1],
            record(&[(1, open()), (1, data("hello"))]),
            vec![0x1a, 0x19, 1, 0x1b, 0x0e],
            record(&[
                (3, open()),
                (3, Frame::Blocked),
                (3, Frame::Window(7)),
                (3, Frame::Reset),
            ]),
            record(&[(1, Frame::Fin)]),
            vec![0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 1],
            vec![0x1c, 0x3c],
        ]
        .concat(),
        // This side opens streams, one more than it may, and gives one up.
        [
            vec![
                0, 0x08, 1, 2, 3, 0x08, 1, 2, 3, 0x08, 1, 2, 3, 0x08, 1, 2, 3, 0x08, 1, 2, 3,
            ],
            vec![0x19, 255, 0x0e, 0x1d],
            record(&[(3, Frame::Stop), (0, data("message"))]),
            vec![0x0a, 0x0f],
        ]
        .concat(),
        chunk,
    ]
}
