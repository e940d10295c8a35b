//! Locks on files that may be renamed or removed while one waits for the lock.
//!
//! A lock belongs to the file, not to its name. So each function here looks again, once it has the lock, whether the
//! name still leads to the file; if not, the file is as good as not found.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

/// Locks `file`, which was opened as `path`, together with others. Waits for whoever has it exclusively.
pub(crate) fn shared(file: File, path: &Path) -> io::Result<File> {
    file.lock_shared()?;
    still_there(file, path)
}

/// Locks `file`, which was opened as `path`, for this one alone; [`io::ErrorKind::WouldBlock`] if others have it.
pub(crate) fn try_exclusive(file: File, path: &Path) -> io::Result<File> {
    match file.try_lock() {
        Ok(()) => still_there(file, path),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether `path` leads to the file. Where the standard library has no identity of files to compare: whether it leads to
/// one.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    file.try_clone()
        .and_then(|file| still_there(file, path))
        .is_ok()
}

#[cfg(unix)]
fn still_there(file: File, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::MetadataExt;

    let (opened, named) = (file.metadata()?, fs::metadata(path)?);
    if (opened.dev(), opened.ino()) == (named.dev(), named.ino()) {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Elsewhere the standard library has no identity of files to compare, and names of open files are rarely taken away.
#[cfg(not(unix))]
fn still_there(file: File, path: &Path) -> io::Result<File> {
    fs::metadata(path).map(|_| file)
}
