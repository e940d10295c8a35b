//! Removing a directory with all that is in it, however deep.
//!
//! An archive can make a tree deeper than any path is long and than a process has descriptors or stack for. So nothing
//! here descends: directories that are found in directories are moved up to the top, where they wait for their turn.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, Result};

/// Removes what is called `name` in `parent`, be it a directory or anything else. Nothing that is missing is an error.
///
/// # Errors
///
/// When the file system refuses; part of it may be gone then.
pub fn remove_all(parent: impl AsFd, name: &[u8]) -> Result<()> {
    match fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match open(&parent, name) {
        Ok(top) => empty(&top)?,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    }
    remove_dir(&parent, name)
}

/// Removes all that is in `top`.
fn empty(top: &OwnedFd) -> Result<()> {
    let mut moved = 0_u64;
    loop {
        let mut found = false;
        for (name, kind) in list(top)? {
            found = true;
            if kind == FileType::Directory {
                let dir = open(top, &name)?;
                flatten(&dir, top, &mut moved)?;
                remove_dir(top, &name)?;
            } else {
                remove_file(top, &name)?;
            }
        }
        if !found {
            return Ok(());
        }
    }
}

/// Removes the files in `dir`, and moves the directories in it to `top`.
fn flatten(dir: &OwnedFd, top: &OwnedFd, moved: &mut u64) -> Result<()> {
    loop {
        let entries = list(dir)?;
        if entries.is_empty() {
            return Ok(());
        }
        for (name, kind) in entries {
            if kind != FileType::Directory {
                remove_file(dir, &name)?;
            } else if fs::unlinkat(dir, name.as_slice(), AtFlags::REMOVEDIR).is_err() {
                loop {
                    *moved += 1;
                    let place = format!("moved-{moved}");
                    let flags = RenameFlags::NOREPLACE;
                    match fs::renameat_with(dir, name.as_slice(), top, place, flags) {
                        Err(Errno::EXIST) => {}
                        done => break done?,
                    }
                }
            }
        }
    }
}

/// Some of what is in `dir`: nothing only if it is empty. Bounded, since a directory may hold millions.
fn list(dir: &OwnedFd) -> Result<Vec<(Vec<u8>, FileType)>> {
    const AT_ONCE: usize = 1024;

    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let found = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(found.st_mode);
        }
        entries.push((name.to_vec(), kind));
        if entries.len() == AT_ONCE {
            break;
        }
    }
    Ok(entries)
}

fn open(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

fn remove_dir(parent: impl AsFd, name: &[u8]) -> Result<()> {
    ignore_missing(fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
}

fn remove_file(parent: impl AsFd, name: &[u8]) -> Result<()> {
    ignore_missing(fs::unlinkat(parent, name, AtFlags::empty()))
}

/// Two processes may sweep the same leftovers.
fn ignore_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_tree_goes_with_all_that_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path().join("top");
        for sub in ["a/b/c/d", "a/e", "moved-1/moved-2", "x"] {
            fs::create_dir_all(top.join(sub)).expect("made");
            fs::write(top.join(sub).join("file"), "content").expect("written");
        }
        fs::write(dir.path().join("outside"), "stays").expect("written");
        std::os::unix::fs::symlink(dir.path(), top.join("a/b/out")).expect("linked");
        let parent = fs::File::open(dir.path()).expect("opened");
        remove_all(&parent, b"top").expect("removed");
        assert!(!top.exists());
        assert!(dir.path().join("outside").exists());
        remove_all(&parent, b"top").expect("nothing to remove");
    }

    #[test]
    fn depth_beyond_any_path_is_no_obstacle() {
        const DEPTH: usize = 20_000;

        // In memory: a disk may take milliseconds for each directory.
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let parent = OwnedFd::from(fs::File::open(dir.path()).expect("opened"));
        let mut deepest = parent.try_clone().expect("duplicated");
        for _ in 0..DEPTH {
            rustix::fs::mkdirat(&deepest, "d", Mode::RWXU).expect("made");
            deepest = open(&deepest, b"d").expect("opened");
        }
        drop(deepest);
        remove_all(&parent, b"d").expect("removed");
        assert!(!dir.path().join("d").exists());
    }
}
