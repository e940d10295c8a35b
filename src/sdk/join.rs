//! Becoming a user of a location by an invitation.

use std::sync::Arc;

use super::error::Error;
use crate::invitation::Invitation;
use crate::keyring::{Account, Keyring};
use crate::keys::SecretKey;
use crate::link::{AGENT, CallError, ConnectError, ConnectOptions, TcpDial, connect};
use crate::protocol::handshake::Role;
use crate::protocol::messages::ListNodes;

/// Joins a location, at the address of the invitation or another one, and keeps the new account in `keyring`.
///
/// Nothing that a wrong location could read is sent: the token is encrypted to the key that the invitation names.
///
/// # Errors
///
/// When the location does not accept the invitation or cannot be reached, or there is an account of its name already, which
/// leaves the invitation as it was.
pub async fn join(
    keyring: &Keyring,
    invitation: &Invitation,
    address: Option<String>,
) -> Result<Account, Error> {
    if invitation.node {
        return Err(Error::ForNode);
    }
    let name = invitation.name.clone();
    keyring.check_new(&name)?;
    let account = Account {
        address: address.unwrap_or_else(|| invitation.address.clone()),
        secret: SecretKey::generate(),
        location: invitation.location,
        name,
    };
    let options = ConnectOptions {
        identity: account.secret.clone(),
        location: account.location,
        role: Role::Client,
        agent: AGENT.to_owned(),
        token: Some(invitation.token.clone()),
        linger: None,
    };
    let not_invited = || Error::NotInvited {
        name: account.name.clone(),
        address: account.address.clone(),
    };
    let connected = connect(Arc::new(TcpDial::new(&account.address)), options).await;
    let (link, _) = connected.map_err(|source| match source {
        ConnectError::Rejected => not_invited(),
        source => Error::Connect {
            location: account.name.clone(),
            source,
        },
    })?;
    // Somebody else may have used the invitation since the handshake; an answer is the proof of being known.
    match link.call(&ListNodes {}).await {
        // Also a refusal, of somebody who may not have a session now, is one to somebody who is known.
        Ok(_) | Err(CallError::Fault(_)) => {}
        Err(_) => return Err(not_invited()),
    }
    let kept = keyring.add(&account);
    link.close().await;
    kept?;
    Ok(account)
}
