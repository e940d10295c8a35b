//! Why something that a program asked for did not happen.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::image::ResolveError;
use crate::keyring::KeyringError;
use crate::link::{CallError, CloseReason, Closed, ConnectError};
use crate::protocol::container::Exit;
use crate::protocol::messages::{Fault, FaultCode};

/// Failure of an SDK call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection to the location.
    #[error("cannot connect to the location {location}")]
    Connect {
        /// Name of the location.
        location: String,
        /// What went wrong.
        #[source]
        source: ConnectError,
    },
    /// The location does not let the bearer of an invitation in. It tells strangers nothing, so the reason is one of several.
    #[error(
        "{address} does not accept the invitation: it was used before, is too old or was withdrawn, or what answers there is \
         not the location `{name}`, but has another key"
    )]
    NotInvited {
        /// Name of the location.
        name: String,
        /// Where it was looked for.
        address: String,
    },
    /// The invitation is one for a node.
    #[error("the invitation is for a machine that is to be a node, not for a user")]
    ForNode,
    /// The embedded location could not be started.
    #[error("cannot start a location in this process")]
    Embedded(#[source] io::Error),
    /// The user's account at the location cannot be used.
    #[error(transparent)]
    Account(#[from] KeyringError),
    /// The connection has ended, and the session with it.
    #[error("the session has ended: {0}")]
    Closed(CloseReason),
    /// The location or the node refuses.
    #[error("{0}")]
    Refused(Fault),
    /// The location has no node that could run it.
    #[error("no node is connected to the location: start one with `tf node serve`")]
    NoNode,
    /// There is no such image, or it cannot be read.
    #[error(transparent)]
    Image(Box<ResolveError>),
    /// A layer could not be read or sent.
    #[error("cannot upload the image")]
    Upload(#[source] io::Error),
    /// A local address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The container has ended while something was expected of it.
    #[error("the container has ended ({})", describe(.0))]
    Ended(Exit),
    /// It did not happen in time.
    #[error("{what} took longer than {} s", .limit.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The time it had.
        limit: Duration,
    },
    /// A host name that should be this machine's is not.
    #[error(
        "{host} does not resolve to this machine: expected it to resolve to a loopback address"
    )]
    NotLocal {
        /// The name.
        host: String,
    },
    /// The web browser could not be opened.
    #[error("cannot open a web browser")]
    Browser(#[source] io::Error),
    /// A stream to the container failed.
    #[error("the connection to the container failed")]
    Stream(#[from] io::Error),
}

impl Error {
    /// What kind of fault the peer reported, if it was one.
    #[must_use]
    pub fn fault(&self) -> Option<FaultCode> {
        match self {
            Self::Refused(fault) => Some(fault.code),
            _ => None,
        }
    }
}

impl From<ResolveError> for Error {
    fn from(error: ResolveError) -> Self {
        Self::Image(Box::new(error))
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Fault(fault) => Self::Refused(fault),
            CallError::Closed(Closed(reason)) => Self::Closed(reason),
            CallError::Malformed(_) | CallError::TooLong(_) => {
                Self::Stream(io::Error::other(error))
            }
        }
    }
}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        Self::Closed(closed.0)
    }
}

/// How a process ended, in words.
#[must_use]
pub fn describe(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("killed by signal {signal}"),
        Exit::OutOfMemory => "killed for using more memory than its limit".to_owned(),
        Exit::NotFound(reason) | Exit::NotExecutable(reason) | Exit::Lost(reason) => reason.clone(),
    }
}
