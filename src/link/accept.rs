//! The accepting side: turns connections into new links or gives them to the link that they continue.

use std::time::Duration;

use crate::keys::{PublicKey, SecretKey};
use crate::protocol::handshake::Role;

use super::error::HandshakeError;
use super::transport::Transport;
use super::{Incoming, Link};

/// How connections are accepted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcceptOptions {
    /// How long a link whose connection is lost waits for the peer to come back.
    pub linger: Duration,
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(120),
        }
    }
}

/// Who asks to be let in: all of it is proved or encrypted to this location's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// Its key.
    pub key: PublicKey,
    /// What it says it is.
    pub role: Role,
    /// The token of its invitation, if it has one.
    pub token: Option<String>,
}

/// What became of a connection.
#[derive(Debug)]
pub enum Accepted<A> {
    /// It is the start of a link.
    New(Box<Session<A>>),
    /// It continues a link that was accepted before.
    Resumed,
}

/// A new link and who is at its other end.
#[derive(Debug)]
pub struct Session<A> {
    /// The link.
    pub link: Link,
    /// What the peer asks for.
    pub incoming: Incoming,
    /// Key of the peer.
    pub peer: PublicKey,
    /// What the peer is.
    pub role: Role,
    /// Name and version of the peer's program, as it says itself.
    pub agent: String,
    /// What `admit` returned for it.
    pub admission: A,
}

/// Accepts connections for one location.
#[derive(Debug)]
pub struct Acceptor {
    identity: SecretKey,
    options: AcceptOptions,
}

impl Acceptor {
    /// Accepts connections that are meant for `identity`.
    #[must_use]
    pub fn new(identity: SecretKey, options: AcceptOptions) -> Self {
        Self { identity, options }
    }

    /// Performs the handshake on a connection. Takes ten seconds at most, whatever the peer does.
    ///
    /// `admit` decides about the applicant and must not change anything: the peer's first message may be a recording.
    /// Without its consent the connection ends without a word. A session is returned only once the peer has proved that it
    /// is there.
    ///
    /// # Errors
    ///
    /// When the connection comes to nothing, for whatever reason; it is then closed.
    pub async fn handshake<A>(
        &self,
        transport: Box<dyn Transport>,
        admit: impl AsyncFnOnce(&Applicant) -> Option<A>,
    ) -> Result<Accepted<A>, HandshakeError> {
        let _ = (&self.identity, &self.options, transport, admit);
        todo!()
    }
}
