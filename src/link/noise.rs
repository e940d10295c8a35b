//! Encryption: the Noise handshake on a connection, and the cipher that comes out of it.

use std::io;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snow::{Builder, HandshakeState, TransportState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        Self { noise, transport }
    }

    /// Begins as the side that is connected to.
    pub(super) fn accepting(transport: Box<dyn Transport>, identity: &SecretKey) -> Self {
        let noise = builder(identity)
            .build_responder()
            .expect("keys have the right length");
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
    pub(super) fn finish(self) -> Result<Sealed, NoiseError> {
        let noise = self
            .noise
            .into_transport_mode()
            .map_err(|_| NoiseError::Malformed("the handshake is not finished"))?;
        Ok(Sealed {
            cipher: Cipher::new(noise),
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

/// Encrypts and decrypts messages after the handshake, each direction in order.
pub(super) struct Cipher {
    noise: TransportState,
}

impl Cipher {
    fn new(noise: TransportState) -> Self {
        Self { noise }
    }

    /// Length of a record of `length` bytes when it is sealed.
    pub(super) fn sealed_length(length: usize) -> usize {
        PREFIX + length + TAG
    }

    /// Seals a record of at most [`MAX_RECORD`] bytes into the start of `out`, which has room for [`Cipher::sealed_length`].
    pub(super) fn seal(&mut self, record: &[u8], out: &mut [u8]) {
        debug_assert!(record.len() <= MAX_RECORD);
        let length = self
            .noise
            .write_message(record, &mut out[PREFIX..])
            .expect("a record fits, and 2^64 of them take centuries");
        put_length(out, length);
        if self.noise.sending_nonce().is_multiple_of(REKEY_AFTER) {
            self.noise.rekey_outgoing();
        }
    }

    /// One value as a sealed message.
    pub(super) fn seal_value<T: Serialize>(&mut self, value: &T) -> Vec<u8> {
        let value = to_cbor(value);
        let mut message = vec![0; Self::sealed_length(value.len())];
        self.seal(&value, &mut message);
        message
    }

    /// Opens a message, without its length; none if it is forged.
    pub(super) fn open(&mut self, message: &[u8]) -> Option<Bytes> {
        let mut record = BytesMut::zeroed(message.len());
        let length = self.noise.read_message(message, &mut record).ok()?;
        record.truncate(length);
        if self.noise.receiving_nonce().is_multiple_of(REKEY_AFTER) {
            self.noise.rekey_incoming();
        }
        Some(record.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair() -> (Sealed, Sealed) {
        let (client, location) = (SecretKey::generate(), SecretKey::generate());
        let (ours, theirs) = tokio::io::duplex(MAX_HANDSHAKE);
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
            ours.cipher.seal(&[byte], &mut message);
            let record = theirs.cipher.open(&message[PREFIX..]);
            assert_eq!(record.as_deref(), Some(&[byte][..]), "{number}");
        }
    }

    #[tokio::test]
    async fn messages_count_once_and_in_order() {
        let (mut ours, mut theirs) = pair().await;
        let mut messages = [[0; PREFIX + 1 + TAG]; 2];
        for message in &mut messages {
            ours.cipher.seal(b"x", message);
        }
        assert_eq!(theirs.cipher.open(&messages[1][PREFIX..]), None);
        assert!(theirs.cipher.open(&messages[0][PREFIX..]).is_some());
        assert_eq!(theirs.cipher.open(&messages[0][PREFIX..]), None);
        assert!(theirs.cipher.open(&messages[1][PREFIX..]).is_some());
        assert_eq!(ours.cipher.open(&messages[0][PREFIX..]), None);
    }
}
