//! Frames: what DATA records carry for the streams of a session.
//!
//! ```text
//! [kind u8][length u24][stream u32][payload: length bytes]
//!
//! DATA     00  bytes          bytes of a stream, within the window that the receiver has granted
//! WINDOW   01  credit u32     the receiver grants so many bytes more
//! OPEN     02  header         the peer opens a stream; the header says what it carries
//! FIN      03                 the sender has nothing more to send in this stream
//! RESET    04                 the sender gives the stream up, both ways; what has not been read is void
//! STOP     05                 the sender reads this stream no more; what it has sent stays valid
//! BLOCKED  06                 the sender has more to send than the window allows
//! ```
//!
//! All numbers are big-endian. A frame lies within one record. Stream 0 is the control stream and always open. The connecting
//! side opens streams with odd numbers, the accepting side those with even ones, each ascending and never again.

use bytes::{Buf, Bytes};

use super::record::{MAX_RECORD, Violation};
use super::replay::Parts;

/// Length of a frame without its payload, in bytes.
pub const FRAME_HEADER: usize = 8;

/// Longest payload of a frame, in bytes: that of a frame which fills a record.
pub const MAX_PAYLOAD: usize = MAX_RECORD - 1 - FRAME_HEADER;

/// Longest header of a stream, in bytes.
pub const MAX_STREAM_HEADER: usize = 32 * 1024;

const DATA: u8 = 0;
const WINDOW: u8 = 1;
const OPEN: u8 = 2;
const FIN: u8 = 3;
const RESET: u8 = 4;
const STOP: u8 = 5;
const BLOCKED: u8 = 6;

/// Number of a stream within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// The stream that carries messages.
pub const CONTROL: StreamId = StreamId(0);

/// What a frame says about its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of the stream.
    Data(Bytes),
    /// The receiver grants so many bytes more.
    Window(u32),
    /// The peer opens the stream, with this header.
    Open(Bytes),
    /// The sender has nothing more to send.
    Fin,
    /// The sender gives the stream up.
    Reset,
    /// The sender reads no more.
    Stop,
    /// The sender waits for a larger window.
    Blocked,
}

impl Frame {
    /// Takes the first frame off a record.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn decode(record: &mut Parts) -> Result<(StreamId, Self), Violation> {
        let Parts { head, payload } = record;
        if head.len() < FRAME_HEADER {
            return Err(Violation("a truncated frame"));
        }
        let first = head.get_u32();
        let stream = StreamId(head.get_u32());
        let length = (first & 0x00ff_ffff) as usize;
        // That of the last frame may be apart.
        let from = if head.is_empty() { payload } else { head };
        if from.len() < length {
            return Err(Violation("a frame longer than its record"));
        }
        let mut payload = from.split_to(length);
        let kind = first.to_be_bytes()[0];
        let frame = match (kind, length) {
            (DATA, _) => Self::Data(payload),
            (OPEN, 0..=MAX_STREAM_HEADER) => Self::Open(payload),
            (WINDOW, 4) => Self::Window(payload.get_u32()),
            (FIN, 0) => Self::Fin,
            (RESET, 0) => Self::Reset,
            (STOP, 0) => Self::Stop,
            (BLOCKED, 0) => Self::Blocked,
            _ => return Err(Violation("a frame of unknown kind or wrong length")),
        };
        Ok((stream, frame))
    }

    /// The header of the frame for `stream`, and its payload.
    ///
    /// # Panics
    ///
    /// When the payload does not fit into a record, which is up to the caller.
    #[must_use]
    pub fn encode(&self, stream: StreamId) -> ([u8; FRAME_HEADER], Bytes) {
        let (kind, payload) = match self {
            Self::Data(bytes) => (DATA, bytes.clone()),
            Self::Open(header) => (OPEN, header.clone()),
            Self::Window(credit) => (WINDOW, Bytes::copy_from_slice(&credit.to_be_bytes())),
            Self::Fin => (FIN, Bytes::new()),
            Self::Reset => (RESET, Bytes::new()),
            Self::Stop => (STOP, Bytes::new()),
            Self::Blocked => (BLOCKED, Bytes::new()),
        };
        (header(kind, payload.len(), stream), payload)
    }

    /// The header of a frame with `length` bytes of `stream`, for a payload that is written in place.
    ///
    /// # Panics
    ///
    /// When the payload does not fit into a record, which is up to the caller.
    #[must_use]
    pub fn data_header(length: usize, stream: StreamId) -> [u8; FRAME_HEADER] {
        header(DATA, length, stream)
    }
}

fn header(kind: u8, length: usize, stream: StreamId) -> [u8; FRAME_HEADER] {
    assert!(length <= MAX_PAYLOAD, "the payload fits into a record");
    let length = u32::try_from(length).expect("a record is shorter than 64 KiB");
    let first = u32::from(kind) << 24 | length;
    (u64::from(first) << 32 | u64::from(stream.0)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(frame: &Frame, stream: StreamId) -> Bytes {
        let (header, payload) = frame.encode(stream);
        [&header[..], &payload].concat().into()
    }

    #[test]
    fn frames_survive_their_bytes() {
        for frame in [
            Frame::Data(Bytes::from_static(b"data")),
            Frame::Data(vec![7; MAX_PAYLOAD].into()),
            Frame::Window(u32::MAX),
            Frame::Open(Bytes::from_static(b"header")),
            Frame::Fin,
            Frame::Reset,
            Frame::Stop,
            Frame::Blocked,
        ] {
            let stream = StreamId(0xdead_beef);
            let (header, payload) = frame.encode(stream);
            let head = Bytes::copy_from_slice(&header);
            for mut record in [bytes(&frame, stream).into(), Parts { head, payload }] {
                assert_eq!(Frame::decode(&mut record), Ok((stream, frame.clone())));
                assert_eq!(record.len(), 0);
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [
            &[0, 0, 0, 0, 0, 0, 0][..],
            // One byte announced, none there.
            &[0, 0, 0, 1, 0, 0, 0, 0],
            &[0, 255, 255, 255, 0, 0, 0, 0, 1],
            // An unknown kind, a credit of two bytes, a FIN with a payload.
            &[7, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 2, 0, 0, 0, 0, 1, 1],
            &[3, 0, 0, 1, 0, 0, 0, 0, 1],
        ] {
            let mut record = Bytes::copy_from_slice(bytes).into();
            assert!(Frame::decode(&mut record).is_err(), "{bytes:?}");
        }
    }
}
