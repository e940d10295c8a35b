//! Records: what one encrypted message carries.
//!
//! ```text
//! DATA   00  frames              the next part of the session's frames, counted: the first one is number 0
//! ACK    01  received u64        how many DATA records have arrived, over all connections of the session
//! PING   02  received u64        are you there? also acknowledges
//! PONG   03  received u64        answers PING, also acknowledges
//! CLOSE  04                      the session ends here, on purpose
//! ```
//!
//! All numbers are big-endian. DATA is the only record that survives a lost connection: what has not been acknowledged is
//! sent again on the next one, with the same boundaries. The others belong to the connection they travel on.

use bytes::{Buf, Bytes};

/// Longest record, in bytes: a Noise message without its authentication tag.
pub const MAX_RECORD: usize = 65535 - 16;

/// First byte of a DATA record.
pub const DATA: u8 = 0;
const ACK: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;
const CLOSE: u8 = 4;

/// What the peer must not send. The link ends, since what comes after it has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Frames of the session.
    Data(Bytes),
    /// So many DATA records have arrived.
    Ack(u64),
    /// Asks for [`Record::Pong`]; so many DATA records have arrived.
    Ping(u64),
    /// Answers [`Record::Ping`]; so many DATA records have arrived.
    Pong(u64),
    /// The session ends.
    Close,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Violation> {
        if bytes.is_empty() {
            return Err(Violation("an empty record"));
        }
        let kind = bytes.get_u8();
        if kind == DATA {
            return Ok(Self::Data(bytes));
        }
        if kind == CLOSE && bytes.is_empty() {
            return Ok(Self::Close);
        }
        let counted = match kind {
            ACK => Self::Ack,
            PING => Self::Ping,
            PONG => Self::Pong,
            _ => return Err(Violation("a record of unknown kind")),
        };
        if bytes.len() == 8 {
            Ok(counted(bytes.get_u64()))
        } else {
            Err(Violation("a record of the wrong length"))
        }
    }

    /// The record as it travels.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, received) = match self {
            Self::Data(frames) => return [&[DATA], &frames[..]].concat().into(),
            Self::Close => return Bytes::from_static(&[CLOSE]),
            Self::Ack(received) => (ACK, received),
            Self::Ping(received) => (PING, received),
            Self::Pong(received) => (PONG, received),
        };
        [&[kind], &received.to_be_bytes()[..]].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_their_bytes() {
        for record in [
            Record::Data(Bytes::from_static(b"frames")),
            Record::Data(Bytes::new()),
            Record::Ack(7),
            Record::Ping(u64::MAX),
            Record::Pong(0),
            Record::Close,
        ] {
            assert_eq!(Record::decode(record.encode()), Ok(record));
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bytes in [&[][..], &[5], &[255; 9], &[1, 0], &[2; 10], &[4, 0]] {
            assert!(
                Record::decode(Bytes::copy_from_slice(bytes)).is_err(),
                "{bytes:?}"
            );
        }
    }
}
