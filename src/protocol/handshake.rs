//! How a connection begins: who speaks, in which version, and whether it starts a session or continues one.
//!
//! ```text
//! client                                                     location
//!   │── Noise IK, first message: Hello ─────────────────────────▶│  unknown key: the connection ends without a word
//!   │◀─ Noise IK, second message: Welcome ───────────────────────│
//!   │── Begin (new session, or which one to continue) ──────────▶│  the first that cannot be a recording
//!   │◀─ Answer (started, resumed, refused) ──────────────────────│
//!   │◀════════════════════════ records ═════════════════════════▶│
//! ```
//!
//! Each arrow is a Noise message behind its length (u16, big-endian); what is in it is CBOR. The first message of `IK` can be
//! recorded and sent again by somebody else, who then cannot go on: nothing takes effect before `Begin`. Someone who steals the
//! location's secret key later can read recorded `Hello`s, and nothing else.

use serde::{Deserialize, Serialize};

use crate::ids::SessionId;

/// Version of the protocol that this program speaks. The peers speak the lower one of theirs, if the other still can.
pub const VERSION: u16 = 1;

/// Lowest version that this program still speaks.
pub const OLDEST_VERSION: u16 = 1;

/// The Noise protocol in use.
pub const NOISE: &str = "Noise_IK_25519_AESGCM_SHA256";

/// Bound into the handshake, so that keys used here cannot be made to talk another protocol.
pub const PROLOGUE: &[u8] = b"tfnz link";

/// Longest message of the handshake, in bytes.
pub const MAX_HANDSHAKE: usize = 2048;

/// Longest `token` and `agent`, in bytes.
pub const MAX_TEXT: usize = 256;

/// What the connecting side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A program that uses the SDK.
    Client,
    /// A machine that runs containers.
    Node,
}

/// The connecting side's first words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Highest version that it speaks.
    pub version: u16,
    /// What it is.
    pub role: Role,
    /// The token of an invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The accepting side's first words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Version to speak from here on; lower than the lowest that the other side speaks if there is none in common.
    pub version: u16,
}

/// What the connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// A new session.
    New {
        /// Name and version of the program.
        agent: String,
        /// For how many seconds the session should wait for a lost connection to come back. The answer says for how many it
        /// does; without a wish it is up to the accepting side.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        linger: Option<u32>,
    },
    /// The continuation of a session.
    Resume {
        /// Which one.
        session: SessionId,
        /// Shows that this is who started it.
        ticket: Ticket,
        /// DATA records that have arrived at the connecting side.
        received: u64,
    },
}

/// Answer to [`Begin`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The session has begun.
    Started {
        /// Its name.
        session: SessionId,
        /// What the ticket for its continuation must show.
        #[serde(with = "serde_bytes")]
        secret: [u8; 16],
        /// For how many seconds it waits for a lost connection to come back. With 0 it ends with the connection.
        linger: u32,
    },
    /// The session goes on.
    Resumed {
        /// DATA records that have arrived at the accepting side.
        received: u64,
    },
    /// It does not.
    Refused(Refusal),
}

/// Allows to continue a session, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// What [`Answer::Started`] said.
    #[serde(with = "serde_bytes")]
    pub secret: [u8; 16],
    /// Counts the attempts to continue. One that arrives late, after a newer one, must not take the session over.
    pub attempt: u64,
}

impl Ticket {
    /// Whether `self` is valid where the last valid one was `last`. Takes the same time wherever they differ.
    #[must_use]
    pub fn follows(&self, last: &Ticket) -> bool {
        let difference = (self.secret.iter().zip(last.secret)).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0 && self.attempt > last.attempt
    }
}

/// Why the accepting side does not go on, told to a peer that has proved its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The session has ended: its time was up, or the location was restarted.
    #[error("the session is gone")]
    SessionGone,
    /// The ticket has been used before, or was never given out for this session.
    #[error("the ticket for the session is not valid")]
    BadTicket,
    /// What this peer claims to have received does not fit what was sent.
    #[error("the session cannot be continued where the peer left it")]
    OutOfStep,
    /// A reason that this version does not know.
    #[error("refused for a reason that this version does not know")]
    #[serde(other)]
    Unknown,
}

/// The version that both speak, if there is one, from the highest that the peer speaks.
#[must_use]
pub fn common_version(theirs: u16) -> Option<u16> {
    (theirs >= OLDEST_VERSION).then(|| theirs.min(VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once() {
        let used = Ticket {
            secret: [7; 16],
            attempt: 3,
        };
        let ticket = |secret, attempt| Ticket { secret, attempt };
        assert!(ticket([7; 16], 4).follows(&used));
        assert!(!ticket([7; 16], 3).follows(&used));
        assert!(!ticket([7; 16], 2).follows(&used));
        assert!(!ticket([8; 16], 4).follows(&used));
    }

    #[test]
    fn the_newer_side_speaks_the_older_version() {
        assert_eq!(common_version(VERSION), Some(VERSION));
        assert_eq!(common_version(VERSION + 1), Some(VERSION));
        assert_eq!(common_version(OLDEST_VERSION - 1), None);
    }
}
