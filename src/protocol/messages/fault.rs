//! Why a call failed.

use serde::{Deserialize, Serialize};

/// Why a call failed, in a form that travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What a program can act on.
    pub code: FaultCode,
    /// What a person reads: what went wrong and, where there is something to do, what.
    pub message: String,
}

impl Fault {
    /// A fault of this kind with this text.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Kinds of faults, by what the caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The peer does not know this message: it is older, or newer.
    UnknownMessage,
    /// The message could not be read, or asks for something that makes no sense.
    Malformed,
    /// What it names does not exist, or belongs to somebody else.
    NotFound,
    /// What it names is in use.
    InUse,
    /// The caller may not do this.
    Forbidden,
    /// A limit of the user or the machine is reached.
    LimitReached,
    /// There is no node that can do it.
    NoNode,
    /// The machine lacks something: a kernel feature, a privilege, disk space.
    Unsupported,
    /// The image or what was asked of it cannot run: program missing, user unknown, layer broken.
    BadImage,
    /// It took too long.
    TimedOut,
    /// The peer made a mistake that the caller can do nothing about.
    Internal,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}
