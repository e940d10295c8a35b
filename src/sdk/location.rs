//! A connection to a location.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::dialler::{Dialler, Host};
use super::error::Error;
use super::node::Node;
use super::upload::Upload;
use crate::ids::{ContainerId, Digest, NodeId, ProcessId};
use crate::image::reference::Reference;
use crate::image::{self, Description, Image, KnownImages};
use crate::link::{
    CloseReason, ConnectOptions, Inbound, Incoming, Link, PendingNotice, Status, connect,
};
use crate::progress::{Progress, Step};
use crate::protocol::container::Exit;
use crate::protocol::handshake::Role;
use crate::protocol::messages::{
    CachedImage, ContainerEnded, ContainerInfo, DescribeImage, EnsureImage, ListContainers,
    ListImages, ListNodes, NodeChanged, NodeInfo, NodeLeft, Notice, ProcessEnded, RemoveImage,
    Removed, Stop, UnpackProgress,
};

/// A session at a location. Clones are the same session.
///
/// All that was started in it ends when [`Location::disconnect`] is called or the last clone is dropped, containers and
/// tunnels not counted.
#[derive(Clone)]
pub struct Location {
    shared: Arc<Shared>,
    _reader: Arc<AbortOnDropHandle<()>>,
    cache: Option<PathBuf>,
    host: Arc<Mutex<Option<Box<dyn Host>>>>,
}

/// What containers and nodes need of their location.
pub(super) struct Shared {
    pub(super) link: Link,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    nodes: HashMap<NodeId, NodeInfo>,
    exits: HashMap<(ContainerId, Option<ProcessId>), watch::Sender<Option<Exit>>>,
    unpacking: HashMap<ContainerId, Weak<dyn Progress>>,
}

impl Location {
    /// Connects, and finds out which nodes there are.
    ///
    /// # Errors
    ///
    /// When the location cannot be reached, does not know this client's key, or is not the one that was expected.
    pub async fn connect(dialler: Dialler) -> Result<Self, Error> {
        let Dialler {
            name,
            dial,
            identity,
            location,
            linger,
            cache,
            host,
        } = dialler;
        let options = ConnectOptions {
            identity,
            location,
            role: Role::Client,
            agent: concat!("tfnz/", env!("CARGO_PKG_VERSION")).to_owned(),
            token: None,
            linger,
        };
        let connected = connect(dial, options).await;
        let (link, incoming) = connected.map_err(|source| Error::Connect {
            location: name,
            source,
        })?;
        let shared = Arc::new(Shared {
            link,
            tables: Mutex::default(),
        });
        let reader = tokio::spawn(read(Arc::clone(&shared), incoming));
        let location = Self {
            shared,
            _reader: Arc::new(AbortOnDropHandle::new(reader)),
            cache,
            host: Arc::new(Mutex::new(host)),
        };
        let nodes = location.shared.link.call(&ListNodes {}).await?;
        location
            .shared
            .tables()
            .nodes
            .extend(nodes.into_iter().map(|node| (node.id.clone(), node)));
        Ok(location)
    }

    /// All nodes, the one with most room first.
    ///
    /// # Errors
    ///
    /// When the session has ended.
    pub async fn ranked_nodes(&self) -> Result<Vec<Node>, Error> {
        let nodes = self.shared.link.call(&ListNodes {}).await?;
        Ok(nodes
            .into_iter()
            .map(|info| Node::new(Arc::clone(&self.shared), info))
            .collect())
    }

    /// All nodes that are there now, in no particular order, without asking the location.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let nodes: Vec<NodeInfo> = self.shared.tables().nodes.values().cloned().collect();
        nodes
            .into_iter()
            .map(|info| Node::new(Arc::clone(&self.shared), info))
            .collect()
    }

    /// The node with most room.
    ///
    /// # Errors
    ///
    /// When there is none, or the session has ended.
    pub async fn node(&self) -> Result<Node, Error> {
        self.ranked_nodes()
            .await?
            .into_iter()
            .next()
            .ok_or(Error::NoNode)
    }

    /// The same as [`Location::node`], by the name that it had first.
    ///
    /// # Errors
    ///
    /// As [`Location::node`].
    pub async fn best_node(&self) -> Result<Node, Error> {
        self.node().await
    }

    /// Finds an image: `hello`, a path, an image of the local Docker daemon, one that the location keeps, or one in a
    /// registry, in this order.
    ///
    /// # Errors
    ///
    /// When it is nowhere to be found, or not made for the location's machines.
    pub async fn resolve(&self, reference: &str) -> Result<Image, Error> {
        {
            let mut options = image::Options::default();
            options.cache_dir.clone_from(&self.cache);
            self.resolve_with(reference, &options).await
        }
    }

    /// [`Location::resolve`] with options.
    ///
    /// # Errors
    ///
    /// As [`Location::resolve`].
    pub async fn resolve_with(
        &self,
        reference: &str,
        options: &image::Options,
    ) -> Result<Image, Error> {
        Ok(image::resolve(reference, &Known(&self.shared.link), options).await?)
    }

    /// Uploads the layers of an image that the location lacks, so that it can be spawned. Does nothing for an image that
    /// is there, so it is cheap to repeat.
    ///
    /// # Errors
    ///
    /// When a layer cannot be read, or the location cannot keep it.
    pub async fn ensure_image_uploaded(
        &self,
        image: &Image,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        self.upload(image, false, progress).await
    }

    /// Uploads an image and has the location keep it until [`Location::remove_image`].
    ///
    /// # Errors
    ///
    /// As [`Location::ensure_image_uploaded`].
    pub async fn cache_image(&self, image: &Image, progress: &dyn Progress) -> Result<(), Error> {
        self.upload(image, true, progress).await
    }

    async fn upload(
        &self,
        image: &Image,
        keep: bool,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let link = &self.shared.link;
        let ensure = EnsureImage {
            description: image.description.clone(),
            names: image.names.clone(),
            keep,
        };
        let missing = link.call(&ensure).await?.missing;
        let upload = Upload::new(link, progress);
        upload.run(image, &missing).await?;
        progress.report(upload.summary(&image.description, &missing));
        Ok(())
    }

    /// Images that the location keeps for this user, the last used first.
    ///
    /// # Errors
    ///
    /// When the session has ended.
    pub async fn cached_images(&self) -> Result<Vec<CachedImage>, Error> {
        Ok(self.shared.link.call(&ListImages {}).await?)
    }

    /// Has the location forget an image and free the layers that no other image needs.
    ///
    /// # Errors
    ///
    /// When there is no such image, or a container uses it.
    pub async fn remove_image(&self, name: &str) -> Result<Removed, Error> {
        let exact = self
            .shared
            .link
            .call(&RemoveImage {
                name: name.to_owned(),
            })
            .await;
        match (exact.map_err(Error::from), canonical_name(name)) {
            (Err(Error::Refused(fault)), Some(canonical))
                if fault.code == crate::protocol::messages::FaultCode::NotFound
                    && canonical != name =>
            {
                match self
                    .shared
                    .link
                    .call(&RemoveImage { name: canonical })
                    .await
                {
                    Ok(removed) => Ok(removed),
                    Err(_) => Err(Error::Refused(fault)),
                }
            }
            (result, _) => result,
        }
    }

    /// The user's containers, of all sessions, the oldest first.
    ///
    /// # Errors
    ///
    /// When the session has ended.
    pub async fn containers(&self) -> Result<Vec<ContainerInfo>, Error> {
        Ok(self.shared.link.call(&ListContainers {}).await?)
    }

    /// Ends the user's container whose id begins with `prefix`, of whichever session, and returns its id. Who runs it
    /// hears of it as of any other end.
    ///
    /// # Errors
    ///
    /// When the user has no such container, or more than one.
    pub async fn stop(&self, prefix: &str) -> Result<ContainerId, Error> {
        let container = prefix.to_owned();
        Ok(self.shared.link.call(&Stop { container }).await?)
    }

    /// How the connection is, now and from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.link.status()
    }

    /// How long the location keeps the session while the connection to it is lost.
    #[must_use]
    pub fn linger(&self) -> Duration {
        self.shared.link.linger()
    }

    /// Waits until the session has ended, for whatever reason.
    pub async fn ended(&self) -> CloseReason {
        self.shared.link.closed().await
    }

    /// Ends the session and all that was started in it. Returns when nothing of it is left, where this process can know.
    pub async fn disconnect(&self) {
        self.shared.link.close().await;
        let host = self
            .host
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(host) = host {
            host.shutdown().await;
        }
    }
}

/// The id of the most recent image of the local Docker daemon.
///
/// # Errors
///
/// When there is no daemon, no permission to use it, or no image.
pub async fn last_image() -> Result<Digest, Error> {
    Ok(image::last_image()
        .await
        .map_err(image::ResolveError::from)?)
}

/// What a location calls the image that a user names so.
fn canonical_name(name: &str) -> Option<String> {
    Some(name.parse::<Reference>().ok()?.to_string())
}

/// Images that the location knows.
struct Known<'a>(&'a Link);

impl KnownImages for Known<'_> {
    fn describe<'a>(
        &'a self,
        name: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Option<Description>> {
        Box::pin(async {
            self.0
                .call(&DescribeImage {
                    name: name.to_owned(),
                })
                .await
                .ok()
                .flatten()
        })
    }
}

impl Shared {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the end of a process will be told; the first process of a container if not named.
    pub(super) fn expect_exit(
        &self,
        container: &ContainerId,
        process: Option<&ProcessId>,
    ) -> watch::Receiver<Option<Exit>> {
        let key = (container.clone(), process.cloned());
        self.tables()
            .exits
            .entry(key)
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe()
    }

    /// Nobody will ask for these ends any more.
    pub(super) fn forget_exits(&self, container: &ContainerId) {
        self.tables().exits.retain(|(id, _), _| id != container);
    }

    /// Reports on the unpacking of a container's layers go there.
    pub(super) fn expect_unpacking(&self, container: &ContainerId, progress: &Arc<dyn Progress>) {
        self.tables()
            .unpacking
            .insert(container.clone(), Arc::downgrade(progress));
    }

    fn exited(&self, container: ContainerId, process: Option<ProcessId>, exit: Exit) {
        if let Some(sender) = self.tables().exits.get(&(container, process)) {
            sender.send_if_modified(|known| {
                let news = known.is_none();
                if news {
                    *known = Some(exit);
                }
                news
            });
        }
    }

    fn heard(&self, notice: &PendingNotice) -> Result<(), crate::link::Malformed> {
        match notice.kind() {
            NodeChanged::KIND => {
                let NodeChanged { node } = notice.decode()?;
                self.tables().nodes.insert(node.id.clone(), node);
            }
            NodeLeft::KIND => {
                let NodeLeft { node } = notice.decode()?;
                self.tables().nodes.remove(&node);
            }
            ContainerEnded::KIND => {
                let ContainerEnded { container, exit } = notice.decode()?;
                self.exited(container, None, exit);
            }
            ProcessEnded::KIND => {
                let ProcessEnded {
                    container,
                    process,
                    exit,
                } = notice.decode()?;
                self.exited(container, Some(process), exit);
            }
            UnpackProgress::KIND => {
                let UnpackProgress {
                    container,
                    layer,
                    done,
                } = notice.decode()?;
                let progress = self
                    .tables()
                    .unpacking
                    .get(&container)
                    .and_then(Weak::upgrade);
                if let Some(progress) = progress {
                    progress.report(Step::LayerUnpacked { layer, done });
                }
            }
            other => tracing::debug!("the location sent an unknown notice {other}"),
        }
        Ok(())
    }
}

/// Reads what the location tells, until the link ends; then everything that ran in the session has ended.
async fn read(shared: Arc<Shared>, mut incoming: Incoming) {
    while let Some(inbound) = incoming.next().await {
        match inbound {
            Inbound::Notice(notice) => {
                if let Err(malformed) = shared.heard(&notice) {
                    tracing::warn!("the location sent what cannot be read: {malformed}");
                }
            }
            Inbound::Call(call) => call.unknown(),
            Inbound::Stream(_) => {}
        }
    }
    let reason = shared.link.closed().await;
    let exits: Vec<_> = shared.tables().exits.keys().cloned().collect();
    for (container, process) in exits {
        shared.exited(
            container,
            process,
            Exit::Lost(format!("the session has ended: {reason}")),
        );
    }
}
