//! Keys: who a client, a location or a node is.
//!
//! A key is 32 bytes of X25519, written in base64 as `WireGuard` writes them. Knowledge of a public key is all the trust that
//! two sides need; nothing here knows of files or connections.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use x25519_dalek::StaticSecret;

use crate::ids::random_bytes;

/// Length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// Text that is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected base64 of {KEY_LENGTH} bytes, which is 44 characters")]
pub struct InvalidKey;

/// The secret half of a key pair. `Debug` does not show it, and it is wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretKey(StaticSecret);

impl SecretKey {
    /// A new key.
    ///
    /// # Panics
    ///
    /// When the operating system has no random numbers to give.
    #[must_use]
    pub fn generate() -> Self {
        Self(StaticSecret::from(random_bytes::<KEY_LENGTH>()))
    }

    /// The half that others may know.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// The key as text, for the file that it is kept in.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }

    /// Reads what [`SecretKey::to_base64`] has written; white space around it does not matter.
    ///
    /// # Errors
    ///
    /// When the text is no key. The error does not repeat it.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(|bytes| Self(StaticSecret::from(bytes)))
    }

    /// The bytes, for the handshake.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// The public half of a key pair: the name under which a peer is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; KEY_LENGTH]);

impl PublicKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(Self)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

fn decode(text: &str) -> Result<[u8; KEY_LENGTH], InvalidKey> {
    let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?;
    bytes.try_into().map_err(|_| InvalidKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_text() {
        let secret = SecretKey::generate();
        let again = SecretKey::from_base64(&format!("{}\n", secret.to_base64())).expect("valid");
        assert_eq!(again.public(), secret.public());
        let public: PublicKey = secret.public().to_string().parse().expect("valid");
        assert_eq!(public, secret.public());
        assert_ne!(public, SecretKey::generate().public());
    }

    /// Alice's key pair of RFC 7748, section 6.1.
    #[test]
    fn the_public_key_is_that_of_x25519() {
        let secret = SecretKey::from_base64("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=");
        let public = secret.expect("valid").public().to_string();
        assert_eq!(public, "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let secret = SecretKey::generate();
        assert!(!format!("{secret:?}").contains(&secret.to_base64()));
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        for text in [
            "",
            "AAAA",
            "not base64!",
            &"A".repeat(44),
            &"A".repeat(1 << 16),
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }
}
