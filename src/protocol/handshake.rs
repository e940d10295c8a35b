//! How a connection begins: who speaks, in which version, and whether it starts a session or continues one.

use serde::{Deserialize, Serialize};

/// What the connecting side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A program that uses the SDK.
    Client,
    /// A machine that runs containers.
    Node,
}

/// Why the accepting side does not go on, told to a peer that has proved its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The session has ended: its time was up, or the location was restarted.
    #[error("the session is gone")]
    SessionGone,
    /// The ticket has been used before, or was never given out for this session and this key.
    #[error("the ticket for the session is not valid")]
    BadTicket,
    /// What this peer claims to have received or sent does not fit what was sent or received.
    #[error("the session cannot be continued where the peer left it")]
    OutOfStep,
    /// A reason that this version does not know.
    #[error("refused for a reason that this version does not know")]
    #[serde(other)]
    Unknown,
}
