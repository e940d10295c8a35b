//! The directories of a layer that is being unpacked, all of them reached beneath its root.
//!
//! Docker unpacks inside a changed root: a symbolic link of the layer in the middle of a name is followed, and where
//! it leads out of the layer it leads to the layer's root. Here the kernel does the same with `openat2` and
//! `RESOLVE_IN_ROOT`, for directories only; the last part of a name is always used with a directory's descriptor and
//! never followed.
//!
//! The directory belongs to this process alone while it is unpacked, so nothing is exchanged between two looks at it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::name::MAX_NAME;
use super::remove;

/// Directories that are kept open. Archives go through a tree depth first, so a few are enough.
const OPEN: usize = 64;

/// Symbolic links that are followed to make one missing directory; the kernel has the same limit.
const MAX_LINKS: usize = 40;

/// How directories are opened.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Mode of directories until theirs is known, which is when everything in them is in place.
pub(super) const UNFINISHED: Mode = Mode::RWXU;

/// Mode of directories that the archive has no entry for.
const IMPLIED: Mode = Mode::from_raw_mode(0o755);

/// The attribute of a directory that hides what lower layers have in it.
const OPAQUE: &str = "trusted.overlay.opaque";

/// A layer's root and some of the directories beneath it.
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    open: HashMap<Box<[u8]>, Rc<OwnedFd>>,
}

impl Tree {
    /// The tree beneath `root`.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self {
            root: Rc::new(root),
            open: HashMap::new(),
        }
    }

    /// The directory at `path`, which is made if it is missing.
    pub(super) fn make_dir(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        match self.dir(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let dir = self.make_missing(path.to_vec())?;
                Ok(self.keep(path, dir))
            }
            found => found,
        }
    }

    /// The directory at `path`.
    pub(super) fn dir(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(dir) = self.open.get(path) {
            return Ok(Rc::clone(dir));
        }
        let dir = self.resolve(path)?;
        Ok(self.keep(path, dir))
    }

    /// Removes whatever is called `name` in `dir`.
    pub(super) fn remove(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        // A directory that is open may be beneath it, or be reached through it.
        self.open.clear();
        remove::remove_all(dir, name)
    }

    /// Hides what lower layers have in `dir`.
    pub(super) fn make_opaque(dir: &OwnedFd) -> Result<()> {
        fs::fsetxattr(dir, OPAQUE, b"y", fs::XattrFlags::empty())
    }

    fn keep(&mut self, path: &[u8], dir: OwnedFd) -> Rc<OwnedFd> {
        if self.open.len() == OPEN {
            self.open.clear();
        }
        let dir = Rc::new(dir);
        self.open.insert(path.into(), Rc::clone(&dir));
        dir
    }

    fn resolve(&self, path: &[u8]) -> Result<OwnedFd> {
        fs::openat2(
            &*self.root,
            path,
            DIRECTORY,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV,
        )
    }

    /// Makes the directory at `path` and those it is in, and what symbolic links on the way lead to.
    fn make_missing(&mut self, mut path: Vec<u8>) -> Result<OwnedFd> {
        for _ in 0..=MAX_LINKS {
            if path.len() > MAX_NAME {
                return Err(Errno::NAMETOOLONG);
            }
            match self.make_along(&path)? {
                Made::Directory(dir) => return Ok(dir),
                Made::Through(next) => path = next,
            }
        }
        Err(Errno::LOOP)
    }

    /// Makes what is missing along `path`, up to the first symbolic link that leads to nothing.
    fn make_along(&mut self, path: &[u8]) -> Result<Made> {
        let (mut dir, mut end) = self.deepest(path)?;
        while end < path.len() {
            let start = end + path[end..].iter().take_while(|byte| **byte == b'/').count();
            let length = path[start..].iter().position(|byte| *byte == b'/');
            end = length.map_or(path.len(), |length| start + length);
            let part = &path[start..end];
            match part {
                b"" | b"." => continue,
                // Comes from links only.
                b".." => {
                    dir = self.resolve(&path[..end])?;
                    continue;
                }
                _ => {}
            }
            if let Some(target) = self.make_part(&dir, part)? {
                let rest = &path[end..];
                // Relative to where the link is, which the kernel finds again by the same way.
                let next = if target.starts_with(b"/") {
                    [&target, rest].concat()
                } else {
                    [&path[..start], &target, rest].concat()
                };
                return Ok(Made::Through(next));
            }
            dir = open_dir(&dir, part)?;
        }
        Ok(Made::Directory(dir))
    }

    /// The deepest directory along `path` that is there, and how much of the path leads to it.
    ///
    /// Where a part of the path leads to a directory, all shorter ones do, so halving finds it: a hostile layer would
    /// make looking at each of them take minutes.
    fn deepest(&self, path: &[u8]) -> Result<(OwnedFd, usize)> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = slashes.map(|(place, _)| place).collect();
        let root = fs::openat(&*self.root, ".", DIRECTORY, Mode::empty())?;
        let mut deepest = (root, 0);
        let (mut found, mut missing) = (0, ends.len());
        while found < missing {
            let middle = usize::midpoint(found, missing);
            let end = ends[middle];
            match self.resolve(if end == 0 { b"/" } else { &path[..end] }) {
                Ok(dir) => {
                    deepest = (dir, end);
                    found = middle + 1;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => missing = middle,
                Err(error) => return Err(error),
            }
        }
        Ok(deepest)
    }

    /// Makes the directory `part` in `dir` unless it is there. Where there is a symbolic link, it says what it leads
    /// to.
    fn make_part(&mut self, dir: &OwnedFd, part: &[u8]) -> Result<Option<Vec<u8>>> {
        match make(dir, part, IMPLIED) {
            Err(Errno::EXIST) => {}
            result => return result.map(|()| None),
        }
        let found = fs::statat(dir, part, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => Ok(None),
            FileType::Symlink => Ok(Some(fs::readlinkat(dir, part, Vec::new())?.into_bytes())),
            _ if is_whiteout(&found) => {
                self.replace_whiteout(dir, part, IMPLIED)?;
                Ok(None)
            }
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Makes a directory where lower layers have something that is gone: what they have in it is gone too.
    pub(super) fn replace_whiteout(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        mode: Mode,
    ) -> Result<()> {
        self.remove(dir, name)?;
        make(dir, name, mode)?;
        Self::make_opaque(&open_dir(dir, name)?)
    }
}

/// How far [`Tree::make_along`] came.
enum Made {
    /// To the end.
    Directory(OwnedFd),
    /// To a symbolic link; the path to go on with.
    Through(Vec<u8>),
}

/// Makes the directory `name` in `dir` with exactly `mode`, whatever the process masks.
fn make(dir: &OwnedFd, name: &[u8], mode: Mode) -> Result<()> {
    fs::mkdirat(dir, name, UNFINISHED)?;
    if mode != UNFINISHED {
        fs::chmodat(dir, name, mode, AtFlags::empty())?;
    }
    Ok(())
}

/// Whether overlayfs takes it for a name that is gone: the character device 0:0.
pub(super) fn is_whiteout(found: &fs::Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

/// Opens the directory `name` in `dir`, which is not a symbolic link.
pub(super) fn open_dir(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    fs::openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}
