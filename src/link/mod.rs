//! The client protocol over real connections: encryption, multiplexing, and going on after a lost connection.
//!
//! A link carries calls, notices and byte streams between two sides that know each other's keys. It does not know what any
//! message means.

mod accept;
mod answer;
mod call;
pub mod chunks;
mod connect;
mod error;
mod listeners;
#[cfg(unix)]
mod local;
mod splice;
mod stream;
mod transport;
mod value;

use std::time::Instant;

use serde::Serialize;
use tokio::sync::watch;

use crate::keys::PublicKey;
use crate::protocol::messages::{Call, Notice};

pub use accept::{AcceptOptions, Accepted, Acceptor, Applicant, Session};
pub use answer::answer;
pub use call::{Malformed, PendingCall, PendingNotice, Reply};
pub use connect::{ConnectOptions, connect};
pub use error::{CallError, CloseReason, Closed, ConnectError, HandshakeError};
pub use listeners::Listeners;
#[cfg(unix)]
pub use local::{LocalDial, LocalListener};
pub use splice::splice;
pub use stream::{ByteStream, OpenedStream};
pub use transport::{Dial, Listen, MemoryDial, MemoryListener, TcpDial, Transport, memory};
pub use value::{read_value, write_value};

/// A handle of a living link; clones are handles of the same one.
///
/// The link ends when [`Link::close`] is called, or when all handles, its [`Incoming`] and all its streams are dropped.
#[derive(Debug, Clone)]
pub struct Link {}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Connected.
    Up,
    /// The connection is lost, and being made again.
    Down {
        /// Since when.
        since: Instant,
    },
    /// It has ended.
    Closed(CloseReason),
}

impl Link {
    /// Asks the peer and waits for its answer. A caller that does not want to wait any longer drops the future.
    ///
    /// # Errors
    ///
    /// When the peer answers with a fault, or the link ends.
    pub async fn call<C: Call>(&self, call: &C) -> Result<C::Reply, CallError> {
        let _ = call;
        todo!()
    }

    /// Tells the peer something. Returns when it is on its way, which says nothing about its arrival.
    ///
    /// # Errors
    ///
    /// When the link has ended.
    pub async fn notify<N: Notice>(&self, notice: &N) -> Result<(), Closed> {
        let _ = notice;
        todo!()
    }

    /// Opens a byte stream; the header tells the peer what the bytes are.
    ///
    /// # Errors
    ///
    /// When the link has ended.
    pub async fn open<H: Serialize + Sync>(&self, header: &H) -> Result<ByteStream, Closed> {
        let _ = header;
        todo!()
    }

    /// Key of the peer.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        todo!()
    }

    /// How the link is, now and from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        todo!()
    }

    /// Ends the link on purpose. What was sent before arrives, if the connection is up; the peer's link ends with [`CloseReason::Clean`].
    pub async fn close(&self) {
        todo!()
    }

    /// Waits until the link has ended.
    pub async fn closed(&self) -> CloseReason {
        todo!()
    }
}

/// What the peer asks for, in the order in which it asked. Dropping it refuses all that comes later.
///
/// It should be read at all times: when much waits here, replies to this side's own calls wait behind it.
#[derive(Debug)]
pub struct Incoming {}

/// One thing that the peer asks for.
#[derive(Debug)]
pub enum Inbound {
    /// To be answered.
    Call(PendingCall),
    /// Not to be answered.
    Notice(PendingNotice),
    /// The peer has opened a stream.
    Stream(OpenedStream),
}

impl Incoming {
    /// Waits for the next; none when the link has ended, for a reason that [`Link::closed`] tells.
    pub async fn next(&mut self) -> Option<Inbound> {
        todo!()
    }
}
