//! What can go wrong with a link, by what the caller can do about it.

use std::io;

use crate::protocol::handshake::Refusal;
use crate::protocol::messages::Fault;

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer answered with a fault.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The link ended before the reply came. Whether the call took effect is not known.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The peer's reply cannot be read.
    #[error("cannot read the reply: {0}")]
    Malformed(String),
    /// The call is longer than a message may be, in bytes. Nothing was sent.
    #[error("the message has {0} bytes, more than fit into one")]
    TooLong(usize),
}

/// The link has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended: {0}")]
pub struct Closed(pub CloseReason);

impl From<Closed> for io::Error {
    fn from(closed: Closed) -> Self {
        Self::new(io::ErrorKind::NotConnected, closed)
    }
}

/// Why a link has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// One of the two sides ended it on purpose.
    #[error("it was closed")]
    Clean,
    /// The connection was lost and not restored in time.
    #[error("the connection was lost and did not come back in time")]
    Expired,
    /// The peer does not continue the session.
    #[error(transparent)]
    Refused(Refusal),
    /// The peer sent something that the protocol does not allow.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer cannot be reached.
    #[error(transparent)]
    Dial(io::Error),
    /// The connection ended in the middle of the handshake: the peer does not know this key, or has another key than expected.
    #[error(
        "the location ended the connection without a word: it does not know this key, or it is not the location that this key was made for"
    )]
    Rejected,
    /// The connection broke in the middle of the handshake.
    #[error("the connection broke in the middle of the handshake")]
    Broken(#[source] io::Error),
    /// The peer said nothing for too long.
    #[error("the location did not answer in time")]
    TimedOut,
    /// What answered is not a location with the expected key.
    #[error("what answered is not the expected location")]
    NotTheLocation,
    /// The peer speaks another version of the protocol.
    #[error(
        "the location speaks version {theirs} of the protocol, and this program version {ours}: update the older one"
    )]
    Version {
        /// What this program speaks.
        ours: u16,
        /// What the peer speaks.
        theirs: u16,
    },
    /// The agent's name or the token is longer than 256 bytes. Nothing was sent.
    #[error("the name of this program and the token may be 256 bytes long each")]
    TooLong,
    /// The peer refused in words.
    #[error(transparent)]
    Refused(Refusal),
}

/// Why an incoming connection came to nothing. For the log: the peer is told nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The connection broke.
    #[error("the connection broke in the middle of the handshake")]
    Io(#[from] io::Error),
    /// The peer was too slow.
    #[error("the handshake was not finished in time")]
    TimedOut,
    /// What came is not this protocol, or was not meant for this location's key.
    #[error("not a client of this location: {0}")]
    Malformed(&'static str),
    /// The peer's key is not admitted.
    #[error("the key is not admitted")]
    NotAdmitted,
    /// The peer speaks only versions of the protocol that are too old, this one at best.
    #[error("the peer speaks version {0} of the protocol, which is too old")]
    Version(u16),
    /// The peer was told this.
    #[error(transparent)]
    Refused(Refusal),
}
