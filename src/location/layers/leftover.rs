//! What interrupted uploads have left.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{PART, PART_LIFE, Store};
use crate::ids::{Digest, UserId};
use crate::lock;

impl Store {
    /// Space that uploads of the store's user take, under way and interrupted, in bytes. None at all can be read as none.
    #[must_use]
    pub fn parts_size(&self) -> u64 {
        let parts = self.own_parts();
        let sizes = parts
            .iter()
            .map(|part| fs::metadata(part).map_or(0, |part| part.len()));
        sizes.sum()
    }

    /// Removes what interrupted uploads of the store's user have left. Those that are under way are left alone.
    pub fn drop_parts(&self) {
        for part in self.own_parts() {
            let removed = File::open(&part)
                .and_then(|file| lock::try_exclusive(file, &part))
                .and_then(|_locked| fs::remove_file(&part));
            match removed {
                Err(error) if is_in_use_or_gone(&error) => {}
                Err(error) => warn(&part, &error),
                Ok(()) => {}
            }
        }
    }

    fn own_parts(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| self.is_own_part(path)).collect()
    }

    /// Whether the file is an upload of the store's user, be it one beside another.
    fn is_own_part(&self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return false;
        };
        let mut words = name.split('.').skip(1);
        let owner = self.owner.as_ref().map(UserId::as_str);
        name.ends_with(PART) && owner.is_none_or(|owner| words.next() == Some(owner))
    }

    /// Removes parts that nobody writes to and nobody will go on with.
    pub(super) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != PART) {
                continue;
            }
            if let Err(error) = sweep_part(&path) {
                warn(&path, &error);
            }
        }
        Ok(())
    }
}

fn warn(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "cannot remove an interrupted upload");
}

/// Somebody is writing it, or has finished it meanwhile.
fn is_in_use_or_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotFound
    )
}

fn sweep_part(path: &Path) -> io::Result<()> {
    let file = match File::open(path).and_then(|file| lock::try_exclusive(file, path)) {
        Ok(file) => file,
        Err(error) if is_in_use_or_gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let resumable = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .is_some_and(is_resumable);
    let age = SystemTime::now()
        .duration_since(file.metadata()?.modified()?)
        .unwrap_or_default();
    if !resumable || age > PART_LIFE {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether a part's name, without the extension, says whose it is and no more.
fn is_resumable(stem: &str) -> bool {
    let (layer, owner) = match stem.split_once('.') {
        Some((layer, owner)) => (layer, Some(owner)),
        None => (stem, None),
    };
    layer.parse::<Digest>().is_ok() && owner.is_none_or(|owner| owner.parse::<UserId>().is_ok())
}
