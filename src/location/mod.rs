//! The server that clients and nodes connect to: sessions, images, placement.
//!
//! ```text
//! client ══ link ══▶ session ──▶ broker ◀── agent ◀══ link ══ node
//!                       │           │
//!                     upload ──▶ images ──▶ layers (files), db (SQLite)
//! ```
//!
//! A location trusts neither its clients nor its nodes: a client reaches only what its session owns and layers that its
//! user has shown to possess, a node only layers of containers that were placed on it.

mod accounts;
mod admin;
mod agent;
mod broker;
mod cache;
mod connected;
mod db;
mod home;
mod images;
pub mod layers;
mod ledger;
mod limits;
mod recovery;
mod session;
mod upload;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use accounts::Principal;
pub use db::DbError;
pub use home::{Claim, Home, HomeError, Profile};

use crate::keys::{PublicKey, SecretKey};
use crate::link::{AcceptOptions, Accepted, Acceptor, Applicant, LINGER, Link, Listen, Transport};
use crate::protocol::handshake::Role;
use accounts::Accounts;
use broker::Broker;
use connected::Connected;
use db::Db;
use images::Images;
use layers::Store;
use ledger::Ledger;

/// What a location needs to know at its start.
pub struct Options {
    /// Directory of its state, made if missing.
    pub state: PathBuf,
    /// Its secret key, whose public half clients and nodes know.
    pub identity: SecretKey,
    /// Keys that may connect besides those that have joined.
    pub residents: HashMap<PublicKey, Principal>,
    /// Whether it serves several users. To be given a layer for having its digest, and to go on with an upload that
    /// somebody else has begun, is harmless only where all are the same one.
    pub shared: bool,
    /// What it gives at most.
    pub bounds: Bounds,
    /// Whether containers outlive this process when it is killed, for the next one to find.
    pub lasting: bool,
}

/// What a location gives at most, whoever asks.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// How long it keeps a session whose client is away, whatever the client asks for.
    pub max_linger: Duration,
    /// How many bytes of layers it keeps, those in use apart; as many as there is room for if not given. What was used least
    /// recently goes first.
    pub max_cache: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_linger: LINGER,
            max_cache: None,
        }
    }
}

/// How long the listener is left alone after it has failed for want of something, as file descriptors.
const LISTENER_PAUSE: Duration = Duration::from_millis(100);

/// A location.
pub struct Server {
    acceptor: Acceptor,
    residents: HashMap<PublicKey, Principal>,
    accounts: Accounts,
    broker: Broker,
    linger: Duration,
}

/// Why a location cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its state directory cannot be used.
    #[error("cannot use the state directory {path}")]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its database cannot be used.
    #[error("cannot use the database in {path}")]
    Database {
        /// The directory it is in.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DbError,
    },
}

impl Server {
    /// Opens a location on its state directory.
    ///
    /// # Errors
    ///
    /// When the directory or what is in it cannot be used.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let Options {
            state,
            identity,
            residents,
            shared,
            bounds,
            lasting,
        } = options;
        let directory = state.join("location");
        let state_error = |source| OpenError::State {
            path: directory.clone(),
            source,
        };
        make_private(&directory).map_err(state_error)?;
        let layers = Store::open(directory.join("layers")).map_err(state_error)?;
        let db =
            Db::open(&directory.join("location.db")).map_err(|source| OpenError::Database {
                path: directory.clone(),
                source,
            })?;
        let accept = AcceptOptions {
            max_linger: bounds.max_linger,
            ..AcceptOptions::default()
        };
        let ledger = if lasting {
            Ledger::new(db.clone())
        } else {
            Ledger::none()
        };
        Ok(Self {
            acceptor: Acceptor::new(identity, accept),
            linger: bounds.max_linger,
            residents,
            accounts: Accounts::new(db.clone()),
            broker: Broker::new(Images::new(db, layers, shared, bounds.max_cache), ledger),
        })
    }

    /// How many nodes are connected, now and from now on.
    #[must_use]
    pub fn node_count(&self) -> watch::Receiver<usize> {
        self.broker.node_count()
    }

    /// Serves all who connect until `shutdown` is cancelled, then ends their sessions and frees what they own.
    ///
    /// # Errors
    ///
    /// When the listener fails for good.
    pub async fn serve(
        self,
        mut listener: impl Listen,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let host = Arc::new(Host {
            acceptor: self.acceptor,
            residents: self.residents,
            accounts: self.accounts,
            broker: self.broker,
            linger: self.linger,
            strangers: Connected::default(),
            connected: Connected::default(),
            sessions: TaskTracker::new(),
            shutdown: shutdown.clone(),
            nodes_shutdown: CancellationToken::new(),
        });
        let mut connections = JoinSet::new();
        match host.broker.recover().await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(
                    "containers of sessions from before, which may be continued: {count}"
                );
                let (host, ending) = (Arc::clone(&host), shutdown.clone());
                host.sessions.clone().spawn(async move {
                    host.broker.free_orphans(host.linger, &ending).await;
                });
            }
            Err(error) => tracing::warn!("containers from before cannot be found: {error}"),
        }
        // What was found is held by now.
        if let Some(most) = host.broker.images().max_cache() {
            connections.spawn(cache::keep(host.broker.clone(), most, shutdown.clone()));
        }
        let result = loop {
            tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok(transport) => {
                        let host = Arc::clone(&host);
                        connections.spawn(async move { host.serve(transport).await });
                    }
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Err(error),
                    Err(error) => {
                        tracing::warn!("cannot take a connection now: {error}");
                        tokio::time::sleep(LISTENER_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        };
        // Sessions first: what they own is freed on the nodes, which must still be there for it.
        shutdown.cancel();
        host.sessions.close();
        host.sessions.wait().await;
        host.nodes_shutdown.cancel();
        while connections.join_next().await.is_some() {}
        result
    }
}

/// What every connection needs.
struct Host {
    acceptor: Acceptor,
    residents: HashMap<PublicKey, Principal>,
    accounts: Accounts,
    broker: Broker,
    /// How long what was left by a location that was killed is kept for its clients.
    linger: Duration,
    /// Connections that have not said yet whose they are.
    strangers: Connected,
    /// All others.
    connected: Connected,
    /// Sessions of clients that are being served.
    sessions: TaskTracker,
    /// Ends sessions of clients.
    shutdown: CancellationToken,
    /// Ends links to nodes.
    nodes_shutdown: CancellationToken,
}

impl Host {
    /// Finds out who has connected, and serves them.
    async fn serve(&self, transport: Box<dyn Transport>) {
        let crowded_out = self.shutdown.child_token();
        let stranger = self.strangers.enter_stranger(crowded_out.clone());
        let handshake = self
            .acceptor
            .handshake(transport, async |applicant: &Applicant| {
                self.admit(applicant).await
            });
        let accepted = tokio::select! {
            () = crowded_out.cancelled() => return,
            accepted = handshake => accepted,
        };
        drop(stranger);
        let session = match accepted {
            Ok(Accepted::New(session)) => session,
            Ok(Accepted::Resumed) => return,
            Err(error) => return tracing::debug!("a connection was dropped: {error}"),
        };
        let (link, incoming) = (session.link, session.incoming);
        let Some(principal) = self.settle(session.peer, session.admission).await else {
            return link.close().await;
        };
        let shutdown = match principal {
            Principal::Node(_) => &self.nodes_shutdown,
            _ => &self.shutdown,
        };
        let ending = shutdown.child_token();
        let _place = self.connected.enter(principal.clone(), ending.clone());
        // Whoever is revoked from here on is found in the list; whoever was before is not known any more.
        if self.known(session.peer).await.as_ref() != Some(&principal) {
            return link.close().await;
        }
        let closing = close_on(&ending, &link);
        let broker = self.broker.clone();
        match principal {
            Principal::User(user) => {
                let serving = self.sessions.track_future(session::serve(
                    link.clone(),
                    incoming,
                    broker,
                    user,
                    session.agent,
                    ending.clone(),
                ));
                tokio::join!(serving, closing);
            }
            Principal::Administrator => {
                let (accounts, connected) = (self.accounts.clone(), self.connected.clone());
                let office = admin::Office {
                    accounts,
                    broker,
                    connected,
                };
                tokio::join!(admin::serve(incoming, office), closing);
            }
            Principal::Node(node) => {
                tokio::join!(agent::serve(link.clone(), incoming, broker, node), closing);
            }
        }
    }

    /// Decides about an applicant. Changes nothing, since the peer may be a recording; see [`Host::settle`].
    async fn admit(&self, applicant: &Applicant) -> Option<Admission> {
        let known = self.known(applicant.key).await;
        let node = applicant.role == Role::Node;
        match (known, &applicant.token) {
            (Some(principal), _) if matches!(principal, Principal::Node(_)) == node => {
                Some(Admission::Known(principal))
            }
            (None, Some(token))
                if self
                    .accounts
                    .is_invited(token.clone(), node, now())
                    .await
                    .ok()? =>
            {
                Some(Admission::Invited(token.clone()))
            }
            _ => None,
        }
    }

    /// Who has this key.
    async fn known(&self, key: PublicKey) -> Option<Principal> {
        match self.residents.get(&key) {
            Some(resident) => Some(resident.clone()),
            None => self.accounts.find(key).await.ok()?,
        }
    }

    /// Who a peer is that was admitted and has proved to be there: an invitation is used up now.
    async fn settle(&self, key: PublicKey, admission: Admission) -> Option<Principal> {
        match admission {
            Admission::Known(principal) => Some(principal),
            Admission::Invited(token) => self.accounts.join(key, token, now()).await.ok()?,
        }
    }
}

/// Why a peer was let in.
enum Admission {
    /// Its key is known.
    Known(Principal),
    /// It has the token of an invitation.
    Invited(String),
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// Closes the link when asked to; ends when the link has ended for whatever reason.
async fn close_on(shutdown: &CancellationToken, link: &Link) {
    tokio::select! {
        () = shutdown.cancelled() => link.close().await,
        _ = link.closed() => {}
    }
}

/// Makes a directory that only its owner can look into.
fn make_private(directory: &std::path::Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
