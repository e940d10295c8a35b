//! `hello`: an image that the running program makes of itself.
//!
//! It holds the program's own executable and the shared libraries that this needs, and shows a web page on port 80. So a
//! machine with no Docker, no network and no images has one image to run.

#[cfg(target_os = "linux")]
mod binary;
#[cfg(target_os = "linux")]
mod elf;
#[cfg(target_os = "linux")]
mod layer;
mod page;
mod server;

use std::io;
use std::path::Path;

pub use self::server::serve;
use super::Image;

/// What the image is called.
pub const NAME: &str = "hello";

/// What the program is called in its image.
pub const PROGRAM: &str = "/tf";

/// The argument that makes the program call [`serve`].
pub const VERB: &str = "__hello";

/// Environment variable that says when the container was asked for, in microseconds since the epoch.
pub const SPAWNED_AT: &str = "TF_SPAWNED_AT";

/// Why the program cannot make an image of itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The program is not one that a Linux container runs.
    #[error(
        "`hello` is made of this very program, which must run on Linux for that: name another image"
    )]
    Unsupported,
    /// One of the files it is made of is not as it should be.
    #[error("cannot make the image `hello` of this program: {what}")]
    Binary {
        /// What was looked at, and what it should be.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The image, made for the machine that this program was built for.
///
/// Finding its digest takes reading all of the executable. The result is kept in `cache_dir` if that is given, so that
/// the next time nothing is read; a cache that cannot be read or written costs time and nothing else.
///
/// # Errors
///
/// When the program's own files cannot be read.
#[cfg(target_os = "linux")]
pub async fn image(cache_dir: Option<&Path>) -> Result<Image, HelloError> {
    let cache_dir = cache_dir.map(Path::to_owned);
    let made = tokio::task::spawn_blocking(move || layer::image(cache_dir.as_deref()));
    made.await.map_err(|error| HelloError::Binary {
        what: "the thread that reads it failed".to_owned(),
        source: io::Error::other(error),
    })?
}

/// There is no such image but on Linux.
///
/// # Errors
///
/// Always.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unused_async, reason = "the same signature as on Linux")]
pub async fn image(_cache_dir: Option<&Path>) -> Result<Image, HelloError> {
    Err(HelloError::Unsupported)
}
