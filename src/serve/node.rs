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
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::notify::{READY, STOPPING, notify};
use super::{Error, connect_options, engine, raise_descriptor_limit};
use crate::invitation::Invitation;
use crate::keyring::{Account, Keyring};
use crate::keys::{PublicKey, SecretKey};
use crate::link::{
    CloseReason, ConnectError, Incoming, Link, MemoryDial, Status, TcpDial, connect,
};
use crate::node::Agent;
use crate::node::engine::Engine;
use crate::protocol::handshake::Role;

/// First and longest pause between two attempts to reach the location anew.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// For how long a location turns a node away before it has forgotten it. What stands in front of a location that is not
/// there, as a proxy, looks the same, and so does a location that cannot read its database.
const TURNED_AWAY: Duration = Duration::from_mins(5);

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
    let agent = Agent::new(engine, state.to_owned());
    take_back(&agent).await;
    let agent = tokio::spawn(async move {
        agent.serve(link, incoming, &CancellationToken::new()).await;
        agent.shutdown().await;
    });
    // An error is the location having ended, which the agent notices too.
    let _ = nodes.wait_for(|count| *count > 0).await;
    Ok(agent)
}

/// Takes containers back that an earlier process has left. A node that cannot is one without them.
async fn take_back(agent: &Agent) {
    match agent.adopt().await {
        Ok(0) => {}
        Ok(count) => tracing::info!("took back containers from before: {count}"),
        Err(error) => tracing::warn!("containers from before cannot be taken back: {error}"),
    }
}

/// A node on a machine of its own.
pub struct NodeServer {
    state: PathBuf,
    account: Account,
    engine: Arc<dyn Engine>,
    linger: Duration,
    /// Of the invitation that it was started with, if there was one.
    token: Option<String>,
    link: Option<(Link, Incoming)>,
    _claim: File,
}

impl NodeServer {
    /// Gets ready to serve: joins with the invitation, if there is one and it was not done before, at `address` if that is
    /// given. Containers run on for `linger` without the location, or without this process.
    ///
    /// # Errors
    ///
    /// When containers cannot be run here, another process is this node, or the location does not accept the invitation.
    pub async fn start(
        state: PathBuf,
        invitation: Option<Invitation>,
        address: Option<String>,
        linger: Duration,
    ) -> Result<Self, Error> {
        raise_descriptor_limit();
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
        let engine = engine(&state, linger)?;
        // A location that has forgotten a node knows it again by this.
        let token = invitation
            .as_ref()
            .map(|invitation| invitation.token.clone());
        let (mut account, link) = match (known, invitation) {
            (None, Some(invitation)) => {
                let (account, link) = join(&keyring, &invitation, address.as_ref()).await?;
                (account, Some(link))
            }
            (Some(account), _) => (account, None),
            (None, None) => return Err(Error::NotJoined(directory)),
        };
        if token.is_some() {
            // The next start, without an invitation, is for the location that this one was told to join.
            keyring.select(&account.name)?;
        }
        if let Some(address) = address {
            account.address = address;
        }
        Ok(Self {
            state,
            account,
            engine,
            linger,
            token,
            link,
            _claim: claim,
        })
    }

    /// Name of its location.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.account.name
    }

    /// Ends the connection without having served. The key is kept.
    pub async fn leave(self) {
        if let Some((link, _)) = self.link {
            link.close().await;
        }
    }

    /// Serves until `shutdown` is cancelled, on one link after the other. Containers run on between two of them, unless the
    /// location has said goodbye or does not come back in time.
    ///
    /// # Errors
    ///
    /// When the location does not know this node any more.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self {
            state,
            account,
            engine,
            linger,
            token,
            mut link,
            _claim,
        } = self;
        let agent = Agent::new(Arc::clone(&engine), state);
        take_back(&agent).await;
        // Whoever comes back, finds what they had.
        let mut expiry = Some(Instant::now() + linger);
        notify(READY);
        let ended = loop {
            let redial = redial(&account, async || self::link(&account, token.clone()).await);
            let (link, incoming) = match link.take() {
                Some(connected) => connected,
                None => match reach(redial, &agent, expiry, &shutdown).await {
                    Ok(Some(connected)) => connected,
                    ended => break ended.map(drop),
                },
            };
            tracing::info!("connected to the location {}", account.name);
            let preparing = Arc::clone(&engine);
            tokio::spawn(async move { preparing.prepare().await });
            tokio::select! {
                () = agent.serve(link.clone(), incoming, &shutdown) => {}
                () = log_status(&link) => {}
                () = lost(&link, linger) => link.close().await,
            }
            if shutdown.is_cancelled() {
                link.close().await;
                break Ok(());
            }
            expiry = match link.closed().await {
                // Another location process does not know the link, and may still know the containers.
                CloseReason::Refused(_) | CloseReason::Protocol(_) => Some(Instant::now() + linger),
                // The location has ended what there was, or the time is over.
                _ => {
                    agent.free_all().await;
                    None
                }
            };
        };
        agent.shutdown().await;
        notify(STOPPING);
        ended
    }
}

/// The account that the node has already: at the location of the invitation, or else at the one it was told to join last.
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

/// Waits for a connection; frees the containers when that takes longer than until `expiry`. None if a link is no longer
/// wanted.
async fn reach<T>(
    redial: impl Future<Output = Result<T, Error>>,
    agent: &Agent,
    expiry: Option<Instant>,
    shutdown: &CancellationToken,
) -> Result<Option<T>, Error> {
    let expire = async {
        if let Some(expiry) = expiry {
            sleep_until(expiry).await;
            agent.free_all().await;
        }
        std::future::pending().await
    };
    tokio::select! {
        connected = redial => connected.map(Some),
        () = shutdown.cancelled() => Ok(None),
        connected = expire => connected,
    }
}

/// Connects by `link`, with increasing pauses between the attempts, however long it takes, unless the location has turned
/// this node away all the time for [`TURNED_AWAY`].
async fn redial<T>(
    account: &Account,
    link: impl AsyncFn() -> Result<T, ConnectError>,
) -> Result<T, Error> {
    let Account { name, address, .. } = account;
    let mut pause = FIRST_PAUSE;
    let mut turned_away: Option<Instant> = None;
    loop {
        match link().await {
            Ok(connected) => return Ok(connected),
            Err(ConnectError::Rejected) => {
                let since = *turned_away.get_or_insert_with(Instant::now);
                if since.elapsed() >= TURNED_AWAY {
                    let (name, address) = (name.clone(), address.clone());
                    return Err(Error::Forgotten { name, address });
                }
                tracing::warn!(
                    "the location {name} turns this node away: it does not know it any more, or is not serving"
                );
            }
            Err(error) => {
                turned_away = None;
                tracing::warn!("cannot connect to the location {name}: {error}");
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Waits until the connection has been away for too long.
async fn lost(link: &Link, linger: Duration) {
    let mut status = link.status();
    loop {
        let down = |status: &Status| matches!(status, Status::Down { .. });
        // The sender lives as long as the link.
        let _ = status.wait_for(down).await;
        if timeout(linger, status.wait_for(|status| !down(status)))
            .await
            .is_err()
        {
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use super::*;

    fn account() -> Account {
        Account {
            name: "office".to_owned(),
            address: "office:5555".to_owned(),
            secret: SecretKey::generate(),
            location: SecretKey::generate().public(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_forgotten_gives_up() {
        let start = Instant::now();
        let ended = redial::<()>(&account(), async || Err(ConnectError::Rejected)).await;
        assert!(matches!(ended, Err(Error::Forgotten { .. })), "{ended:?}");
        assert!(start.elapsed() >= TURNED_AWAY);
        assert!(start.elapsed() < TURNED_AWAY + LAST_PAUSE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_location_that_is_away_is_waited_for() {
        let start = Instant::now();
        let (hour, minute) = (Duration::from_hours(1), Duration::from_mins(1));
        let attempts = Cell::new(0_u32);
        let account = account();
        let connected = redial(&account, async || {
            attempts.set(attempts.get() + 1);
            let minutes = start.elapsed().as_secs() / minute.as_secs();
            if start.elapsed() > hour {
                Ok(())
            } else if minutes.is_multiple_of(4) {
                // What turns it away in between does not count.
                Err(ConnectError::Dial(io::ErrorKind::ConnectionRefused.into()))
            } else {
                Err(ConnectError::Rejected)
            }
        });
        connected.await.expect("it is there in the end");
        assert!(attempts.get() > 100);
    }
}
