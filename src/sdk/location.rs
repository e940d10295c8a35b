//! A connection to a location.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::dialler::{Dialler, Host};
use super::error::Error;
use super::node::Node;
use super::session::{Keeper, Shared};
use super::upload::upload;
use crate::ids::{ContainerId, Digest};
use crate::image::reference::Reference;
use crate::image::{self, Description, Image, KnownImages};
use crate::link::{AGENT, CloseReason, ConnectOptions, Status, connect};
use crate::progress::Progress;
use crate::protocol::handshake::Role;
use crate::protocol::messages::{
    CachedImage, ContainerInfo, DescribeImage, ListContainers, ListImages, ListNodes, RemoveImage,
    Removed, Stop,
};

/// A session at a location. Clones are the same session.
///
/// All that was started in it ends when [`Location::disconnect`] is called or the last clone is dropped, containers and
/// tunnels not counted.
#[derive(Clone)]
pub struct Location {
    shared: Arc<Shared>,
    _keeping: Arc<AbortOnDropHandle<()>>,
    cache: Option<PathBuf>,
    host: Arc<Mutex<Option<Box<dyn Host>>>>,
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
            agent: AGENT.to_owned(),
            token: None,
            linger,
        };
        let connected = connect(Arc::clone(&dial), options.clone()).await;
        let (link, incoming) = connected.map_err(|source| Error::Connect {
            location: name,
            source,
        })?;
        let shared = Shared::new(link.clone());
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            dial,
            options,
        };
        let keeping = tokio::spawn(keeper.run(link, incoming));
        let location = Self {
            shared,
            _keeping: Arc::new(AbortOnDropHandle::new(keeping)),
            cache,
            host: Arc::new(Mutex::new(host)),
        };
        let nodes = location.shared.repeat(&ListNodes {}).await?;
        location.shared.set_nodes(nodes);
        Ok(location)
    }

    /// All nodes, the one with most room first.
    ///
    /// # Errors
    ///
    /// When the session has ended.
    pub async fn ranked_nodes(&self) -> Result<Vec<Node>, Error> {
        let nodes = self.shared.repeat(&ListNodes {}).await?;
        Ok(nodes
            .into_iter()
            .map(|info| Node::new(Arc::clone(&self.shared), info))
            .collect())
    }

    /// All nodes that are there now, in no particular order, without asking the location.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.shared
            .nodes()
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
        Ok(image::resolve(reference, &Known(&self.shared), options).await?)
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
        let sent = upload(&self.shared, image, keep, progress).await?;
        progress.report(sent);
        Ok(())
    }

    /// Images that the location keeps for this user, the last used first.
    ///
    /// # Errors
    ///
    /// When the session has ended.
    pub async fn cached_images(&self) -> Result<Vec<CachedImage>, Error> {
        Ok(self.shared.repeat(&ListImages {}).await?)
    }

    /// Has the location forget an image and free the layers that no other image needs.
    ///
    /// # Errors
    ///
    /// When there is no such image, or a container uses it.
    pub async fn remove_image(&self, name: &str) -> Result<Removed, Error> {
        let exact = self
            .shared
            .call(&RemoveImage {
                name: name.to_owned(),
            })
            .await;
        match (exact.map_err(Error::from), canonical_name(name)) {
            (Err(Error::Refused(fault)), Some(canonical))
                if fault.code == crate::protocol::messages::FaultCode::NotFound
                    && canonical != name =>
            {
                match self.shared.call(&RemoveImage { name: canonical }).await {
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
        Ok(self.shared.repeat(&ListContainers {}).await?)
    }

    /// Ends the user's container whose id begins with `prefix`, of whichever session, and returns its id. Who runs it
    /// hears of it as of any other end.
    ///
    /// # Errors
    ///
    /// When the user has no such container, or more than one.
    pub async fn stop(&self, prefix: &str) -> Result<ContainerId, Error> {
        let container = prefix.to_owned();
        Ok(self.shared.call(&Stop { container }).await?)
    }

    /// How the connection is, now and from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status()
    }

    /// How long the location keeps the session while the connection to it is lost.
    #[must_use]
    pub fn linger(&self) -> Duration {
        self.shared.linger
    }

    /// Waits until the session has ended, for whatever reason.
    pub async fn ended(&self) -> CloseReason {
        self.shared.ended().await
    }

    /// Ends the session and all that was started in it. Returns when nothing of it is left, where this process can know.
    pub async fn disconnect(&self) {
        self.shared.close().await;
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
struct Known<'a>(&'a Shared);

impl KnownImages for Known<'_> {
    fn describe<'a>(
        &'a self,
        name: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Option<Description>> {
        Box::pin(async {
            self.0
                .repeat(&DescribeImage {
                    name: name.to_owned(),
                })
                .await
                .ok()
                .flatten()
        })
    }
}
