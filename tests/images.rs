//! Images, wherever they come from: archives, Docker daemons, registries.

mod archives;
#[cfg(unix)]
mod daemon;
mod damage;
#[cfg(unix)]
mod fake_registry;
#[cfg(unix)]
mod registry;
mod resolve;

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tfnz::image::archive::{self, ArchiveError};
use tfnz::image::{Image, Options};

use crate::common::images::{Compression, Entries, amd64};

fn temp() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

async fn open(path: &Path) -> Result<Image, ArchiveError> {
    archive::open(path, None, &amd64()).await
}

async fn open_error(path: &Path) -> ArchiveError {
    match open(path).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// An archive in a temporary directory.
fn write(entries: &Entries) -> (TempDir, PathBuf) {
    let dir = temp();
    let path = dir.path().join("image.tar");
    entries.write_tar(&path, Compression::Plain);
    (dir, path)
}

/// Options that lead to no Docker daemon and to no login.
fn options() -> Options {
    let mut options = Options::default();
    options.platform = amd64();
    options.docker = tfnz::image::docker::Settings::default();
    options.docker.host = Some("unix:///no/such/docker.sock".to_owned());
    options.registry = tfnz::image::registry::Settings::default();
    options
}
