//! A location for several users in the process of the test, with a node whose containers are functions.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tfnz::ids::NodeId;
use tfnz::image::Image;
use tfnz::keys::{PublicKey, SecretKey};
use tfnz::link::{ConnectOptions, Dial, Link, MemoryDial, connect, memory};
use tfnz::location::{Bounds, Options, Principal, Server};
use tfnz::node::engine::fake::FakeEngine;
use tfnz::protocol::handshake::Role;
use tfnz::protocol::limits::{LimitChanges, LimitsInfo};
use tfnz::protocol::messages::{Invite, ListAccounts, ListLimits, ListNodes, SetLimits};
use tfnz::sdk::{Dialler, Error, Location};
use tfnz::serve::start_in_process;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::images::{Compression, layer, saved};

/// A location that runs until it is dropped.
pub(crate) struct Inside {
    pub(crate) state: TempDir,
    pub(crate) administrator: Link,
    dial: MemoryDial,
    key: PublicKey,
    _shutdown: DropGuard,
}

/// Somebody who has joined.
pub(crate) struct Member {
    pub(crate) id: String,
    dial: MemoryDial,
    secret: SecretKey,
    location: PublicKey,
}

impl Inside {
    pub(crate) async fn open(bounds: Bounds) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        Self::on(state, bounds).await
    }

    /// On a state directory that may have been used before.
    pub(crate) async fn on(state: TempDir, bounds: Bounds) -> Self {
        let (identity, node) = (SecretKey::generate(), SecretKey::generate());
        let key = identity.public();
        let administrator = identity.clone();
        let server = Server::open(Options {
            state: state.path().to_owned(),
            identity,
            residents: HashMap::from([
                (key, Principal::Administrator),
                (node.public(), Principal::Node(NodeId::random())),
            ]),
            shared: true,
            bounds,
            lasting: false,
        })
        .expect("a location");
        let (dial, listener) = memory();
        let shutdown = CancellationToken::new();
        let nodes = server.node_count();
        tokio::spawn(server.serve(listener, shutdown.clone()));
        let engine = Arc::new(FakeEngine::new());
        start_in_process(engine, state.path(), dial.clone(), node, key, nodes)
            .await
            .expect("a node");
        let options = options(administrator, key, None);
        let linked = connect(Arc::new(dial.clone()), options).await;
        Self {
            state,
            administrator: linked.expect("an administrator").0,
            dial,
            key,
            _shutdown: shutdown.drop_guard(),
        }
    }

    /// Lets somebody join.
    pub(crate) async fn member(&self, name: &str) -> Member {
        let invite = Invite {
            node: false,
            name: name.to_owned(),
            expires: super::PATIENCE,
        };
        let invited = self
            .administrator
            .call(&invite)
            .await
            .expect("an invitation");
        let secret = SecretKey::generate();
        let options = options(secret.clone(), self.key, Some(invited.token));
        let linked = connect(Arc::new(self.dial.clone()), options).await;
        let (link, _incoming) = linked.expect("a link");
        // Whatever it is answered: only somebody who is known is.
        let _ = link.call(&ListNodes {}).await;
        link.close().await;
        let list = ListAccounts { nodes: false };
        let accounts = self.administrator.call(&list).await.expect("accounts");
        let account = accounts.into_iter().find(|account| account.name == name);
        Member {
            id: account.expect("an account").id,
            dial: self.dial.clone(),
            secret,
            location: self.key,
        }
    }

    /// An image of layers with so many bytes of noise each, by their seeds.
    pub(crate) async fn image(&self, location: &Location, layers: &[(u64, usize)]) -> Image {
        let path = self.state.path().join(format!("{layers:?}.tar"));
        write_image(&path, layers);
        let image = location.resolve(path.to_str().expect("text")).await;
        image.expect("an image")
    }

    /// Changes limits.
    pub(crate) async fn limit(&self, who: Option<&str>, limits: LimitChanges) -> u32 {
        let who = who.map(str::to_owned);
        let set = self.administrator.call(&SetLimits { who, limits }).await;
        set.expect("they are set")
    }

    /// The limits of a user, and what they use.
    pub(crate) async fn limits_of(&self, member: &Member) -> LimitsInfo {
        let all = self.administrator.call(&ListLimits {}).await;
        let mut all = all.expect("limits").into_iter();
        let own = all.find(|limits| limits.id.as_ref() == Some(&member.id));
        own.expect("limits of the user")
    }
}

impl Member {
    /// The way to the location.
    pub(crate) fn dial(&self) -> MemoryDial {
        self.dial.clone()
    }

    pub(crate) async fn connect(&self) -> Result<Location, Error> {
        self.connect_by(self.dial()).await
    }

    /// A session without the SDK.
    pub(crate) async fn link(&self) -> Link {
        let options = options(self.secret.clone(), self.location, None);
        let linked = connect(Arc::new(self.dial()), options).await;
        linked.expect("a link").0
    }

    /// Connects by another way.
    pub(crate) async fn connect_by(&self, dial: impl Dial) -> Result<Location, Error> {
        let dialler = Dialler {
            name: "inside".to_owned(),
            dial: Arc::new(dial),
            identity: self.secret.clone(),
            location: self.location,
            linger: None,
            cache: None,
            host: None,
        };
        Location::connect(dialler).await
    }

    pub(crate) async fn connected(&self) -> Location {
        self.connect().await.expect("a session")
    }
}

fn options(identity: SecretKey, location: PublicKey, token: Option<String>) -> ConnectOptions {
    ConnectOptions {
        identity,
        location,
        role: Role::Client,
        agent: "test".to_owned(),
        token,
        linger: None,
    }
}

/// Bytes that no compression makes fewer, different for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The archive of such an image.
pub(crate) fn write_image(path: &Path, layers: &[(u64, usize)]) {
    let layers: Vec<Vec<u8>> = layers
        .iter()
        .map(|(seed, length)| layer(&[("noise", &noise(*seed, *length))]))
        .collect();
    saved(&layers, Compression::Plain, "linux/amd64", "noise:1")
        .write_tar(path, Compression::Plain);
}
