//! Encryption: the Noise handshake on a connection, and the cipher that comes out of it.
//!
//! All connections begin with the same messages, and all of these are sealed. What the cipher is not used for are the records on
//! a connection within this process; [`memory`](super::memory) says why.

use std::io;

use bytes::{Bytes, BytesMut};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snow::{Builder, HandshakeState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::memory::Records;
use super::transport::Transport;
use crate::keys::{KEY_LENGTH, PublicKey, SecretKey};
use crate::protocol::control::{from_cbor, to_cbor};
use crate::protocol::handshake::{MAX_HANDSHAKE, NOISE, PROLOGUE};
use crate::protocol::record::MAX_RECORD;

/// Length of the number in front of each Noise message, in bytes.
pub(super) const PREFIX: usize = 2;

/// Length of the tag that authenticates a Noise message, in bytes.
pub(super) const TAG: usize = 16;

/// Both sides take a new key after so many messages in one direction. AES-GCM stays far from its limits with at most 64 GiB for
/// each key, and a key that leaks does not open what was sent under the one before.
const REKEY_AFTER: u64 = 1 << 20;

/// Why the handshake does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoiseError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(&'static str),
}

/// A connection in the middle of the handshake.
pub(super) struct Handshake {
    noise: HandshakeState,
    transport: Box<dyn Transport>,
}

impl Handshake {
    /// Begins as the side that connects to `location`.
    pub(super) fn connecting(
        transport: Box<dyn Transport>,
        identity: &SecretKey,
        location: &PublicKey,
    ) -> Self {
        let noise = builder(identity)
            .remote_public_key(location.as_bytes())
            .and_then(Builder::build_initiator)
            .expect("keys have the right length");
        Self::new(noise, transport)
    }

    /// Begins as the side that is connected to.
    pub(super) fn accepting(transport: Box<dyn Transport>, identity: &SecretKey) -> Self {
        let noise = builder(identity)
            .build_responder()
            .expect("keys have the right length");
        Self::new(noise, transport)
    }

    fn new(noise: HandshakeState, mut transport: Box<dyn Transport>) -> Self {
        if let Some(private) = transport.private() {
            private.show();
        }
        Self { noise, transport }
    }

    /// Sends the next message of the handshake.
    pub(super) async fn send<T: Serialize + ?Sized>(
        &mut self,
        payload: &T,
    ) -> Result<(), NoiseError> {
        let mut message = [0; PREFIX + MAX_HANDSHAKE];
        let length = self
            .noise
            .write_message(&to_cbor(payload), &mut message[PREFIX..])
            .map_err(|_| NoiseError::Malformed("the message cannot be written"))?;
        put_length(&mut message, length);
        self.transport
            .write_all(&message[..PREFIX + length])
            .await?;
        self.transport.flush().await?;
        Ok(())
    }

    /// Waits for the next message of the handshake.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, NoiseError> {
        let message = receive(&mut self.transport).await?;
        let mut payload = [0; MAX_HANDSHAKE];
        let length = self
            .noise
            .read_message(&message, &mut payload)
            .map_err(|_| NoiseError::Malformed("not encrypted to this key"))?;
        from_cbor(&payload[..length]).map_err(|_| NoiseError::Malformed("unknown content"))
    }

    /// Key of the peer, once its first message has come.
    pub(super) fn peer(&self) -> Option<PublicKey> {
        let key: [u8; KEY_LENGTH] = self.noise.get_remote_static()?.try_into().ok()?;
        Some(PublicKey::new(key))
    }

    /// The encrypted connection, when both messages have passed.
    pub(super) fn finish(mut self) -> Result<Sealed, NoiseError> {
        if !self.noise.is_handshake_finished() {
            return Err(NoiseError::Malformed("the handshake is not finished"));
        }
        let (of_initiator, of_responder) = self.noise.dangerously_get_raw_split();
        let (sending, receiving) = if self.noise.is_initiator() {
            (of_initiator, of_responder)
        } else {
            (of_responder, of_initiator)
        };
        Ok(Sealed {
            cipher: Cipher {
                sending: Direction::new(&sending),
                receiving: Direction::new(&receiving),
            },
            transport: self.transport,
        })
    }
}

fn builder(identity: &SecretKey) -> Builder<'_> {
    Builder::new(NOISE.parse().expect("the name of a Noise protocol"))
        .local_private_key(identity.as_bytes())
        .and_then(|builder| builder.prologue(PROLOGUE))
        .expect("each is set once")
}

/// Waits for a message behind its length, which is checked before anything is allocated.
async fn receive(transport: &mut Box<dyn Transport>) -> Result<Vec<u8>, NoiseError> {
    let length = usize::from(transport.read_u16().await?);
    if length > MAX_HANDSHAKE {
        return Err(NoiseError::Malformed("a first message that is too long"));
    }
    let mut message = vec![0; length];
    transport.read_exact(&mut message).await?;
    Ok(message)
}

fn put_length(message: &mut [u8], length: usize) {
    let length = u16::try_from(length).expect("a Noise message is shorter than 64 KiB");
    message[..PREFIX].copy_from_slice(&length.to_be_bytes());
}

/// An encrypted connection before its first record.
pub(super) struct Sealed {
    pub(super) cipher: Cipher,
    pub(super) transport: Box<dyn Transport>,
}

impl Sealed {
    /// The way of the records, if they do not go sealed over the transport.
    pub(super) fn records(&mut self) -> Option<Records> {
        // Both sides have sent a message by now.
        self.transport.private()?.records()
    }

    /// Sends one value.
    pub(super) async fn send<T: Serialize>(&mut self, value: &T) -> Result<(), NoiseError> {
        let message = self.cipher.seal_value(value);
        self.transport.write_all(&message).await?;
        self.transport.flush().await?;
        Ok(())
    }

    /// Waits for one value.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, NoiseError> {
        let message = receive(&mut self.transport).await?;
        let value = self
            .cipher
            .open(&message)
            .ok_or(NoiseError::Malformed("a forged message"))?;
        from_cbor(&value).map_err(|_| NoiseError::Malformed("unknown content"))
    }
}

/// Encrypts and decrypts messages after the handshake, each direction in order: the transport phase of Noise, on buffers in place.
pub(super) struct Cipher {
    sending: Direction,
    receiving: Direction,
}

impl Cipher {
    /// Length of a record of `length` bytes when it is sealed.
    pub(super) fn sealed_length(length: usize) -> usize {
        PREFIX + length + TAG
    }

    /// Seals a record of at most [`MAX_RECORD`] bytes, given in two parts, into the start of `out`, which has room for
    /// [`Cipher::sealed_length`].
    pub(super) fn seal(&mut self, head: &[u8], payload: &[u8], out: &mut [u8]) {
        let length = head.len() + payload.len();
        debug_assert!(length <= MAX_RECORD);
        put_length(out, length + TAG);
        let (record, tag) = out[PREFIX..][..length + TAG].split_at_mut(length);
        record[..head.len()].copy_from_slice(head);
        record[head.len()..].copy_from_slice(payload);
        tag.copy_from_slice(&self.sending.seal(record));
    }

    /// One value as a sealed message.
    pub(super) fn seal_value<T: Serialize>(&mut self, value: &T) -> Vec<u8> {
        let value = to_cbor(value);
        let mut message = vec![0; Self::sealed_length(value.len())];
        self.seal(&value, &[], &mut message);
        message
    }

    /// Opens a message, without its length; none if it is forged.
    pub(super) fn open(&mut self, message: &[u8]) -> Option<Bytes> {
        let mut record = BytesMut::from(message);
        let length = self.receiving.open(&mut record)?;
        record.truncate(length);
        Some(record.freeze())
    }
}

/// One direction of a connection: a key, and the number of the next message. No number is used twice with a key.
struct Direction {
    /// Half a kilobyte, with what AES-GCM prepares of a key.
    key: Box<LessSafeKey>,
    next: u64,
}

impl Direction {
    fn new(key: &[u8; KEY_LENGTH]) -> Self {
        let key = aead_key(key);
        Self { key, next: 0 }
    }

    /// Encrypts in place, and returns the tag.
    fn seal(&mut self, record: &mut [u8]) -> [u8; TAG] {
        let sealed = (self.key).seal_in_place_separate_tag(nonce(self.next), Aad::empty(), record);
        let tag = sealed.expect("a record is shorter than what AES-GCM seals");
        self.advance();
        tag.as_ref().try_into().expect("the tag of AES-GCM")
    }

    /// Decrypts in place, and returns the length of what was sealed; none if it is not what the peer sent next.
    fn open(&mut self, message: &mut [u8]) -> Option<usize> {
        let opened = (self.key).open_in_place(nonce(self.next), Aad::empty(), message);
        let length = opened.ok()?.len();
        self.advance();
        Some(length)
    }

    fn advance(&mut self) {
        // 2^64 messages take centuries.
        self.next += 1;
        if self.next.is_multiple_of(REKEY_AFTER) {
            // The number that Noise keeps for this.
            let mut key = [0; KEY_LENGTH];
            let sealed =
                (self.key).seal_in_place_separate_tag(nonce(u64::MAX), Aad::empty(), &mut key);
            let _tag = sealed.expect("a key is short");
            self.key = aead_key(&key);
        }
    }
}

fn aead_key(key: &[u8; KEY_LENGTH]) -> Box<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, key);
    Box::new(LessSafeKey::new(
        key.expect("the length of a key of AES-256"),
    ))
}

/// The number of a message as Noise gives it to AES-GCM.
fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryStream;
    use super::*;

    async fn pair() -> (Sealed, Sealed) {
        let (ours, theirs) = tokio::io::duplex(MAX_HANDSHAKE);
        shake(ours, theirs).await
    }

    async fn shake(ours: impl Transport, theirs: impl Transport) -> (Sealed, Sealed) {
        let (client, location) = (SecretKey::generate(), SecretKey::generate());
        let mut ours = Handshake::connecting(Box::new(ours), &client, &location.public());
        let mut theirs = Handshake::accepting(Box::new(theirs), &location);
        ours.send("hello").await.expect("it goes");
        assert_eq!(theirs.receive::<String>().await.expect("it comes"), "hello");
        assert_eq!(theirs.peer(), Some(client.public()));
        theirs.send("welcome").await.expect("it goes");
        assert_eq!(ours.receive::<String>().await.expect("it comes"), "welcome");
        (
            ours.finish().expect("both messages have passed"),
            theirs.finish().expect("both messages have passed"),
        )
    }

    #[tokio::test]
    async fn both_sides_take_new_keys_at_the_same_time() {
        let (mut ours, mut theirs) = pair().await;
        let mut message = [0; PREFIX + 1 + TAG];
        for number in 0..REKEY_AFTER + 10 {
            let byte = number.to_le_bytes()[0];
            ours.cipher.seal(&[byte], &[], &mut message);
            let record = theirs.cipher.open(&message[PREFIX..]);
            assert_eq!(record.as_deref(), Some(&[byte][..]), "{number}");
        }
    }

    #[test]
    fn messages_are_those_of_noise() {
        let (client, location) = (SecretKey::generate(), SecretKey::generate());
        let mut ours = builder(&client)
            .remote_public_key(location.public().as_bytes())
            .and_then(Builder::build_initiator)
            .expect("a client");
        let mut theirs = builder(&location).build_responder().expect("a location");
        let passed = |from: &mut HandshakeState, to: &mut HandshakeState| {
            let (mut message, mut payload) = ([0; MAX_HANDSHAKE], [0; MAX_HANDSHAKE]);
            let length = from
                .write_message(b"", &mut message)
                .expect("it is written");
            to.read_message(&message[..length], &mut payload)
                .expect("it is read");
        };
        passed(&mut ours, &mut theirs);
        passed(&mut theirs, &mut ours);
        let (sending, receiving) = ours.dangerously_get_raw_split();
        let mut ours = Cipher {
            sending: Direction::new(&sending),
            receiving: Direction::new(&receiving),
        };
        let mut theirs = theirs.into_transport_mode().expect("it is finished");

        let mut message = vec![0; Cipher::sealed_length(10)];
        let mut record = [0; 10];
        for _ in 0..2 {
            ours.seal(b"to ", b"theirs!", &mut message);
            let read = theirs.read_message(&message[PREFIX..], &mut record);
            assert_eq!(read.map_err(|_| ()), Ok(10));
            assert_eq!(&record, b"to theirs!");
            let written = theirs.write_message(b"and to us!", &mut message);
            let opened = ours.open(&message[..written.expect("it is written")]);
            assert_eq!(opened.as_deref(), Some(&b"and to us!"[..]));
        }

        // New keys, too, are those that Noise makes.
        ours.sending.next = REKEY_AFTER - 1;
        theirs.set_receiving_nonce(REKEY_AFTER - 1);
        ours.seal(b"the last", b"", &mut message);
        let sealed = &message[PREFIX..Cipher::sealed_length(8)];
        assert!(theirs.read_message(sealed, &mut record).is_ok());
        theirs.rekey_incoming();
        ours.seal(b"of a new", b"", &mut message);
        let sealed = &message[PREFIX..Cipher::sealed_length(8)];
        assert!(theirs.read_message(sealed, &mut record).is_ok());
    }

    #[tokio::test]
    async fn messages_count_once_and_in_order() {
        let (mut ours, mut theirs) = pair().await;
        let mut messages = [[0; PREFIX + 1 + TAG]; 2];
        for message in &mut messages {
            ours.cipher.seal(b"x", b"", message);
        }
        assert_eq!(theirs.cipher.open(&messages[1][PREFIX..]), None);
        assert!(theirs.cipher.open(&messages[0][PREFIX..]).is_some());
        assert_eq!(theirs.cipher.open(&messages[0][PREFIX..]), None);
        assert!(theirs.cipher.open(&messages[1][PREFIX..]).is_some());
        assert_eq!(ours.cipher.open(&messages[0][PREFIX..]), None);
    }

    #[tokio::test]
    async fn records_are_sealed_unless_both_ends_are_within_the_process() {
        let within = MemoryStream::pair;
        let (bare, ours_wrapped, theirs_wrapped) = (within(), within(), within());
        for ((mut ours, mut theirs), expected) in [
            (shake(bare.0, bare.1).await, false),
            (shake(ours_wrapped.0.bytes, ours_wrapped.1).await, true),
            (shake(theirs_wrapped.0, theirs_wrapped.1.bytes).await, true),
            (pair().await, true),
        ] {
            let sealed = (ours.records().is_none(), theirs.records().is_none());
            assert_eq!(sealed, (expected, expected));
        }
    }

    #[tokio::test]
    async fn what_starts_a_session_is_sealed_within_the_process_too() {
        let (ours, theirs) = MemoryStream::pair();
        let (mut ours, mut theirs) = shake(ours, theirs).await;
        ours.send(&"begin").await.expect("it goes");
        let begun: String = theirs.receive().await.expect("it comes");
        assert_eq!(begun, "begin");
        let value = to_cbor("begin and what makes it as long as a seal");
        let length = value.len().to_be_bytes();
        let plain = [&length[length.len() - PREFIX..], &value[..]].concat();
        ours.transport.write_all(&plain).await.expect("it goes");
        let refused = theirs.receive::<String>().await;
        let refused = refused.expect_err("it may be anybody's");
        assert_eq!(refused.to_string(), "a forged message");
    }
}
