//! A location and a node inside this process, for those who have configured none.
//!
//! Everything goes the way it goes over a network, through the same handshakes and messages, only that the connections
//! are in memory. The keys are made for the occasion and known to nobody else. The state directory may be shared: any
//! number of processes can run on one at a time, and each finds the images that the others have stored.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::ids::{NodeId, UserId};
use crate::keyring::{Account, Keyring, with_port};
use crate::keys::SecretKey;
use crate::link::{MemoryDial, TcpDial, memory};
use crate::location::{Bounds, Options, Principal, Server};
use crate::node::engine::Engine;
#[cfg(target_os = "linux")]
use crate::node::engine::{EngineError, linux::LinuxEngine};
use crate::sdk::{Dialler, Error, Host};
use crate::serve::start_in_process;

/// The user that an embedded location serves: the same each time, so that images are found again.
const USER: &str = "embedded00000000000000";

/// What runs in this process.
struct Embedded {
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    agent: Option<JoinHandle<()>>,
}

/// What a connection is for. An embedded location gets ready for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run containers.
    Run,
    /// To look at images and whatever else is there, and to change it.
    Manage,
}

/// The way to the location that this user has configured, or else to an embedded one that is started now.
///
/// # Errors
///
/// When the user's account cannot be used, or the embedded location has nowhere to keep its state.
pub async fn dialler(config: &Config) -> Result<Dialler, Error> {
    dialler_for(config, Purpose::Run).await
}

/// [`dialler`] for a purpose.
///
/// # Errors
///
/// As [`dialler`].
pub async fn dialler_for(config: &Config, purpose: Purpose) -> Result<Dialler, Error> {
    let keyring = Keyring::new(&config.home);
    let name = match &config.location {
        Some(name) => Some(keyring.complete(name)?),
        None => keyring.default_name()?,
    };
    if let Some(name) = name {
        Ok(remote(keyring.account(&name)?, config))
    } else {
        let bounds = Bounds {
            max_cache: config.max_cache,
            ..Bounds::default()
        };
        let engine = engine(config, purpose)?;
        let dialler = start_within(&config.state, engine, purpose, bounds).await?;
        Ok(Dialler {
            cache: Some(config.cache.clone()),
            ..dialler
        })
    }
}

/// The way to the location of an account, at its own address or another.
fn remote(account: Account, config: &Config) -> Dialler {
    let Account {
        name,
        address: own,
        secret,
        location,
    } = account;
    let address = config.address.as_deref().map_or(own, with_port);
    Dialler {
        name,
        dial: Arc::new(TcpDial::new(address)),
        identity: secret,
        location,
        linger: None,
        cache: Some(config.cache.clone()),
        host: None,
    }
}

#[cfg(target_os = "linux")]
fn engine(config: &Config, purpose: Purpose) -> Result<Option<Arc<dyn Engine>>, Error> {
    match LinuxEngine::open(&config.state) {
        Ok(engine) => Ok(Some(Arc::new(engine))),
        // Whoever may not run containers may still look at images.
        Err(EngineError::Privilege(_)) if purpose == Purpose::Manage => Ok(None),
        Err(error) => Err(Error::Embedded(std::io::Error::other(error))),
    }
}

#[cfg(not(target_os = "linux"))]
fn engine(_config: &Config, _purpose: Purpose) -> Result<Option<Arc<dyn Engine>>, Error> {
    Ok(None)
}

/// Starts a location on a state directory, with a node in it if there is an engine for one, and returns the way to it.
///
/// # Errors
///
/// When the state directory cannot be used.
pub async fn start(
    state: &Path,
    engine: Option<Arc<dyn Engine>>,
    purpose: Purpose,
) -> Result<Dialler, Error> {
    start_within(state, engine, purpose, Bounds::default()).await
}

async fn start_within(
    state: &Path,
    engine: Option<Arc<dyn Engine>>,
    purpose: Purpose,
    bounds: Bounds,
) -> Result<Dialler, Error> {
    if let (Some(engine), Purpose::Run) = (&engine, purpose) {
        let engine = Arc::clone(engine);
        // On its way while the client still looks for its image. An error shows again when the first container is made.
        tokio::spawn(async move { engine.prepare().await });
    }
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::Embedded(std::io::Error::other(error))
    };
    let (location_key, client_key, node_key) = (
        SecretKey::generate(),
        SecretKey::generate(),
        SecretKey::generate(),
    );
    let user: UserId = USER.parse().expect("the user's id is well formed");
    let residents = HashMap::from([
        (client_key.public(), Principal::User(user)),
        (node_key.public(), Principal::Node(NodeId::random())),
    ]);
    let location = location_key.public();
    let server = Server::open(Options {
        state: state.to_owned(),
        identity: location_key,
        residents,
        shared: false,
        bounds,
        lasting: false,
    })
    .map_err(|error| failed(error.into()))?;
    let (dial, listener) = memory();
    let shutdown = CancellationToken::new();
    let nodes = server.node_count();
    let server = tokio::spawn(server.serve(listener, shutdown.clone()));

    let agent = match engine {
        None => None,
        Some(engine) => {
            let started =
                start_in_process(engine, state, dial.clone(), node_key, location, nodes).await;
            Some(started.map_err(|error| failed(error.into()))?)
        }
    };
    Ok(Dialler {
        name: "in this process".to_owned(),
        dial: Arc::<MemoryDial>::new(dial),
        identity: client_key,
        location,
        linger: None,
        cache: None,
        host: Some(Box::new(Embedded {
            shutdown,
            server,
            agent,
        })),
    })
}

impl Host for Embedded {
    fn shutdown(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.shutdown.cancel();
            // Ends the sessions, then the link to the node, which ends the agent, and with it the engine.
            if let Ok(Err(error)) = self.server.await {
                tracing::warn!("the embedded location ended badly: {error}");
            }
            if let Some(agent) = self.agent {
                let _ = agent.await;
            }
        })
    }
}
