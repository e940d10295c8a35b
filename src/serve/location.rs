//! A location that serves others, with a node in the same process unless it is to have none.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, lookup_host};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::notify::{READY, STOPPING, notify};
use super::{Error, engine, raise_descriptor_limit, start_in_process};
use crate::ids::{Digest, NodeId};
use crate::keys::{PublicKey, SecretKey};
#[cfg(unix)]
use crate::link::LocalListener;
use crate::link::{Listen, Listeners, MemoryDial, memory};
pub use crate::location::Bounds;
use crate::location::{Claim, Home, Options, Principal, Profile, Server};
use crate::node::engine::Engine;
use crate::node::hostname;
use crate::tcp;

/// Where a location listens if it is not told: all addresses of the machine, of both kinds where there are both.
pub const DEFAULT_LISTEN: [&str; 2] = ["[::]:5555", "0.0.0.0:5555"];

/// What a location is started with.
#[derive(Debug, Clone)]
pub struct LocationOptions {
    /// Directory of its state.
    pub state: PathBuf,
    /// Address to listen on, `ADDR`, `ADDR:PORT` or `:PORT`; the first of [`DEFAULT_LISTEN`] that works if not given.
    pub listen: Option<String>,
    /// Its name; what it was called before, or the machine's name, if not given.
    pub name: Option<String>,
    /// Whether this machine is a node of it, too.
    pub node: bool,
    /// What it gives at most.
    pub bounds: Bounds,
}

/// A location that is being served.
pub struct LocationServer {
    profile: Profile,
    address: SocketAddr,
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    agent: Option<JoinHandle<()>>,
    /// Its listener would fail without it.
    _dial: MemoryDial,
    _claim: Claim,
}

impl LocationServer {
    /// Starts a location, with new keys and state if there are none yet.
    ///
    /// # Errors
    ///
    /// When its state is in use by another process or cannot be used, the address is taken, or containers cannot be run
    /// here although they are to be.
    pub async fn start(options: LocationOptions) -> Result<Self, Error> {
        raise_descriptor_limit();
        let state = &options.state;
        let name = options.name.as_deref().map(checked).transpose()?;
        let home = Home::open(state)?;
        let claim = home.claim()?;
        let engine = if options.node {
            Some(engine(state, options.bounds.max_linger)?)
        } else {
            None
        };
        let identity = home.identity()?;
        let key = identity.public();
        let tcp = listen(options.listen.as_deref()).await?;
        let address = tcp.local_addr()?;
        let profile = profile(&home, name, address)?;

        let node_key = SecretKey::generate();
        let residents = HashMap::from([
            (key, Principal::Administrator),
            (node_key.public(), Principal::Node(own_node(&key))),
        ]);
        let server = Server::open(Options {
            state: state.clone(),
            identity,
            residents,
            shared: true,
            bounds: options.bounds,
            lasting: true,
        })?;
        let nodes = server.node_count();
        let (dial, in_process) = memory();
        let mut listeners: Vec<Box<dyn Listen>> = vec![Box::new(tcp), Box::new(in_process)];
        #[cfg(unix)]
        listeners.push(Box::new(admin_listener(&home)?));
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(server.serve(Listeners::new(listeners), shutdown.clone()));
        let mut started = Self {
            profile,
            address,
            shutdown,
            server,
            agent: None,
            _dial: dial.clone(),
            _claim: claim,
        };
        if let Some(engine) = engine {
            prepare(&engine);
            let agent = start_in_process(engine, state, dial, node_key, key, nodes);
            let connected = agent.await.map_err(|source| Error::Connect {
                peer: "the location in this process".to_owned(),
                source,
            });
            match connected {
                Ok(agent) => started.agent = Some(agent),
                Err(error) => {
                    let _ = started.stop().await;
                    return Err(error);
                }
            }
        }
        Ok(started)
    }

    /// What invitations say of it.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until somebody asks for its end, then ends all sessions and frees what they own.
    ///
    /// # Errors
    ///
    /// When it has to stop by itself.
    pub async fn serve(mut self, asked: impl Future) -> Result<(), Error> {
        notify(READY);
        tokio::select! {
            _ = asked => {
                notify(STOPPING);
                self.stop().await
            }
            ended = &mut self.server => ended.map_err(std::io::Error::other)?.map_err(Error::from),
        }
    }

    async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        self.server.await.map_err(std::io::Error::other)??;
        if let Some(agent) = self.agent {
            // Its link has been closed by the location, and so it ends.
            agent.await.map_err(std::io::Error::other)?;
        }
        Ok(())
    }
}

/// Has an engine do what it can before the first container is asked for. An error shows again with that.
fn prepare(engine: &Arc<dyn Engine>) {
    let engine = Arc::clone(engine);
    tokio::spawn(async move { engine.prepare().await });
}

/// The name of the node in the location's own process: the same at each start.
fn own_node(location: &PublicKey) -> NodeId {
    let name = Digest::of(location.as_bytes()).hex();
    name[..22].parse().expect("22 hexadecimal digits are an id")
}

async fn listen(address: Option<&str>) -> Result<TcpListener, Error> {
    let candidates = match address {
        Some(address) => vec![complete(address)],
        None => DEFAULT_LISTEN.map(str::to_owned).to_vec(),
    };
    let mut failure = None;
    for address in candidates {
        match bind(&address).await {
            Ok(listener) => return Ok(listener),
            Err(source) => failure = Some(Error::Listen { address, source }),
        }
    }
    Err(failure.expect("there is at least one candidate"))
}

/// Listens on the first address that can be listened on.
async fn bind(address: &str) -> std::io::Result<TcpListener> {
    let mut failure = None;
    for address in lookup_host(address).await? {
        match tcp::listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()))
}

/// An address to listen on, with all its parts.
fn complete(address: &str) -> String {
    match address.strip_prefix(':') {
        Some(port) if port.parse::<u16>().is_ok() => format!("0.0.0.0:{port}"),
        _ => crate::keyring::with_port(address),
    }
}

#[cfg(unix)]
fn admin_listener(home: &Home) -> Result<LocalListener, Error> {
    let path = home.admin_socket();
    LocalListener::bind(&path).map_err(|source| Error::Listen {
        address: path.display().to_string(),
        source,
    })
}

/// What the location tells of itself from now on.
fn profile(home: &Home, name: Option<String>, address: SocketAddr) -> Result<Profile, Error> {
    let former = home.profile()?;
    let name = name.or_else(|| former.as_ref().map(|profile| profile.name.clone()));
    let profile = Profile {
        name: name.unwrap_or_else(|| name_of(&hostname())),
        address: match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => format!("{}:{}", hostname(), address.port()),
            IpAddr::V6(ip) if ip.is_unspecified() => format!("{}:{}", hostname(), address.port()),
            _ => address.to_string(),
        },
    };
    if former.as_ref() != Some(&profile) {
        home.set_profile(&profile)?;
    }
    Ok(profile)
}

/// A name that was asked for, if it can be one.
fn checked(name: &str) -> Result<String, Error> {
    if name == name_of(name) {
        Ok(name.to_owned())
    } else {
        Err(Error::BadName(name.to_owned()))
    }
}

/// A machine's name as that of a location.
fn name_of(hostname: &str) -> String {
    let allowed = |char: &char| char.is_ascii_alphanumeric() || "-_.".contains(*char);
    let name: String = hostname.chars().filter(allowed).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "location" } else { name }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::DEFAULT_PORT;

    #[test]
    fn addresses_are_completed() {
        for (given, complete_one) in [
            (":7000", "0.0.0.0:7000".to_owned()),
            ("192.0.2.1", format!("192.0.2.1:{DEFAULT_PORT}")),
            ("::", format!("[::]:{DEFAULT_PORT}")),
            ("[::1]:0", "[::1]:0".to_owned()),
        ] {
            assert_eq!(complete(given), complete_one);
        }
        for address in DEFAULT_LISTEN {
            assert_eq!(complete(address), address);
        }
    }

    #[test]
    fn names_are_names_of_files() {
        assert_eq!(name_of("web1.example"), "web1.example");
        assert_eq!(name_of(".\u{e4}/"), "location");
        assert!(checked("here").is_ok());
        for name in ["", ".", "a/b", "a b", "\u{e4}"] {
            assert!(matches!(checked(name), Err(Error::BadName(_))), "{name}");
        }
    }

    #[test]
    fn a_location_keeps_its_name() {
        let state = tempfile::tempdir().unwrap();
        let home = Home::open(state.path()).unwrap();
        let address: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let first = profile(&home, Some("here".to_owned()), address).unwrap();
        assert_eq!(first.address, "127.0.0.1:7");
        let later = profile(&home, None, "0.0.0.0:8".parse().unwrap()).unwrap();
        assert_eq!(later.name, "here");
        assert_eq!(later.address, format!("{}:8", hostname()));
    }

    #[test]
    fn the_own_node_has_one_name() {
        let (one, other) = (
            SecretKey::generate().public(),
            SecretKey::generate().public(),
        );
        assert_eq!(own_node(&one), own_node(&one));
        assert_ne!(own_node(&one), own_node(&other));
    }
}
