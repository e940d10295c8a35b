//! From what a user writes to an image, wherever that is.
//!
//! What is asked, in this order:
//!
//! | written | means |
//! |---|---|
//! | `hello` | the image that the program makes of itself (Docker Hub's is `library/hello`) |
//! | `/…`, `./…`, `../…`, `..` | an archive or layout at this path; `PATH:NAME` chooses one of several in it |
//! | `NAME.tar`, `.tar.gz`, `.tgz`, `.tar.zst` | the same, if there is a file of this name |
//! | `oci:PATH`, `oci-archive:PATH`, `docker-archive:PATH` | the same, as `skopeo` writes it |
//! | `.` | the most recent image of the local Docker daemon |
//! | anything else | a name or an id: in the local Docker daemon, then in the location's cache, then in a registry |
//!
//! A plain word never means a directory or a file without such an ending, even if there is one: `tf nginx` must not
//! run whatever somebody left in a directory called `nginx`.
//!
//! A name that the local daemon has is that image, also if it is made for another processor: a registry's image of the
//! same name could be somebody else's.

use std::fmt;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::archive::{self, ArchiveError};
use super::docker::{self, Daemon, DockerError};
use super::hello::{self, HelloError};
use super::platform::{WrongPlatform, check};
use super::reference::{InvalidReference, Reference, image_id, may_be_short_id};
use super::registry::{self, RegistryError};
use super::{Description, Image, Platform};

/// The name of the built-in image.
const HELLO: &str = "hello";

/// What means the most recent image of the local Docker daemon.
const MOST_RECENT: &str = ".";

/// Endings of file names that make a plain word a path.
const ENDINGS: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".tar.zst"];

/// What `skopeo` puts before a path.
const TRANSPORTS: [&str; 3] = ["oci:", "oci-archive:", "docker-archive:"];

/// The images that somebody else knows of and has the layers of: a location's cache.
pub trait KnownImages: Send + Sync {
    /// The image of this canonical name, or of this id or start of one.
    fn describe<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Description>>;
}

/// Knows no images.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoneKnown;

impl KnownImages for NoneKnown {
    fn describe<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Option<Description>> {
        std::future::ready(None).boxed()
    }
}

/// Where images are looked for, and what they must run on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// What the image is to run on.
    pub platform: Platform,
    /// Where the digest of `hello` is kept from one run to the next.
    pub cache_dir: Option<PathBuf>,
    /// Which Docker daemon is the local one.
    pub docker: docker::Settings,
    /// How registries are spoken to.
    pub registry: registry::Settings,
}

impl Default for Options {
    /// This machine's platform, no cache, and what the environment says.
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            cache_dir: None,
            docker: docker::Settings::from_env(),
            registry: registry::Settings::from_env(),
        }
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// It is neither a path, nor an id, nor a name.
    #[error(transparent)]
    Name(#[from] InvalidReference),
    /// The built-in image cannot be made.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The archive yields none.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The Docker daemon was asked for, and yields none; or has one that runs elsewhere only.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// It is made for another kind of machine.
    #[error(transparent)]
    Platform(#[from] WrongPlatform),
    /// Nobody has it.
    #[error("image `{name}` was not found{}", outcomes(.tried, *.is_path))]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where it was looked for, and what came of it.
        tried: Vec<Attempt>,
        /// Whether there is a file or directory of this name.
        is_path: bool,
    },
}

/// A place where an image was looked for in vain.
#[derive(Debug)]
pub struct Attempt {
    /// The place.
    pub place: Place,
    /// What came of it.
    pub outcome: AttemptError,
}

/// A place where images are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The local Docker daemon.
    Docker,
    /// The location's cache.
    Cache,
    /// The registry of this name.
    Registry(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker => f.write_str("local Docker daemon"),
            Self::Cache => f.write_str("cache of the location"),
            Self::Registry(name) => write!(f, "registry {name}"),
        }
    }
}

/// Why an attempt was in vain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The Docker daemon does not yield it.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The cache does not have it.
    #[error("it is not there")]
    NotCached,
    /// The cache has it for another kind of machine.
    #[error(transparent)]
    Platform(#[from] WrongPlatform),
    /// The registry does not yield it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Registries are not asked for ids.
    #[error("an id says nothing about where an image is; use its name")]
    IsId,
}

fn outcomes(tried: &[Attempt], is_path: bool) -> String {
    use fmt::Write as _;
    let mut text = String::new();
    for attempt in tried {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}: {}", attempt.place, attempt.outcome);
    }
    if is_path {
        text.push_str(
            "\n  there is a file or directory of this name: write `./` before it to use it",
        );
    }
    text
}

/// Finds the image that `reference` means; see the [module](self) for what it can be.
///
/// The image runs on `options.platform`. A Docker daemon that is not there is no error unless only it was asked.
///
/// # Errors
///
/// When there is no such image, or it is there but not as it should be.
pub async fn resolve(
    reference: &str,
    known: &dyn KnownImages,
    options: &Options,
) -> Result<Image, ResolveError> {
    match Meaning::of(reference) {
        Meaning::Hello => {
            let image = hello::image(options.cache_dir.as_deref()).await?;
            check(&image.description.platform, &options.platform)?;
            Ok(image)
        }
        Meaning::Path(path, name) => {
            Ok(archive::open(&path, name.as_deref(), &options.platform).await?)
        }
        Meaning::MostRecent => {
            let daemon = Daemon::new(&options.docker)?;
            let id = daemon.last_image().await?;
            Ok(daemon.image(&id.to_string(), &options.platform).await?)
        }
        Meaning::Name => by_name(reference, known, options).await,
    }
}

async fn by_name(
    text: &str,
    known: &dyn KnownImages,
    options: &Options,
) -> Result<Image, ResolveError> {
    let is_id = image_id(text).is_some();
    let reference = if is_id {
        None
    } else {
        Some(text.parse::<Reference>()?)
    };
    let mut tried = Vec::new();

    let found = match Daemon::new(&options.docker) {
        Ok(daemon) => daemon.image(text, &options.platform).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(image) => return Ok(image),
        Err(error @ DockerError::Platform { .. }) => return Err(error.into()),
        Err(error) => tried.push(Attempt {
            place: Place::Docker,
            outcome: error.into(),
        }),
    }

    match from_cache(text, reference.as_ref(), known, &options.platform).await {
        Ok(image) => {
            warn_of_settings(&tried);
            return Ok(image);
        }
        Err(outcome) => tried.push(Attempt {
            place: Place::Cache,
            outcome,
        }),
    }

    let (place, outcome) = match reference {
        None => (Place::Registry("none".to_owned()), AttemptError::IsId),
        Some(reference) => {
            match registry::image(&reference, &options.platform, &options.registry).await {
                Ok(image) => {
                    warn_of_settings(&tried);
                    return Ok(image);
                }
                Err(error) => (
                    Place::Registry(reference.registry().to_owned()),
                    error.into(),
                ),
            }
        }
    };
    tried.push(Attempt { place, outcome });
    Err(ResolveError::NotFound {
        name: text.to_owned(),
        tried,
        is_path: Path::new(text).exists(),
    })
}

/// Says so if the local daemon was passed over for a mistake in what says where it is: the image that was found elsewhere
/// may not be the one that was meant.
fn warn_of_settings(tried: &[Attempt]) {
    for attempt in tried {
        if let AttemptError::Docker(error @ DockerError::Settings { .. }) = &attempt.outcome {
            tracing::warn!("no local Docker daemon was asked for the image: {error}");
        }
    }
}

async fn from_cache(
    text: &str,
    reference: Option<&Reference>,
    known: &dyn KnownImages,
    platform: &Platform,
) -> Result<Image, AttemptError> {
    let name = reference.map(ToString::to_string);
    let mut found = None;
    if let Some(name) = &name {
        found = known
            .describe(name)
            .await
            .map(|description| (description, vec![name.clone()]));
    }
    if found.is_none() && may_be_short_id(text) {
        found = known
            .describe(text)
            .await
            .map(|description| (description, Vec::new()));
    }
    let (description, names) = found.ok_or(AttemptError::NotCached)?;
    check(&description.platform, platform)?;
    Ok(Image {
        description,
        names,
        source: None,
    })
}

/// What a text can mean, as far as the text and the names of files tell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Hello,
    MostRecent,
    /// A path, and the name of an image in it.
    Path(PathBuf, Option<String>),
    Name,
}

impl Meaning {
    fn of(text: &str) -> Self {
        match text {
            HELLO => return Self::Hello,
            MOST_RECENT => return Self::MostRecent,
            _ => {}
        }
        if let Some(path) = TRANSPORTS
            .iter()
            .find_map(|transport| text.strip_prefix(transport))
        {
            return Self::path(path);
        }
        let is_path = Path::new(text).is_absolute()
            || text == ".."
            || text.starts_with("./")
            || text.starts_with("../");
        let file = text.split(':').next().unwrap_or_default();
        let is_file =
            ENDINGS.iter().any(|ending| file.ends_with(ending)) && Path::new(file).is_file();
        if is_path || is_file {
            Self::path(text)
        } else {
            Self::Name
        }
    }

    /// Splits `PATH:NAME`, unless all of it is a path.
    fn path(text: &str) -> Self {
        let mut splits = text
            .match_indices(':')
            .map(|(index, _)| text.split_at(index));
        if Path::new(text).exists() {
            return Self::Path(text.into(), None);
        }
        match splits.find(|(path, _)| !path.is_empty() && Path::new(path).exists()) {
            Some((path, name)) => Self::Path(path.into(), Some(name[1..].to_owned())),
            None => Self::Path(text.into(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_names() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("images.tar");
        std::fs::write(&file, "").expect("write");
        let file = file.to_str().expect("a plain path");
        let path =
            |path: &str, name: Option<&str>| Meaning::Path(path.into(), name.map(str::to_owned));
        for (text, expected) in [
            ("hello", Meaning::Hello),
            (".", Meaning::MostRecent),
            ("nginx", Meaning::Name),
            ("nginx:latest", Meaning::Name),
            ("src", Meaning::Name),
            ("no-such-file.tar", Meaning::Name),
            ("library/hello", Meaning::Name),
            ("./x", path("./x", None)),
            ("..", path("..", None)),
            ("/no/such/file", path("/no/such/file", None)),
            ("oci:relative", path("relative", None)),
            (file, path(file, None)),
            (&format!("{file}:nginx:1.2"), path(file, Some("nginx:1.2"))),
            (
                &format!("docker-archive:{file}:app"),
                path(file, Some("app")),
            ),
        ] {
            assert_eq!(Meaning::of(text), expected, "{text}");
        }
    }
}
