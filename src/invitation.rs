//! Invitations: one string to hand over, with everything that somebody needs to join a location.
//!
//! It holds where the location is, which key it will prove, and a token that works once. Whoever has it can join in the
//! invited one's place, so it is handed over like a password; nobody who has it can pose as the location.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::ids::random_bytes;
use crate::keys::PublicKey;

/// What an invitation's text begins with.
const PREFIX: &str = "20ft-";

/// Longest text that is looked at, in bytes.
const MAX_LENGTH: usize = 4096;

/// Everything that is needed to join a location.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Name of the location, for the user's files.
    #[serde(rename = "n")]
    pub name: String,
    /// Where it is: `host:port`.
    #[serde(rename = "a")]
    pub address: String,
    /// The key that it proves.
    #[serde(rename = "k")]
    pub location: PublicKey,
    /// What lets the bearer in, once.
    #[serde(rename = "t")]
    pub token: String,
    /// Whether it is for a machine that is to be a node, rather than for a user.
    #[serde(rename = "m", default, skip_serializing_if = "std::ops::Not::not")]
    pub node: bool,
}

/// Text that is not an invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an invitation: expected the whole line that `tf location invite` has printed, beginning with `{PREFIX}`"
)]
pub struct InvalidInvitation;

impl Invitation {
    /// A new token: 128 random bits, as text.
    #[must_use]
    pub fn new_token() -> String {
        URL_SAFE_NO_PAD.encode(random_bytes::<16>())
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation(to {} at {})", self.name, self.address)
    }
}

impl FromStr for Invitation {
    type Err = InvalidInvitation;

    /// Reads an invitation; white space around it or, from a mail program, within it does not matter.
    fn from_str(text: &str) -> Result<Self, InvalidInvitation> {
        if text.len() > MAX_LENGTH {
            return Err(InvalidInvitation);
        }
        let text: String = text.split_whitespace().collect();
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidInvitation)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| InvalidInvitation)?;
        let invitation: Self =
            ciborium::from_reader(bytes.as_slice()).map_err(|_| InvalidInvitation)?;
        // The name becomes a file's name.
        let named = !invitation.name.is_empty()
            && !invitation.name.starts_with('.')
            && invitation
                .name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if named {
            Ok(invitation)
        } else {
            Err(InvalidInvitation)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    fn invitation(name: &str) -> Invitation {
        Invitation {
            name: name.to_owned(),
            address: "server.example:5555".to_owned(),
            location: SecretKey::generate().public(),
            token: Invitation::new_token(),
            node: false,
        }
    }

    #[test]
    fn an_invitation_is_one_line_that_parses_back() {
        let invitation = invitation("server.example");
        let text = invitation.to_string();
        assert!(
            text.starts_with(PREFIX) && !text.contains(char::is_whitespace),
            "{text}"
        );
        assert_eq!(text.parse(), Ok(invitation.clone()));
        let (start, end) = text.split_at(40);
        assert_eq!(format!("  {start}\r\n{end}\n").parse(), Ok(invitation));
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        for name in ["", "..", "../x", "a/b", ".ssh", "a b"] {
            assert_eq!(
                invitation(name).to_string().parse::<Invitation>(),
                Err(InvalidInvitation),
                "{name}"
            );
        }
    }

    #[test]
    fn garbage_is_refused() {
        for text in [
            "",
            PREFIX,
            "20ft-AAAA",
            "20ft-!!!!",
            &format!("{PREFIX}{}", "A".repeat(1 << 16)),
        ] {
            assert_eq!(text.parse::<Invitation>(), Err(InvalidInvitation));
        }
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let invitation = invitation("x");
        assert!(!format!("{invitation:?}").contains(&invitation.token));
    }
}
