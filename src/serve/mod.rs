//! What serves others for as long as its process runs: a location, a node, or both.
//!
//! ```text
//! tf location serve ─▶ LocationServer = Server on TCP, on a socket for administrators, and in memory for a node in this process
//! tf node serve     ─▶ NodeServer     = Agent on a link, and on another one when that has ended
//! tf location …     ─▶ Administrator  = calls to the Server, in its process if there is one, or else in this one
//! ```
//!
//! All of it lives in a state directory, which its owner alone can look into.

mod administrator;
mod location;
mod node;
pub(crate) mod notify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use administrator::Administrator;
pub use location::{Bounds, DEFAULT_LISTEN, LocationOptions, LocationServer};
pub use node::{NodeServer, start_in_process};

use crate::keyring::KeyringError;
use crate::keys::{PublicKey, SecretKey};
use crate::link::{AGENT, CallError, ConnectError, ConnectOptions};
#[cfg(target_os = "linux")]
use crate::node::engine::linux::LinuxEngine;
use crate::node::engine::{Engine, EngineError};
use crate::protocol::handshake::Role;

/// Why something does not serve, or an administrator gets no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The location's directory cannot be used.
    #[error(transparent)]
    Home(#[from] crate::location::HomeError),
    /// The location cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::location::OpenError),
    /// A name that invitations cannot hold.
    #[error(
        "`{0}` is not a name for a location: expected letters, digits, `-`, `_` and `.`, which is not the first"
    )]
    BadName(String),
    /// Its address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Containers cannot be run by this user.
    #[error("cannot run containers on this machine")]
    Privilege(#[source] EngineError),
    /// Containers cannot be run here.
    #[error("cannot run containers on this machine")]
    Engine(#[source] EngineError),
    /// Containers can be run on Linux only.
    #[error("containers can be run on Linux only")]
    NoEngine,
    /// The peer cannot be reached, or does not accept.
    #[error("cannot connect to {peer}")]
    Connect {
        /// Who.
        peer: String,
        /// Why not.
        #[source]
        source: ConnectError,
    },
    /// The location does not let the bearer of an invitation in.
    #[error(
        "{address} does not accept the invitation: it was used before, is too old or was withdrawn, or what answers there is \
         not the location `{name}`"
    )]
    NotInvited {
        /// Name of the location.
        name: String,
        /// Where it was looked for.
        address: String,
    },
    /// The location has turned the node away for a long time.
    #[error("the location {name} at {address} does not know this node any more")]
    Forgotten {
        /// Name of the location.
        name: String,
        /// Where it was looked for.
        address: String,
    },
    /// The invitation is one for a user.
    #[error("the invitation is for a user, not for a node")]
    ForUser,
    /// The node has no key yet.
    #[error("this node has not joined a location yet: there is no key in {0}")]
    NotJoined(PathBuf),
    /// The node's key cannot be read or written.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Another process serves as this node.
    #[error(
        "another process serves as the node of {0}: stop it first, or use another state directory"
    )]
    NodeClaimed(PathBuf),
    /// There is no location in the state directory.
    #[error("there is no location in {0}")]
    NoLocation(PathBuf),
    /// The location refuses, or has gone.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A file or a task failed.
    #[error("cannot go on")]
    Io(#[from] io::Error),
}

/// How this program introduces itself.
fn connect_options(
    identity: SecretKey,
    location: PublicKey,
    role: Role,
    token: Option<String>,
) -> ConnectOptions {
    ConnectOptions {
        identity,
        location,
        role,
        agent: AGENT.to_owned(),
        token,
        linger: None,
    }
}

/// What runs containers on this machine. They outlive this process by `linger`, for the next one to take back.
#[cfg(target_os = "linux")]
fn engine(state: &Path, linger: Duration) -> Result<Arc<dyn Engine>, Error> {
    let opened = if linger.is_zero() {
        LinuxEngine::open(state)
    } else {
        LinuxEngine::open_lasting(state, linger)
    };
    match opened {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(error @ EngineError::Privilege(_)) => Err(Error::Privilege(error)),
        Err(error) => Err(Error::Engine(error)),
    }
}

#[cfg(not(target_os = "linux"))]
fn engine(_state: &Path, _linger: Duration) -> Result<Arc<dyn Engine>, Error> {
    Err(Error::NoEngine)
}

/// Allows this process as many file descriptors as it may have: each connection takes one, and each container some, and
/// what starts programs lets them have few at first.
#[cfg(unix)]
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let resource = Resource::RLIMIT_NOFILE;
    let raised = getrlimit(resource).and_then(|(_, most)| setrlimit(resource, most, most));
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays low: {error}");
    }
}

#[cfg(not(unix))]
fn raise_descriptor_limit() {}
