//! Identifiers: short printable names for the things that sessions, nodes and locations own.
//!
//! A random identifier is 128 random bits, written as 22 characters of `0-9 A-Z a-z`: long enough never to be guessed or
//! met twice, short enough for a table column. Content is named by [`Digest`] instead.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Characters of a random identifier, in ascending ASCII order.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Length of a random identifier, in characters: 62^22 is just above 2^128.
pub const ID_LENGTH: usize = 22;

/// Text that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

fn random_text() -> String {
    let mut bits = u128::from_le_bytes(random_bytes());
    let mut text = [b'0'; ID_LENGTH];
    for place in text.iter_mut().rev() {
        // The remainder is below 62, so it fits.
        *place = ALPHABET[(bits % 62) as usize];
        bits /= 62;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

/// Bytes of the operating system's random number generator.
///
/// # Panics
///
/// When the operating system has no random numbers to give, which leaves nothing secure to go on with.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new identifier that nothing else has.
            #[must_use]
            pub fn random() -> Self {
                Self(random_text())
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                if is_id(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidId { text, expected: "an identifier of 22 letters and digits" })
                }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

random_id!(
    /// Names a container.
    ContainerId
);
random_id!(
    /// Names a process that runs in a container.
    ProcessId
);
random_id!(
    /// Names a client's session at a location.
    SessionId
);
random_id!(
    /// Names a node of a location.
    NodeId
);
random_id!(
    /// Names a user of a location.
    UserId
);

/// The SHA-256 of some content, written `sha256:` and 64 hexadecimal digits as in the OCI image specification.
///
/// A layer is named by the digest of its uncompressed tar (its *diff id*), an image by that of its configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(content).into())
    }

    /// The 64 hexadecimal digits, without the name of the algorithm: a file name.
    #[must_use]
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// The first 12 hexadecimal digits, as Docker shows image ids.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    /// Reads `sha256:HEX` or the bare hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            text: text.to_owned(),
            expected: "a SHA-256 digest (`sha256:` and 64 hexadecimal digits)",
        };
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() != 64
            || !hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ_and_parse_back() {
        let id = ContainerId::random();
        assert_ne!(id, ContainerId::random());
        assert_eq!(id.as_str().parse::<ContainerId>(), Ok(id.clone()));
        assert_eq!(id.as_str().len(), ID_LENGTH);
    }

    #[test]
    fn ids_that_could_be_paths_are_refused() {
        for text in [
            "",
            "..",
            "../../../../etc/passwd",
            "0123456789012345678901x",
            "012345678901234567890/",
        ] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn digest_of_known_content() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), text);
        assert_eq!(text.parse::<Digest>(), Ok(Digest::of(b"")));
        assert_eq!(text[7..].parse::<Digest>(), Ok(Digest::of(b"")));
    }

    #[test]
    fn malformed_digests_are_refused() {
        for text in [
            "",
            "sha256:",
            "sha256:xyz",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &"é".repeat(32),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
