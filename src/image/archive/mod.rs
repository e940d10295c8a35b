//! Images in files: OCI layout directories, OCI archives, and what `docker save` writes, before Docker 25 and since.
//!
//! An archive is indexed once and then sought in, so memory does not depend on its size. One that is compressed as a
//! whole cannot be sought in; it is decompressed once to be indexed and once more to read its layers.
//!
//! Nothing in an archive is taken as a path of this machine: names are looked up in the archive, digests are checked
//! to be digests, and content that has one is verified against it.

mod contents;
mod source;
mod storage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::platform::WrongPlatform;
use super::{Image, Platform};
use crate::ids::Digest;

/// Why an archive yields no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file system refused.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "{} is not an image: {reason}; expected an OCI layout, an OCI archive or what `docker save` writes",
        .path.display()
    )]
    NotAnImage {
        /// The file or directory.
        path: PathBuf,
        /// What gives it away.
        reason: String,
    },
    /// A part of it cannot be understood.
    #[error("{} is malformed: {part}: {reason}", .path.display())]
    Malformed {
        /// The file or directory.
        path: PathBuf,
        /// Which part.
        part: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of it is not there.
    #[error("{} is incomplete: it lacks {part}; write it again, with all layers", .path.display())]
    Incomplete {
        /// The file or directory.
        path: PathBuf,
        /// Which part.
        part: String,
    },
    /// A part of it is not what its digest says.
    #[error("{} is damaged: {part} has the digest {found}, expected {expected}", .path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// Which part.
        part: String,
        /// The digest that names it.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// It holds several images, and nothing says which is meant.
    #[error("{} holds several images: choose one with `{}:NAME` ({})", .path.display(), .path.display(), .names.join(", "))]
    Ambiguous {
        /// The file or directory.
        path: PathBuf,
        /// What they are called.
        names: Vec<String>,
    },
    /// It holds no image of that name.
    #[error("{} holds no image `{name}`, only {}", .path.display(), .names.join(", "))]
    NoSuchImage {
        /// The file or directory.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        names: Vec<String>,
    },
    /// It is made for another kind of machine.
    #[error("{}", .path.display())]
    Platform {
        /// The file or directory.
        path: PathBuf,
        /// The platforms.
        #[source]
        source: WrongPlatform,
    },
}

/// Opens the image at `path`: the one called `name` if there are several.
///
/// The image is given no names: what an archive says it is called is a claim of whoever wrote it, and must not stand for
/// an image of that name later.
///
/// # Errors
///
/// When there is no image that runs on `platform`, or the archive is not as it should be.
pub async fn open(
    path: &Path,
    name: Option<&str>,
    platform: &Platform,
) -> Result<Image, ArchiveError> {
    let (path, name, platform) = (path.to_owned(), name.map(str::to_owned), platform.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let storage = storage::Storage::open(&path)?;
        let selected = contents::select(&storage, name.as_deref(), &platform)?;
        Ok((storage, selected))
    });
    let (storage, selected) = opened.await.map_err(|error| ArchiveError::Unreadable {
        path: PathBuf::new(),
        source: io::Error::other(error),
    })??;
    Ok(Image {
        description: selected.description,
        names: Vec::new(),
        source: Some(Arc::new(source::Archive::new(storage, selected.layers))),
    })
}
