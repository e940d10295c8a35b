//! Images of a Docker daemon: descriptions from one call, layers from its export.

mod endpoint;
mod error;
mod export;
mod recent;
mod v1_id;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ImageConfig as DockerConfig, ImageInspect};

pub use self::endpoint::Settings;
pub use self::error::DockerError;
pub(super) use self::error::{causes, io_kinds, root_cause};
use super::manifest::{new_platform, ports};
use super::platform::check;
use super::reference::{Reference, image_id, may_be_short_id};
use super::{Description, Image, ImageConfig, Layer, Platform};
use crate::ids::Digest;

/// How long a daemon may take to answer a question about its images.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long shell completion waits for a daemon.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(500);

/// Docker's name of what has no name.
const NO_NAME: &str = "<none>:<none>";

/// A Docker daemon, wherever it runs. Nothing is connected before it is asked something.
#[derive(Clone)]
pub struct Daemon {
    client: Docker,
    /// Where it is, for messages.
    address: String,
}

impl Daemon {
    /// The daemon that the `docker` command would use.
    ///
    /// # Errors
    ///
    /// When the settings name no daemon that can be reached from here, or there is no socket where they say.
    pub fn new(settings: &Settings) -> Result<Self, DockerError> {
        let endpoint = settings.endpoint()?;
        Ok(Self {
            client: endpoint.connect()?.with_timeout(ANSWER_TIMEOUT),
            address: endpoint.address,
        })
    }

    /// Where the daemon is, as `DOCKER_HOST` would say it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The image called `name`, which may be an id or the start of one.
    ///
    /// # Errors
    ///
    /// When the daemon has no such image, does not answer, or the image does not run on `platform`.
    pub async fn image(&self, name: &str, platform: &Platform) -> Result<Image, DockerError> {
        let path = self.path_of(name)?;
        let inspected = self
            .client
            .inspect_image(&path)
            .await
            .map_err(|error| self.error(error, name))?;
        let names = match name.parse::<Reference>() {
            Ok(reference) if is_called(&inspected, &reference) => vec![reference.to_string()],
            _ => canonical_names(&inspected),
        };
        let description = describe(inspected).map_err(|reason| DockerError::Answer {
            address: self.address.clone(),
            reason: format!("its description of `{name}` makes no sense: {reason}"),
        })?;
        check(&description.platform, platform).map_err(|source| DockerError::Platform {
            name: name.to_owned(),
            source,
        })?;
        let source = export::Export::new(self.clone(), &description);
        Ok(Image {
            description,
            names,
            source: Some(Arc::new(source)),
        })
    }

    /// The id of the image that was built, loaded, pulled or tagged last.
    ///
    /// # Errors
    ///
    /// When there is no image, or the daemon does not answer.
    pub async fn last_image(&self) -> Result<Digest, DockerError> {
        recent::last_image(self).await
    }

    /// Names of all images, as people write them.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub async fn names(&self) -> Result<Vec<String>, DockerError> {
        let images = self
            .client
            .list_images(None::<bollard::query_parameters::ListImagesOptions>)
            .await
            .map_err(|error| self.error(error, "the list of images"))?;
        let names: BTreeSet<_> = images
            .iter()
            .flat_map(|image| &image.repo_tags)
            .filter_map(|tag| tag.parse::<Reference>().ok())
            .map(|reference| reference.familiar())
            .collect();
        Ok(names.into_iter().collect())
    }

    /// The name as it goes into a URL. What is no name and no id is not asked for: it would change the URL's meaning.
    fn path_of(&self, name: &str) -> Result<String, DockerError> {
        if image_id(name).is_some() || may_be_short_id(name) {
            return Ok(name.to_owned());
        }
        match name.parse::<Reference>() {
            Ok(reference) => Ok(reference.to_string()),
            Err(_) => Err(DockerError::NotFound {
                address: self.address.clone(),
                name: name.to_owned(),
            }),
        }
    }

    fn error(&self, error: bollard::errors::Error, asked: &str) -> DockerError {
        DockerError::new(error, &self.address, asked)
    }
}

/// The id of the most recent image of the local Docker daemon: the one that was built, loaded, pulled or tagged last.
///
/// # Errors
///
/// When there is no daemon, no permission to use it, or no image; each its own error.
pub async fn last_image() -> Result<Digest, DockerError> {
    Daemon::new(&Settings::from_env())?.last_image().await
}

/// Names of the local Docker daemon's images for shell completion: none if it does not answer at once.
pub async fn local_names() -> Vec<String> {
    let names = async { Daemon::new(&Settings::from_env())?.names().await };
    match tokio::time::timeout(COMPLETION_TIMEOUT, names).await {
        Ok(Ok(names)) => names,
        // Completion has no place for messages, and an empty list says enough.
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn canonical_names(inspected: &ImageInspect) -> Vec<String> {
    inspected
        .repo_tags
        .iter()
        .flatten()
        .filter(|tag| *tag != NO_NAME)
        .filter_map(|tag| tag.parse::<Reference>().ok())
        .map(|reference| reference.to_string())
        .collect()
}

/// Whether the image has this name: text such as `cafe` may also have been taken for the start of an id.
fn is_called(inspected: &ImageInspect, reference: &Reference) -> bool {
    let tags = inspected.repo_tags.iter().flatten();
    let digests = inspected.repo_digests.iter().flatten();
    tags.chain(digests)
        .filter_map(|name| name.parse::<Reference>().ok())
        .any(|own| {
            own.registry() == reference.registry()
                && own.repository() == reference.repository()
                && (reference.digest().is_some() || own.tag() == reference.tag())
        })
}

fn describe(inspected: ImageInspect) -> Result<Description, String> {
    let id = inspected.id.ok_or("it has no id")?;
    let id = id.parse().map_err(|error| format!("{error}"))?;
    let os = inspected.os.ok_or("it has no operating system")?;
    let architecture = inspected.architecture.ok_or("it has no architecture")?;
    let layers = inspected
        .root_fs
        .and_then(|root| root.layers)
        .unwrap_or_default();
    let layers = layers
        .iter()
        .map(|digest| {
            Ok(Layer {
                digest: digest.parse()?,
                size: None,
            })
        })
        .collect::<Result<_, crate::ids::InvalidId>>()
        .map_err(|error| format!("{error}"))?;
    Ok(Description {
        id,
        platform: new_platform(&os, &architecture, inspected.variant.as_deref()),
        layers,
        config: config(inspected.config.unwrap_or_default()),
    })
}

fn config(config: DockerConfig) -> ImageConfig {
    ImageConfig {
        env: config.env.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        exposed_ports: ports(config.exposed_ports.unwrap_or_default().into_iter()),
        volumes: config.volumes.unwrap_or_default().into_iter().collect(),
        stop_signal: config.stop_signal.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
    }
}
