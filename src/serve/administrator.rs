//! Access to a location as its administrator, for whoever can read its key: through its socket while it serves, or else to
//! one that is opened in this process for the purpose. The calls are the same.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Error, connect_options};
use crate::invitation::Invitation;
use crate::keys::PublicKey;
use crate::link::{CallError, Dial, Link, MemoryDial, connect, memory};
#[cfg(unix)]
use crate::link::{ConnectError, LocalDial};
use crate::location::{Bounds, Claim, Home, HomeError, Options, Principal, Profile, Server};
use crate::protocol::handshake::Role;
use crate::protocol::limits::{LimitChanges, LimitsInfo};
use crate::protocol::messages::{
    AccountInfo, FaultCode, Invite, ListAccounts, ListLimits, ListNodes, ListSessions, NodeInfo,
    Revoke, SessionInfo, SetLimits, ShowOut, ShownOut,
};

/// How long a location that is just being started or stopped is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection to a location as its administrator.
pub struct Administrator {
    link: Link,
    key: PublicKey,
    home: Home,
    inside: Option<Inside>,
}

/// A location that was opened in this process.
struct Inside {
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    /// Its listener would fail without it.
    _dial: MemoryDial,
    _claim: Claim,
}

impl Administrator {
    /// Connects to the location of a state directory.
    ///
    /// # Errors
    ///
    /// When there is none, or its files cannot be read.
    pub async fn connect(state: &Path) -> Result<Self, Error> {
        let home = Home::find(state).ok_or_else(|| Error::NoLocation(state.to_owned()))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(connected) = outside(&home).await? {
                return Ok(connected);
            }
            match home.claim() {
                Ok(claim) => return inside(home, state, claim).await,
                // It is being started, and will listen in a moment, or is being stopped.
                Err(HomeError::Claimed(_)) if Instant::now() < deadline => sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the location tells of itself, if it has served before.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn profile(&self) -> Result<Option<Profile>, Error> {
        Ok(self.home.profile()?)
    }

    /// A new invitation, for `name` to join as a user or a node, that leads to what `profile` says.
    ///
    /// # Errors
    ///
    /// When the name cannot be one.
    pub async fn invite(
        &self,
        name: &str,
        node: bool,
        expires: Duration,
        profile: Profile,
    ) -> Result<Invitation, Error> {
        let invite = Invite {
            node,
            name: name.to_owned(),
            expires,
        };
        let token = self.link.call(&invite).await?.token;
        Ok(Invitation {
            name: profile.name,
            address: profile.address,
            location: self.key,
            token,
            node,
        })
    }

    /// Users, or nodes, that have joined.
    ///
    /// # Errors
    ///
    /// When the location has gone.
    pub async fn accounts(&self, nodes: bool) -> Result<Vec<AccountInfo>, Error> {
        Ok(self.link.call(&ListAccounts { nodes }).await?)
    }

    /// Nodes that are connected.
    ///
    /// # Errors
    ///
    /// When the location has gone.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, Error> {
        Ok(self.link.call(&ListNodes {}).await?)
    }

    /// Sessions of clients.
    ///
    /// # Errors
    ///
    /// When the location has gone.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, Error> {
        Ok(self.link.call(&ListSessions {}).await?)
    }

    /// Forgets the accounts and invitations of a name, or the account with an id, and ends their sessions. Returns how many
    /// that were.
    ///
    /// # Errors
    ///
    /// When the location has gone.
    pub async fn revoke(&self, who: &str) -> Result<ShownOut, Error> {
        let who = who.to_owned();
        match self.link.call(&ShowOut { who: who.clone() }).await {
            // A location that has been serving since before its program was brought up to date.
            Err(CallError::Fault(fault)) if fault.code == FaultCode::UnknownMessage => {
                Ok(ShownOut {
                    accounts: self.link.call(&Revoke { who }).await?,
                    invitations: 0,
                })
            }
            shown => Ok(shown?),
        }
    }

    /// Changes the limits of the users with this name or id, or, with none, those of all users without their own. Returns the
    /// number of users.
    ///
    /// # Errors
    ///
    /// When the location has gone.
    pub async fn set_limits(
        &self,
        who: Option<String>,
        limits: LimitChanges,
    ) -> Result<u32, Error> {
        Ok(self.link.call(&SetLimits { who, limits }).await?)
    }

    /// The default limits, and then those of all users, with what is used of them.
    ///
    /// # Errors
    ///
    /// When the location has gone.
    pub async fn limits(&self) -> Result<Vec<LimitsInfo>, Error> {
        Ok(self.link.call(&ListLimits {}).await?)
    }

    /// Ends the connection, and the location if it was opened for it.
    pub async fn close(self) {
        self.link.close().await;
        if let Some(inside) = self.inside {
            inside.shutdown.cancel();
            if let Ok(Err(error)) = inside.server.await {
                tracing::warn!("the location ended badly: {error}");
            }
        }
    }
}

/// Connects to the process that serves, if there is one.
#[cfg(unix)]
async fn outside(home: &Home) -> Result<Option<Administrator>, Error> {
    let dial = Arc::new(LocalDial::new(home.admin_socket()));
    match administer(home.clone(), dial, None).await {
        Err(Error::Connect {
            source: ConnectError::Dial(_) | ConnectError::Broken(_),
            ..
        }) => Ok(None),
        connected => connected.map(Some),
    }
}

#[cfg(not(unix))]
async fn outside(_home: &Home) -> Result<Option<Administrator>, Error> {
    Ok(None)
}

/// Opens the location in this process.
async fn inside(home: Home, state: &Path, claim: Claim) -> Result<Administrator, Error> {
    let identity = home.identity()?;
    let server = Server::open(Options {
        state: state.to_owned(),
        residents: HashMap::from([(identity.public(), Principal::Administrator)]),
        identity,
        shared: true,
        bounds: Bounds::default(),
        lasting: false,
    })?;
    let (dial, listener) = memory();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(server.serve(listener, shutdown.clone()));
    let inside = Inside {
        shutdown,
        server,
        _dial: dial.clone(),
        _claim: claim,
    };
    administer(home, Arc::new(dial), Some(inside)).await
}

async fn administer(
    home: Home,
    dial: Arc<dyn Dial>,
    inside: Option<Inside>,
) -> Result<Administrator, Error> {
    let identity = home.identity()?;
    let key = identity.public();
    let options = connect_options(identity, key, Role::Client, None);
    let connected = connect(dial, options).await;
    let (link, _) = connected.map_err(|source| Error::Connect {
        peer: "the location".to_owned(),
        source,
    })?;
    Ok(Administrator {
        link,
        key,
        home,
        inside,
    })
}
