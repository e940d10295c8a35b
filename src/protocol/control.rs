//! Messages on the control stream.
//!
//! ```text
//! [length of the body u32][kind u16][id u32][body: CBOR]
//!
//! call     kind of the call      id chosen by the caller, never 0
//! notice   kind of the notice    id 0
//! reply    kind 0                id of the call    body: what the call returns
//! fault    kind 65535            id of the call    body: a Fault
//! ```
//!
//! All numbers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::Violation;

/// Kind of a message that answers a call.
pub const REPLY: u16 = 0;

/// Kind of a message that says why a call failed.
pub const FAULT: u16 = u16::MAX;

/// Id of messages that nobody answers.
pub const NO_ID: u32 = 0;

/// Longest body of a message, in bytes. Files that are to be in place when a container starts travel in one message.
pub const MAX_BODY: usize = 64 * 1024 * 1024;

const HEADER: usize = 10;

/// Bodies up to this length, in bytes, are allocated when they are announced; longer ones grow as they arrive.
const ALLOCATE: usize = 64 * 1024;

/// A message whose body has not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Number of the message, or [`REPLY`] or [`FAULT`].
    pub kind: u16,
    /// Ties a reply to its call.
    pub id: u32,
    /// CBOR.
    pub body: Bytes,
}

impl Message {
    /// The message as it travels.
    ///
    /// # Panics
    ///
    /// When the body is longer than 4 GiB; the peer takes none that is longer than [`MAX_BODY`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER + self.body.len());
        bytes.put_u32(u32::try_from(self.body.len()).expect("a body is at most `MAX_BODY` long"));
        bytes.put_u16(self.kind);
        bytes.put_u32(self.id);
        bytes.put_slice(&self.body);
        bytes.freeze()
    }
}

/// Puts messages together from the bytes of the control stream.
#[derive(Debug, Default)]
pub struct Assembler {
    header: BytesMut,
    body: BytesMut,
}

impl Assembler {
    /// Takes bytes off `bytes`, and returns a message once it is complete; none when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When a message is announced that is longer than [`MAX_BODY`]. Nothing has been allocated for it.
    pub fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Message>, Violation> {
        let missing = HEADER - self.header.len();
        self.header
            .extend_from_slice(&bytes.split_to(missing.min(bytes.len())));
        if self.header.len() < HEADER {
            return Ok(None);
        }
        let mut header = &self.header[..];
        let length = header.get_u32() as usize;
        if length > MAX_BODY {
            return Err(Violation("a message that is too long"));
        }
        let (kind, id) = (header.get_u16(), header.get_u32());
        let missing = length - self.body.len();
        let part = bytes.split_to(missing.min(bytes.len()));
        if part.len() < length || !self.body.is_empty() {
            if self.body.is_empty() {
                self.body.reserve(length.min(ALLOCATE));
            }
            self.body.extend_from_slice(&part);
            if self.body.len() < length {
                return Ok(None);
            }
        }
        self.header = BytesMut::new();
        let body = if self.body.is_empty() {
            part
        } else {
            std::mem::take(&mut self.body).freeze()
        };
        Ok(Some(Message { kind, id, body }))
    }
}

/// A value in CBOR.
///
/// # Panics
///
/// When the value cannot be expressed in CBOR, which holds for no message.
#[must_use]
pub fn to_cbor<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("messages can be expressed in CBOR");
    bytes.into()
}

/// A value out of CBOR.
///
/// # Errors
///
/// What is wrong with the bytes, in words.
pub fn from_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    ciborium::from_reader(bytes).map_err(|error| match error {
        // The reader is a slice, so that its only error is that it ends.
        ciborium::de::Error::Io(_) => "it ends too early".to_owned(),
        ciborium::de::Error::Syntax(at) => format!("no CBOR at byte {at}"),
        ciborium::de::Error::Semantic(_, problem) => problem,
        ciborium::de::Error::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_arrive_however_they_are_cut(
            bodies in proptest::collection::vec((any::<u16>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..300)), 1..8),
            cut in 1_usize..100,
        ) {
            let sent: Vec<_> = bodies.into_iter()
                .map(|(kind, id, body)| Message { kind, id, body: body.into() })
                .collect();
            let bytes: Vec<u8> = sent.iter().flat_map(Message::encode).collect();
            let mut assembler = Assembler::default();
            let mut received = Vec::new();
            for part in bytes.chunks(cut) {
                let mut part = Bytes::copy_from_slice(part);
                while let Some(message) = assembler.take(&mut part).expect("all are short") {
                    received.push(message);
                }
                prop_assert!(part.is_empty());
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = Bytes::from(bytes);
            let mut assembler = Assembler::default();
            while let Ok(Some(_)) = assembler.take(&mut bytes) {}
        }
    }

    #[test]
    fn an_announcement_allocates_little() {
        let mut assembler = Assembler::default();
        let mut announced = Bytes::from_static(&[4, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(assembler.take(&mut announced), Ok(None));
        assert!(assembler.body.capacity() <= ALLOCATE);
        let mut assembler = Assembler::default();
        let mut too_long = Bytes::from_static(&[4, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        assert!(assembler.take(&mut too_long).is_err());
    }
}
