//! The engine that makes containers of Linux namespaces.
//!
//! ```text
//!  LinuxEngine ── instance    which of the machine's engines this is; sweeps what dead ones left
//!     │       ├── layers      unpacked layers on disk
//!     │       ├── network     bridge, addresses, firewall, connections into containers
//!     │       └── client ═══ control ═══ shim      makes processes; dies with the engine
//!     └── container ── process
//! ```
//!
//! The shim of a node that serves others does not die with the engine: it keeps the containers for a while (`custody`), and
//! the next engine on the same state directory takes it over (`takeover`).
//!
//! A container is in user, pid, network, mount, ipc, uts and cgroup namespaces of its own. Its root is an ordinary user of
//! the machine, with ids that no other container has. It has Docker's default capabilities and system calls, gains no
//! privileges, and can open no device but the harmless ones.

mod cgroups;
mod client;
mod container;
mod control;
mod custody;
mod explain;
mod heritage;
mod ids;
mod instance;
pub mod layers;
pub mod network;
mod process;
mod shim;
mod stream;
mod sys;
mod takeover;
mod terminal;
pub mod unpack;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncRead;
use tokio::sync::OnceCell;

use self::cgroups::Hierarchies;
use self::client::Shim;
use self::container::{LinuxContainer, Workshop};
use self::control::Setup;
use self::explain::{explain, needs_root};
use self::ids::Ranges;
use self::instance::Instance;
use self::layers::Store;
use self::network::Network;
use self::takeover::Heritage;
use super::{Adopted, Container, Engine, EngineError, Spec};
use crate::ids::Digest;

/// Program that shims run, where it is not the running one.
static SHIM_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Becomes a shim, and does not return, if this program was executed to be one. See [`crate::init_if_asked`].
pub(crate) fn init_if_asked() {
    if std::env::args_os().nth(1).as_deref() == Some(shim::ARGUMENT.as_ref()) {
        shim::main();
    }
}

/// Names a program that calls [`crate::init_if_asked`] first thing in `main`, for processes whose own `main` does not: test
/// harnesses. Only the first call counts.
pub fn use_shim_program(program: impl Into<PathBuf>) {
    let _ = SHIM_PROGRAM.set(program.into());
}

/// Makes containers of Linux namespaces. Needs root.
pub struct LinuxEngine {
    state: PathBuf,
    instance: Arc<Instance>,
    store: Store,
    ranges: Arc<Ranges>,
    /// How long containers outlive the process, if they do.
    lease: Option<Duration>,
    /// What an engine that has died has left, until it is looked through.
    heritage: Mutex<Option<Heritage>>,
    /// What was found in that, until somebody asks.
    adopted: Mutex<Vec<Adopted>>,
    workshop: OnceCell<Arc<Workshop>>,
    /// Whether the workshop was asked for, and so is there or is being set up.
    asked: AtomicBool,
    removals: tokio_util::task::TaskTracker,
}

impl LinuxEngine {
    /// An engine with the state directory `state`, which others can use at the same time. Sweeps what engines that were
    /// killed have left on the machine.
    ///
    /// # Errors
    ///
    /// [`EngineError::Privilege`] without root; otherwise when the state directory or the machine cannot be used.
    pub fn open(state: &Path) -> Result<Self, EngineError> {
        let state = state_directory(state)?;
        let instance = Instance::take(&state)?;
        Self::with(state, instance, None, None)
    }

    /// As [`Self::open`], for a node that serves others. When its process dies without [`Engine::shutdown`], the containers run
    /// on for `lease`. Who opens the state directory in the same way within that time has them from then on: see
    /// [`Engine::adopt`]. Nobody takes them from a process that lives.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_lasting(state: &Path, lease: Duration) -> Result<Self, EngineError> {
        let state = state_directory(state)?;
        let heritage = takeover::take_over(&state)?;
        let instance = match &heritage {
            Some(heritage) => Instance::resume(heritage, &state)?,
            None => Instance::take(&state)?,
        };
        Self::with(state, instance, Some(lease), heritage)
    }

    fn with(
        state: PathBuf,
        instance: Instance,
        lease: Option<Duration>,
        heritage: Option<Heritage>,
    ) -> Result<Self, EngineError> {
        let store = Store::open(&state.join("layers"))?;
        Ok(Self {
            ranges: Ranges::new(instance.slot()),
            state,
            instance: Arc::new(instance),
            store,
            lease,
            // To be ended in order, also if nobody asks for what is in there.
            asked: AtomicBool::new(heritage.is_some()),
            heritage: Mutex::new(heritage),
            adopted: Mutex::default(),
            workshop: OnceCell::new(),
            removals: tokio_util::task::TaskTracker::new(),
        })
    }

    async fn workshop(&self) -> Result<&Arc<Workshop>, EngineError> {
        self.asked.store(true, Ordering::Relaxed);
        self.workshop.get_or_try_init(|| self.set_up()).await
    }

    async fn set_up(&self) -> Result<Arc<Workshop>, EngineError> {
        let heritage = locked(&self.heritage).take();
        if let Some(heritage) = heritage {
            match self.resume(heritage).await {
                Ok(workshop) => return Ok(workshop),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "containers that an earlier process has left are ended, as they cannot be taken back"
                    );
                    self.sweep_own().await?;
                }
            }
        }
        self.start().await
    }

    /// Sets up everything anew.
    async fn start(&self) -> Result<Arc<Workshop>, EngineError> {
        let failed = |source| self.set_up_failed(source);
        let rooms = self.rooms().map_err(failed)?;
        let program = SHIM_PROGRAM
            .get()
            .cloned()
            .unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let setup = Setup {
            layers: rooms.layers.clone(),
            containers: rooms.containers.clone(),
            lease: self.lease,
            cgroup: cgroups::instance(self.instance.slot()),
        };
        let mut descriptors = vec![self.instance.lock().map_err(failed)?.into()];
        if self.lease.is_some() {
            descriptors.push(self.instance.listen().map_err(failed)?);
        }
        let (shim, network) = tokio::join!(
            Shim::start(program, setup, descriptors),
            make_network(self.instance.slot())
        );
        let shim = shim.map_err(|problem| explain(problem, &self.state))?;
        let network = network?;
        if shim.is_lasting() {
            let (legacy, netns, filter) = network.leave().map_err(failed)?;
            let descriptors = vec![Some(netns), filter];
            container::keep(&shim, custody::ENGINE, None, vec![], &legacy, descriptors)
                .await
                .map_err(|problem| explain(problem, &self.state))?;
        }
        self.furnish(shim, network, rooms)
    }

    fn furnish(
        &self,
        shim: Shim,
        network: Network,
        rooms: Rooms,
    ) -> Result<Arc<Workshop>, EngineError> {
        let hierarchies = Hierarchies::find().map_err(|source| self.set_up_failed(source))?;
        Ok(Arc::new(Workshop {
            shim,
            network,
            hierarchies: Arc::new(hierarchies),
            slot: self.instance.slot(),
            state: self.state.clone(),
            layers: rooms.layers,
            containers: rooms.containers,
            trash: rooms.trash,
            removals: self.removals.clone(),
        }))
    }

    fn set_up_failed(&self, source: io::Error) -> EngineError {
        EngineError::Failed {
            step: format!("set up {}", self.instance.directory().display()),
            source,
        }
    }

    /// Makes the directories, unless they are there.
    fn rooms(&self) -> io::Result<Rooms> {
        let rooms = Rooms {
            layers: self.state.join("layers"),
            containers: self.instance.directory().join("containers"),
            trash: self.instance.directory().join("trash"),
        };
        directory(&rooms.containers, 0o711)?;
        directory(&rooms.trash, 0o700)?;
        Ok(rooms)
    }
}

/// The directories of an engine.
struct Rooms {
    layers: PathBuf,
    containers: PathBuf,
    trash: PathBuf,
}

/// The state directory, made if it is missing.
fn state_directory(state: &Path) -> Result<PathBuf, EngineError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(needs_root());
    }
    let make = |source| EngineError::Failed {
        step: format!("make the directory {}", state.display()),
        source,
    };
    // What containers write is in there, with the set-id bits that they have set: for nobody else to walk into.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(make)?;
    state.canonicalize().map_err(make)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is only ever taken or set whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for LinuxEngine {
    fn drop(&mut self) {
        if let Some(heritage) = locked(&self.heritage).take() {
            heritage.end();
        }
        // Somebody may still have a container, which would keep the shim.
        if let Some(workshop) = self.workshop.get() {
            workshop.shim.hang_up();
        }
    }
}

/// Makes a directory with these permissions, unless it is there.
fn directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Whatever mask the process was started with.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Makes the network of a slot that this engine has the lock of. A link of that slot, if there is one, is a dead engine's
/// that the kernel has not got round to removing.
async fn make_network(slot: u16) -> Result<Network, EngineError> {
    match Network::create(slot).await {
        Err(EngineError::InUse(_)) => {
            network::sweep(slot)?;
            Network::create(slot).await
        }
        made => made,
    }
}

impl Engine for LinuxEngine {
    fn adopt(&self) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>> {
        async move {
            // Whoever has asked first, as for `prepare`, may still be looking through what there is.
            if self.asked.load(Ordering::Relaxed) {
                self.workshop().await?;
            }
            Ok(std::mem::take(&mut *locked(&self.adopted)))
        }
        .boxed()
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move { self.workshop().await.map(drop) }.boxed()
    }

    fn has_layer(&self, layer: &Digest) -> bool {
        self.store.has(layer)
    }

    fn add_layer(
        &self,
        layer: Digest,
        tar: Box<dyn AsyncRead + Send + Unpin>,
        progress: Box<dyn Fn(u64) + Send + Sync>,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        async move { self.store.add(layer, tar, &*progress).await }.boxed()
    }

    fn drop_layers<'a>(&'a self, layers: &'a [Digest]) -> BoxFuture<'a, Result<(), EngineError>> {
        self.store.drop_layers(layers).boxed()
    }

    fn create(&self, spec: Spec) -> BoxFuture<'_, Result<Box<dyn Container>, EngineError>> {
        async move {
            if spec.program.args.is_empty() {
                return Err(EngineError::BadSpec(
                    "the image names no program to run: give a command".to_owned(),
                ));
            }
            let workshop = Arc::clone(self.workshop().await?);
            let layers = self.store.hold(&spec.layers)?;
            let ids = self.ranges.take().ok_or_else(|| {
                EngineError::InUse(format!(
                    "every range of user ids (an engine has at most {} containers at a time)",
                    ids::CONTAINERS
                ))
            })?;
            // Goes on if nobody waits any more, so that whatever is half made is cleared away.
            let made = tokio::spawn(LinuxContainer::make(workshop, spec, layers, ids)).await;
            match made {
                Ok(made) => made.map(|container| Box::new(container) as Box<dyn Container>),
                Err(error) => Err(EngineError::Failed {
                    step: "make the container".to_owned(),
                    source: io::Error::other(error),
                }),
            }
        }
        .boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move {
            // One that is being set up is waited for: what it makes would otherwise come after the clearing.
            if self.asked.load(Ordering::Relaxed)
                && let Ok(workshop) = self.workshop().await
            {
                // Those that nobody has asked for.
                drop(std::mem::take(&mut *locked(&self.adopted)));
                workshop.shim.end().await;
                workshop.network.shutdown().await;
            }
            self.removals.close();
            self.removals.wait().await;
            let instance = Arc::clone(&self.instance);
            let cleared = tokio::task::spawn_blocking(move || instance.clear()).await;
            if let Ok(Err(error)) = cleared {
                tracing::warn!(%error, "what the containers left could not be removed; the next start tries again");
            }
        }
        .boxed()
    }
}
