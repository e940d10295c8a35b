//! The connecting side: makes a link, and makes it again when the connection is lost.

use std::sync::Arc;

use crate::keys::{PublicKey, SecretKey};
use crate::protocol::handshake::Role;

use super::error::ConnectError;
use super::transport::Dial;
use super::{Incoming, Link};

/// Who connects to whom.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Key of this side.
    pub identity: SecretKey,
    /// Key that the location must prove.
    pub location: PublicKey,
    /// What this side is.
    pub role: Role,
    /// Name and version of this program, for the location's log.
    pub agent: String,
    /// The token of an invitation, for a location that does not know the key yet.
    pub token: Option<String>,
}

/// Connects to a location. The link dials again by itself whenever the connection is lost.
///
/// # Errors
///
/// When the location cannot be reached or does not accept.
pub async fn connect(
    dial: Arc<dyn Dial>,
    options: ConnectOptions,
) -> Result<(Link, Incoming), ConnectError> {
    let _ = (dial, options);
    todo!()
}
