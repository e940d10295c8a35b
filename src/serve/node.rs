//! A node: in the process of its location, or on a machine of its own, where it keeps a key and a link for as long as it
//! runs.
//!
//! ```text
//! STATE/node/NAME …     its key and where its location is, as in a user's directory
//! STATE/node/serving    locked by the process that serves
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::notify::{READY, STOPPING, notify};
use super::{Error, connect_options, engine};
use crate::invitation::Invitation;
use crate::keyring::{Account, Keyring};
use crate::keys::{PublicKey, SecretKey};
use crate::link::{ConnectError, Incoming, Link, MemoryDial, Status, TcpDial, connect};
use crate::node::Agent;
use crate::node::engine::Engine;
use crate::protocol::handshake::Role;

/// First and longest pause between two attempts to reach the location anew.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Starts a node in the process of its location, and returns once the location knows it: the first client should not find a
/// location without a node. It ends when the location closes the link.
///
/// # Errors
///
/// When the location does not accept it.
pub async fn start_in_process(
    engine: Arc<dyn Engine>,
    state: &Path,
    dial: MemoryDial,
    key: SecretKey,
    location: PublicKey,
    mut nodes: watch::Receiver<usize>,
) -> Result<JoinHandle<()>, ConnectError> {
    let options = connect_options(key, location, Role::Node, None);
    let (link, incoming) = connect(Arc::new(dial), options).await?;
    let agent = Agent::new(engine, state.to_owned(), link);
    let agent = tokio::spawn(agent.serve(incoming, CancellationToken::new()));
    // An error is the location having ended, which the agent notices too.
    let _ = nodes.wait_for(|count| *count > 0).await;
    Ok(agent)
}

/// A node on a machine of its own.
pub struct NodeServer {
    state: PathBuf,
    account: Account,
    engine: Arc<dyn Engine>,
    link: Option<(Link, Incoming)>,
    _claim: File,
}

impl NodeServer {
    /// Gets ready to serve: joins with the invitation, if there is one and it was not done before, at `address` if that is
    /// given.
    ///
    /// # Errors
    ///
    /// When containers cannot be run here, another process is this node, or the location does not accept the invitation.
    pub async fn start(
        state: PathBuf,
        invitation: Option<Invitation>,
        address: Option<String>,
    ) -> Result<Self, Error> {
        let directory = state.join("node");
        let keyring = Keyring::new(&directory);
        if invitation
            .as_ref()
            .is_some_and(|invitation| !invitation.node)
        {
            return Err(Error::ForUser);
        }
        let known = known(&keyring, invitation.as_ref())?;
        if known.is_none() && invitation.is_none() {
            return Err(Error::NotJoined(directory));
        }
        let claim = claim(&directory)?;
        // Before the invitation is used up: without it there would be no use in having joined.
        let engine = engine(&state)?;
        let (mut account, link) = match (known, invitation) {
            (None, Some(invitation)) => {
                let (account, link) = join(&keyring, &invitation, address.as_ref()).await?;
                (account, Some(link))
            }
            (Some(account), _) => (account, None),
            (None, None) => return Err(Error::NotJoined(directory)),
        };
        if let Some(address) = address {
            account.address = address;
        }
        Ok(Self {
            state,
            account,
            engine,
            link,
            _claim: claim,
        })
    }

    /// Name of its location.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.account.name
    }

    /// Serves until `shutdown` is cancelled. When the link to the location has ended for good, containers end, and another
    /// link is made as soon as the location can be reached.
    ///
    /// # Errors
    ///
    /// When containers cannot be run any more.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self {
            state,
            account,
            engine: first,
            mut link,
            _claim,
        } = self;
        notify(READY);
        let mut next_engine = Some(first);
        while !shutdown.is_cancelled() {
            let connected = match link.take() {
                Some(connected) => connected,
                None => match reach(&account, &shutdown).await {
                    Some(connected) => connected,
                    None => break,
                },
            };
            // An agent shuts its engine down at the end.
            let engine = match next_engine.take() {
                Some(engine) => engine,
                None => engine(&state)?,
            };
            let (link, incoming) = connected;
            tracing::info!("connected to the location {}", account.name);
            let preparing = Arc::clone(&engine);
            tokio::spawn(async move { preparing.prepare().await });
            let agent = Agent::new(engine, state.clone(), link.clone());
            tokio::select! {
                () = agent.serve(incoming, shutdown.clone()) => {}
                () = log_status(&link) => {}
            }
            link.close().await;
        }
        notify(STOPPING);
        Ok(())
    }
}

/// The account that the node has already: at the location of the invitation, or else the one it joined first.
fn known(keyring: &Keyring, invitation: Option<&Invitation>) -> Result<Option<Account>, Error> {
    let Some(invitation) = invitation else {
        let name = keyring.default_name()?;
        return Ok(name.map(|name| keyring.account(&name)).transpose()?);
    };
    for name in keyring.names()? {
        let account = keyring.account(&name)?;
        if account.location == invitation.location {
            tracing::info!("this node has joined {name} before: the invitation is not needed");
            return Ok(Some(account));
        }
    }
    Ok(None)
}

/// Takes the right to be this node: two processes would take the node's link from each other for ever.
fn claim(directory: &Path) -> Result<File, Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    let file = File::create(directory.join("serving"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::NodeClaimed(directory.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Uses an invitation, and keeps the key that is known from then on.
async fn join(
    keyring: &Keyring,
    invitation: &Invitation,
    address: Option<&String>,
) -> Result<(Account, (Link, Incoming)), Error> {
    let name = invitation.name.clone();
    keyring.check_new(&name)?;
    let account = Account {
        address: address.unwrap_or(&invitation.address).clone(),
        secret: SecretKey::generate(),
        location: invitation.location,
        name,
    };
    let connected = link(&account, Some(invitation.token.clone())).await;
    let connected = connected.map_err(|source| match source {
        ConnectError::Rejected => Error::NotInvited {
            name: account.name.clone(),
            address: account.address.clone(),
        },
        source => Error::Connect {
            peer: account.address.clone(),
            source,
        },
    })?;
    keyring.add(&account)?;
    tracing::info!("joined the location {}", account.name);
    Ok((account, connected))
}

async fn link(account: &Account, token: Option<String>) -> Result<(Link, Incoming), ConnectError> {
    let dial = Arc::new(TcpDial::new(&account.address));
    let options = connect_options(account.secret.clone(), account.location, Role::Node, token);
    connect(dial, options).await
}

/// Connects, however long it takes. None if that is no longer wanted.
async fn reach(account: &Account, shutdown: &CancellationToken) -> Option<(Link, Incoming)> {
    let mut pause = FIRST_PAUSE;
    loop {
        let connected = tokio::select! {
            () = shutdown.cancelled() => return None,
            connected = link(account, None) => connected,
        };
        let Account { name, address, .. } = account;
        match connected {
            Ok(connected) => return Some(connected),
            Err(ConnectError::Dial(error)) => {
                tracing::warn!("cannot reach the location {name} at {address}: {error}");
            }
            Err(error) => tracing::warn!("cannot connect to the location {name}: {error}"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Logs what becomes of the connection, for as long as the link lasts and then for ever.
async fn log_status(link: &Link) {
    let mut status = link.status();
    while status.changed().await.is_ok() {
        let now = *status.borrow_and_update();
        match now {
            Status::Up => tracing::info!("the connection to the location is back"),
            Status::Down { .. } => tracing::warn!("the connection to the location is lost"),
            Status::Closed(reason) => {
                tracing::warn!("the link to the location has ended: {reason}");
                break;
            }
        }
    }
    std::future::pending::<()>().await;
}
