//! What a container is to be like, said step by step.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::container::Container;
use super::error::Error;
use super::session::Shared;
use super::upload::upload;
use crate::ids::{ContainerId, NodeId};
use crate::image::{Image, hello};
use crate::progress::{Progress, Silent};
use crate::protocol::container::{ContainerSpec, Limits, PrebootFile, Stdio};
use crate::protocol::messages::Spawn;

/// A container that is about to be started.
#[must_use = "nothing runs before `start`"]
pub struct SpawnBuilder {
    shared: Arc<Shared>,
    node: NodeId,
    image: Image,
    spec: ContainerSpec,
    uploaded: bool,
    progress: Arc<dyn Progress>,
}

impl SpawnBuilder {
    pub(super) fn new(shared: Arc<Shared>, node: NodeId, image: Image) -> Self {
        let (spec, progress) = (ContainerSpec::default(), Arc::new(Silent));
        Self {
            shared,
            node,
            image,
            spec,
            uploaded: false,
            progress,
        }
    }

    /// Adds a variable to the environment, or replaces the image's.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.spec.env.push(format!("{name}={value}"));
        self
    }

    /// Runs this in place of the image's command; the image's entrypoint, if it has one, gets it as arguments.
    pub fn command<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.spec.command = Some(command.into_iter().map(Into::into).collect());
        self
    }

    /// Runs this in place of the image's entrypoint and command.
    pub fn entrypoint<S: Into<String>>(mut self, entrypoint: impl IntoIterator<Item = S>) -> Self {
        self.spec.entrypoint = Some(entrypoint.into_iter().map(Into::into).collect());
        self
    }

    /// Runs as this user (`name`, `uid`, `name:group` or `uid:gid`).
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.spec.user = Some(user.into());
        self
    }

    /// Runs in this directory, which is made if missing.
    pub fn working_dir(mut self, directory: impl Into<String>) -> Self {
        self.spec.working_dir = Some(directory.into());
        self
    }

    /// Puts a file in place before the first process starts, readable by all.
    pub fn file(self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.preboot_file(PrebootFile {
            path: path.into(),
            mode: 0o644,
            content: content.into(),
        })
    }

    /// Puts a file in place before the first process starts.
    pub fn preboot_file(mut self, file: PrebootFile) -> Self {
        self.spec.files.push(file);
        self
    }

    /// Boots, but does not run the first process until [`Container::start`].
    pub fn sleep(mut self) -> Self {
        self.spec.sleep = true;
        self
    }

    /// What the container may use of its node.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.spec.limits = limits;
        self
    }

    /// Which standard streams of the first process are attached.
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        self.spec.stdio = stdio;
        self
    }

    /// Everything at once, in place of what was said before.
    pub fn spec(mut self, spec: ContainerSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Takes it that the image is at the location, because `ensure_image_uploaded` has just said so.
    pub fn uploaded(mut self) -> Self {
        self.uploaded = true;
        self
    }

    /// Reports on transfers go there.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Uploads what the location lacks of the image, and starts the container. Returns when its first process runs.
    ///
    /// # Errors
    ///
    /// When the image cannot be uploaded or the node cannot run it.
    pub async fn start(self) -> Result<Container, Error> {
        let asked_at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_micros());
        let Self {
            shared,
            node,
            image,
            mut spec,
            uploaded,
            progress,
        } = self;
        if !uploaded {
            upload(&shared, &image, false, &*progress).await?;
        }
        let container = ContainerId::random();
        // Asked for before anything can be told.
        let exit = shared.expect_exit(&container, None);
        shared.expect_unpacking(&container, &progress);
        if image.names.iter().any(|name| name == hello::NAME) {
            spec.env.push(format!("{}={}", hello::SPAWNED_AT, asked_at));
        }
        let stdio = spec.stdio;
        let spawn = Spawn {
            container: container.clone(),
            node: Some(node),
            image: image.description.id,
            spec,
        };
        match shared.call(&spawn).await {
            Ok(spawned) => {
                Container::spawned(shared, container, image.description, spawned, stdio, exit).await
            }
            Err(error) => {
                shared.forget(&container);
                Err(error.into())
            }
        }
    }
}
