//! The connecting side's way to a link.

use std::sync::Arc;
use std::time::Duration;

use super::error::ConnectError;
use super::reconnect::{Reconnect, attempt};
use super::shared::Shared;
use super::transport::Dial;
use super::{Incoming, Link, driver};
use crate::keys::{PublicKey, SecretKey};
use crate::protocol::handshake::{Answer, Begin, MAX_TEXT, Role, Ticket};
use crate::protocol::mux::Side;

/// Who connects to whom.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Key of this side.
    pub identity: SecretKey,
    /// Key that the location must prove.
    pub location: PublicKey,
    /// What this side is.
    pub role: Role,
    /// Name and version of this program, for the location's log. At most 256 bytes.
    pub agent: String,
    /// The token of an invitation, for a location that does not know the key yet. At most 256 bytes.
    pub token: Option<String>,
    /// How long the location should wait for a lost connection to come back, in whole seconds; up to it if not given.
    /// [`Link::linger`] says how long it does.
    pub linger: Option<Duration>,
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
    let texts = [Some(&options.agent), options.token.as_ref()];
    if texts
        .into_iter()
        .flatten()
        .any(|text| text.len() > MAX_TEXT)
    {
        return Err(ConnectError::TooLong);
    }
    let begin = Begin::New {
        agent: options.agent.clone(),
        linger: options
            .linger
            .map(|linger| u32::try_from(linger.as_secs()).unwrap_or(u32::MAX)),
    };
    let (sealed, answer) = attempt(&*dial, &options, &begin).await?;
    let (session, secret, linger) = match answer {
        Answer::Started {
            session,
            secret,
            linger,
        } => (session, secret, Duration::from_secs(linger.into())),
        Answer::Refused(refusal) => return Err(ConnectError::Refused(refusal)),
        Answer::Resumed { .. } => return Err(ConnectError::NotTheLocation),
    };
    let shared = Shared::new(
        Side::Connecting,
        options.role,
        options.location,
        session.clone(),
        linger,
    );
    let reconnect = Reconnect {
        dial,
        options,
        session,
        ticket: Ticket { secret, attempt: 0 },
        linger,
    };
    let (link, incoming) = Link::new(Arc::clone(&shared));
    tokio::spawn(driver::drive_connecting(shared, sealed, reconnect));
    Ok((link, incoming))
}
