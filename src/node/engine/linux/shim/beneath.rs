//! Directories and files beneath a root whose content is not to be trusted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

use super::super::sys::{OpenHow, open_beneath};

/// Opens the directory `path` beneath `root`, making what is missing of it with mode 0755.
///
/// New directories belong to user and group `owner`, or to the caller.
pub(super) fn directory(root: impl AsFd, path: &Path, owner: Option<u32>) -> io::Result<OwnedFd> {
    let how = OpenHow {
        flags: libc::O_PATH | libc::O_DIRECTORY,
        ..OpenHow::default()
    };
    match open_beneath(&root, path, how) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        done => return done,
    }
    let mut reached = PathBuf::from("/");
    let mut current = open_beneath(&root, &reached, how)?;
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        };
        reached.push(name);
        // By the whole path each time: a link on the way may be relative to any directory, and `..` may follow one.
        current = match open_beneath(&root, &reached, how) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                mkdirat(
                    Some(current.as_raw_fd()),
                    name,
                    Mode::from_bits_truncate(0o755),
                )?;
                if let Some(owner) = owner {
                    give(&current, name, owner)?;
                }
                open_beneath(&root, &reached, how)?
            }
            other => other?,
        };
    }
    Ok(current)
}

/// Writes a new file, in place of a file or link of that name. A directory of that name is an error.
pub(super) fn write_file(
    directory: &OwnedFd,
    name: &OsStr,
    mode: u32,
    owner: u32,
    content: &[u8],
) -> io::Result<()> {
    match unlinkat(
        Some(directory.as_raw_fd()),
        name,
        UnlinkatFlags::NoRemoveDir,
    ) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let how = OpenHow {
        flags: libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW,
        mode: 0o600,
        ..OpenHow::default()
    };
    let mut file = File::from(open_beneath(directory, name, how)?);
    file.write_all(content)?;
    std::os::unix::fs::fchown(&file, Some(owner), Some(owner))?;
    // After the change of owner, which clears the set-id bits.
    fchmod(file.as_raw_fd(), Mode::from_bits_truncate(mode & 0o7777))?;
    Ok(())
}

fn give(directory: &OwnedFd, name: &OsStr, owner: u32) -> io::Result<()> {
    Ok(fchownat(
        Some(directory.as_raw_fd()),
        name,
        Some(Uid::from_raw(owner)),
        Some(Gid::from_raw(owner)),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn directories_are_made_through_links_and_never_outside() {
        let outside = tempfile::tempdir().expect("a directory");
        let root_path = outside.path().join("root");
        std::fs::create_dir_all(root_path.join("real")).expect("made");
        symlink("/real", root_path.join("absolute")).expect("a link");
        symlink("../../../..", root_path.join("up")).expect("a link");
        symlink("nowhere", root_path.join("dangling")).expect("a link");
        let root = File::open(&root_path).expect("opened");

        directory(&root, Path::new("/absolute/a/b"), None).expect("made");
        assert!(root_path.join("real/a/b").is_dir());
        directory(&root, Path::new("/up/c"), None).expect("made");
        assert!(root_path.join("c").is_dir());
        directory(&root, Path::new("/../../d"), None).expect("made");
        assert!(root_path.join("d").is_dir());
        directory(&root, Path::new("/dangling/e"), None).expect_err("leads nowhere");
        directory(&root, Path::new("/proc/self/fd/0"), None).expect("plain names in here");

        let mut names: Vec<_> = std::fs::read_dir(outside.path())
            .expect("listed")
            .map(|entry| entry.expect("listed").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["root"]);
    }

    #[test]
    fn a_file_takes_the_place_of_a_link() {
        let outside = tempfile::tempdir().expect("a directory");
        let root_path = outside.path().join("root");
        std::fs::create_dir(&root_path).expect("made");
        std::fs::write(outside.path().join("victim"), "old").expect("written");
        symlink("../victim", root_path.join("file")).expect("a link");
        let root = File::open(&root_path).expect("opened");
        let top = directory(&root, Path::new("/"), None).expect("opened");
        let owner = nix::unistd::geteuid().as_raw();
        write_file(&top, OsStr::new("file"), 0o640, owner, b"new").expect("written");
        let read = |path: PathBuf| std::fs::read_to_string(path).expect("read");
        assert_eq!(read(outside.path().join("victim")), "old");
        assert_eq!(read(root_path.join("file")), "new");
    }
}
