//! Images of registries, by the OCI distribution protocol.
//!
//! Plain HTTP is spoken to registries on this machine only, and only if they do not speak TLS.

mod credentials;
mod error;
mod source;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{env, io};

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::{Client, Reference as OciReference, RegistryOperation, manifest as oci};
use tokio::io::AsyncWrite;

use self::credentials::Login;
pub use self::error::RegistryError;
use super::manifest::{Descriptor, Document, MAX_DEPTH, MAX_DOCUMENT, Manifest, describe};
use super::platform::{best, check};
use super::reference::Reference;
use super::{Description, Image, Platform, tls};
use crate::ids::Digest;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a registry may be silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Where certificate authorities of registries are kept for Docker, in directories named like the registries.
const CERTIFICATES: &str = "/etc/docker/certs.d";

/// Manifests of an index that are fetched because the index does not say what they are for.
const MAX_FETCHED: usize = 16;

/// Media types of what can be an image.
const ACCEPTED: [&str; 4] = [
    oci::OCI_IMAGE_INDEX_MEDIA_TYPE,
    oci::OCI_IMAGE_MEDIA_TYPE,
    oci::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    oci::IMAGE_MANIFEST_MEDIA_TYPE,
];

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Directory of Docker's `config.json`, which holds logins or names the programs that do.
    pub config_dir: Option<PathBuf>,
    /// Directory of the certificate authorities that single registries are trusted by.
    pub certificates: Option<PathBuf>,
}

impl Settings {
    /// The settings of this process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        let config_dir = env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty());
        Self {
            config_dir: config_dir
                .map(PathBuf::from)
                .or_else(|| Some(dirs::home_dir()?.join(".docker"))),
            certificates: Some(CERTIFICATES.into()),
        }
    }
}

/// The image called `reference` that suits `platform`.
///
/// # Errors
///
/// When the registry cannot be reached, does not give access, has no such image, or none for that platform.
pub async fn image(
    reference: &Reference,
    platform: &Platform,
    settings: &Settings,
) -> Result<Image, RegistryError> {
    let repository = Arc::new(Repository::open(reference, settings).await?);
    let manifest = repository.manifest(platform).await?;
    let description = repository.describe(&manifest).await?;
    check(&description.platform, platform)?;
    let layers = description.layers.iter().map(|layer| layer.digest);
    let layers = layers.zip(manifest.layers).collect();
    Ok(Image {
        description,
        names: vec![reference.to_string()],
        source: Some(Arc::new(source::Layers::new(repository, layers))),
    })
}

/// A repository of a registry, logged in to.
struct Repository {
    client: Client,
    reference: OciReference,
    registry: String,
    login: Login,
}

impl Repository {
    async fn open(reference: &Reference, settings: &Settings) -> Result<Self, RegistryError> {
        tls::install_provider();
        let registry = reference.registry().to_owned();
        let login = credentials::find(&registry, settings.config_dir.as_deref()).await;
        let protocols = if reference.is_loopback() {
            vec![ClientProtocol::Https, ClientProtocol::Http]
        } else {
            vec![ClientProtocol::Https]
        };
        let mut failure = None;
        for protocol in protocols {
            let repository = Self {
                client: client(&registry, protocol, settings)?,
                reference: oci_reference(reference),
                registry: registry.clone(),
                login: login.clone(),
            };
            match repository.authorize().await {
                Ok(()) => return Ok(repository),
                // Something that speaks no TLS may speak HTTP; all else is the answer.
                Err(error @ RegistryError::NoTls { .. }) => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.expect("there is a protocol, and it failed"))
    }

    /// Gets the token that the registry wants to see, if it wants one.
    async fn authorize(&self) -> Result<(), RegistryError> {
        self.client
            .auth(&self.reference, &self.login.auth, RegistryOperation::Pull)
            .await
            .map(|_| ())
            .map_err(|error| self.error(error))
    }

    /// The manifest of the image for this platform.
    async fn manifest(&self, platform: &Platform) -> Result<Manifest, RegistryError> {
        let mut document = self.document(&self.reference).await?;
        for _ in 0..=MAX_DEPTH {
            let entries = match document {
                Document::Manifest(manifest) => return Ok(manifest),
                Document::Index(entries) => entries,
            };
            document = self.choose(entries, platform).await?;
        }
        Err(self.malformed("the index", "it is nested too deep"))
    }

    /// What an index has for this platform: a manifest, or an index that is nested in it.
    async fn choose(
        &self,
        entries: Vec<Descriptor>,
        platform: &Platform,
    ) -> Result<Document, RegistryError> {
        let mut candidates = Vec::new();
        let mut fetched = 0;
        let mut nested = None;
        for entry in entries.into_iter().filter(Descriptor::may_be_image) {
            if let Some(platform) = entry.platform() {
                candidates.push((platform, (entry.digest, None)));
                continue;
            }
            fetched += 1;
            if fetched > MAX_FETCHED {
                return Err(
                    self.malformed("the index", "it does not say what its manifests are for")
                );
            }
            match self.document(&self.pinned(entry.digest)).await? {
                Document::Manifest(manifest) => {
                    let description = self.describe(&manifest).await?;
                    let document = Document::Manifest(manifest);
                    candidates.push((description.platform, (entry.digest, Some(document))));
                }
                index @ Document::Index(_) => nested = nested.or(Some(index)),
            }
        }
        if let (true, Some(index)) = (candidates.is_empty(), nested) {
            return Ok(index);
        }
        // Between manifests that nothing tells apart, the index's own order decides.
        let (digest, document) = best(candidates, platform)?.swap_remove(0);
        match document {
            Some(document) => Ok(document),
            None => self.document(&self.pinned(digest)).await,
        }
    }

    async fn document(&self, reference: &OciReference) -> Result<Document, RegistryError> {
        let (json, _digest) = self
            .client
            .pull_manifest_raw(reference, &self.login.auth, &ACCEPTED)
            .await
            .map_err(|error| self.error(error))?;
        if json.len() as u64 > MAX_DOCUMENT {
            let reason = format!(
                "it has {} bytes, more than the {MAX_DOCUMENT} allowed",
                json.len()
            );
            return Err(self.malformed("the manifest", &reason));
        }
        Document::parse(&json).map_err(|reason| self.malformed("the manifest", &reason))
    }

    /// The description of the image that the manifest is of.
    async fn describe(&self, manifest: &Manifest) -> Result<Description, RegistryError> {
        let what = "the image's configuration";
        let digest = manifest.config.digest.to_string();
        let mut json = Bounded::default();
        self.client
            .pull_blob(&self.reference, digest.as_str(), &mut json)
            .await
            .map_err(|error| self.error(error))?;
        let description =
            describe(&json.content).map_err(|reason| self.malformed(what, &reason))?;
        if description.layers.len() == manifest.layers.len() {
            return Ok(description);
        }
        let reason = format!(
            "it and the manifest differ in the number of layers: {} and {}",
            description.layers.len(),
            manifest.layers.len()
        );
        Err(self.malformed(what, &reason))
    }

    fn pinned(&self, digest: Digest) -> OciReference {
        self.reference.clone_with_digest(digest.to_string())
    }

    fn malformed(&self, part: &str, reason: &str) -> RegistryError {
        RegistryError::Malformed {
            registry: self.registry.clone(),
            part: part.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn error(&self, error: oci_client::errors::OciDistributionError) -> RegistryError {
        let image = format!("{}/{}", self.registry, self.reference.repository());
        RegistryError::new(error, &self.registry, &image, self.login.note.as_deref())
    }
}

fn oci_reference(reference: &Reference) -> OciReference {
    let registry = reference.registry().to_owned();
    let repository = reference.repository().to_owned();
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => OciReference::with_digest(registry, repository, digest.to_string()),
        (None, tag) => {
            let tag = tag.expect("a reference without digest has a tag");
            OciReference::with_tag(registry, repository, tag.to_owned())
        }
    }
}

fn client(
    registry: &str,
    protocol: ClientProtocol,
    settings: &Settings,
) -> Result<Client, RegistryError> {
    let config = ClientConfig {
        protocol,
        extra_root_certificates: certificates(registry, settings.certificates.as_deref()),
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("tf/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| RegistryError::Client {
        reason: super::docker::root_cause(&error),
    })
}

/// The certificate authorities that this registry is trusted by, besides the system's.
fn certificates(registry: &str, directory: Option<&Path>) -> Vec<Certificate> {
    // A registry's name has no slashes, so this is a directory of that one.
    let Some(directory) = directory.map(|directory| directory.join(registry)) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            if path.extension()? != "crt" {
                return None;
            }
            let data = std::fs::read(path).ok()?;
            Some(Certificate {
                encoding: CertificateEncoding::Pem,
                data,
            })
        })
        .collect()
}

/// Takes a document, and fails when it is longer than one may be.
#[derive(Default)]
struct Bounded {
    content: Vec<u8>,
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if (self.content.len() + bytes.len()) as u64 > MAX_DOCUMENT {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the document has more than the {MAX_DOCUMENT} bytes allowed"),
            )));
        }
        self.content.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
