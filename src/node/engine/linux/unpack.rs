//! Unpacking a layer's tar into a directory, in the form that overlayfs stacks.
//!
//! ```text
//! bytes ── entries (pax, sparse) ──▶ Entry ── name ──▶ Role ── here ──▶ files, beneath the root by way of tree
//! ```
//!
//! The layer is hostile until proven otherwise. Whatever its names and links say, nothing outside the root is read or
//! written: `name` cleans them, `tree` has the kernel resolve what is left, and the last part of a name is never
//! followed. What Docker would unpack is unpacked as Docker would, what it would refuse is refused, with the entry's
//! name.
//!
//! This runs on a blocking thread and knows nothing of digests, stores and engines.

mod attributes;
pub mod entries;
mod fault;
pub mod name;
pub mod pax;
pub mod remove;
pub mod sparse;
mod tree;

use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::attributes::Attributes;
use self::entries::{Entries, Entry, Kind, ReadError};
use self::fault::{Done, Fault, shown};
use self::name::{Name, Role};
use self::sparse::Map;
use self::tree::Tree;

/// Most entries of a layer. The largest images have some hundred thousand.
const MAX_ENTRIES: u64 = 10_000_000;

/// Most memory for directories that are finished at the end, in bytes.
const MAX_UNFINISHED: usize = 128 << 20;

/// Highest numbers of devices that the kernel has.
const MAX_DEVICE: (u32, u32) = ((1 << 12) - 1, (1 << 20) - 1);

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not a tar, or has an entry that cannot or must not be unpacked. The text names it.
    #[error("{0}")]
    Bad(String),
    /// The file system is full.
    #[error("no space left")]
    DiskFull,
    /// What the layer is read from has failed.
    #[error("cannot read the layer")]
    Input(#[source] io::Error),
    /// A step failed that should not have.
    #[error("cannot {step}")]
    System {
        /// What was tried.
        step: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Unpacks the tar that `input` yields into the directory `root`, which is empty and private to the caller. What
/// follows the tar's end is left in `input`.
///
/// # Errors
///
/// When the layer is bad, or the system fails. What is in `root` then is of no use.
pub fn unpack(root: OwnedFd, input: impl BufRead) -> Result<(), UnpackError> {
    let mut entries = Entries::new(input);
    let mut unpacker = Unpacker {
        tree: Tree::new(root),
        unfinished: Vec::new(),
        memory: 0,
    };
    let mut last = Vec::new();
    for _ in 0..MAX_ENTRIES {
        match entries.next_entry() {
            Ok(Some(entry)) => {
                unpacker
                    .entry(&entry, &mut entries)
                    .map_err(|fault| fault.at(&entry.name))?;
                last = entry.name;
            }
            Ok(None) => return unpacker.finish(),
            Err(error) => return Err(after(&last, error)),
        }
    }
    Err(UnpackError::Bad(format!(
        "it has more than {MAX_ENTRIES} entries"
    )))
}

/// An error between entries.
fn after(last: &[u8], error: ReadError) -> UnpackError {
    match error {
        ReadError::Malformed(reason) if last.is_empty() => {
            UnpackError::Bad(format!("it is not a tar: {reason}"))
        }
        ReadError::Malformed(reason) => {
            UnpackError::Bad(format!("after `{}`: {reason}", shown(last)))
        }
        ReadError::Io(error) => UnpackError::Input(error),
    }
}

/// A directory whose attributes are set when everything in it is in place: its time would change, and what is made in
/// it would inherit its access list.
struct Unfinished {
    name: Name,
    attributes: Attributes,
}

struct Unpacker {
    tree: Tree,
    unfinished: Vec<Unfinished>,
    /// What `unfinished` takes, in bytes.
    memory: usize,
}

impl Unpacker {
    fn entry(&mut self, entry: &Entry, entries: &mut Entries<impl BufRead>) -> Done {
        let name = match Role::of(&entry.name)? {
            Role::Ignored => return Ok(()),
            Role::Opaque(dir) => {
                let dir = self.tree.make_dir(dir.as_bytes())?;
                return Ok(Tree::make_opaque(&dir)?);
            }
            Role::Whiteout(name) => return self.whiteout(&name),
            Role::Content(name) => name,
        };
        let attributes = Attributes::of(entry);
        let Some((parent, last)) = name.split() else {
            if entry.kind != Kind::Directory {
                return Err(Fault::bad("the root of a layer is a directory"));
            }
            return self.finish_later(name, attributes);
        };
        let dir = self.tree.make_dir(parent)?;
        match entry.kind {
            Kind::File => {
                let file = self.file(&dir, last)?;
                write(&file, entry.sparse.as_ref(), entries)?;
                attributes.set(&file.into())
            }
            Kind::Directory => {
                self.directory(&dir, last)?;
                self.finish_later(name, attributes)
            }
            Kind::Symlink => {
                self.symlink(&dir, last, &entry.link)?;
                attributes.set_at(&dir, last, true)
            }
            Kind::HardLink => self.hard_link(&dir, last, &entry.link),
            // What overlayfs takes for a whiteout is one, wherever it comes from: layers made by packing an upper
            // directory as it is have them.
            Kind::Character { major: 0, minor: 0 } => self.whiteout(&name),
            Kind::Character { major, minor } => {
                let device = device(major, minor)?;
                self.device(&dir, last, FileType::CharacterDevice, device, &attributes)
            }
            Kind::Block { major, minor } => {
                let device = device(major, minor)?;
                self.device(&dir, last, FileType::BlockDevice, device, &attributes)
            }
            Kind::Fifo => {
                self.node(&dir, last, FileType::Fifo, 0)?;
                attributes.set_at(&dir, last, false)
            }
        }
    }

    /// Makes something called `name` in `dir`, in place of whatever has that name.
    fn place<T>(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Done<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.tree.remove(dir, name)?;
                Ok(make()?)
            }
            result => Ok(result?),
        }
    }

    fn file(&mut self, dir: &OwnedFd, name: &[u8]) -> Done<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = self.place(dir, name, || fs::openat(dir, name, flags, mode))?;
        Ok(file.into())
    }

    fn directory(&mut self, dir: &OwnedFd, name: &[u8]) -> Done {
        let make = || fs::mkdirat(dir, name, tree::UNFINISHED);
        match make() {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
        let found = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if tree::is_whiteout(&found) {
            self.tree.replace_whiteout(dir, name, tree::UNFINISHED)?;
        } else if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            self.tree.remove(dir, name)?;
            make()?;
        }
        Ok(())
    }

    fn symlink(&mut self, dir: &OwnedFd, name: &[u8], target: &[u8]) -> Done {
        if target.is_empty() || target.contains(&0) {
            return Err(Fault::bad("it is a symbolic link to nothing"));
        }
        self.place(dir, name, || fs::symlinkat(target, dir, name))
    }

    fn hard_link(&mut self, dir: &OwnedFd, name: &[u8], target: &[u8]) -> Done {
        let missing = || {
            let target = shown(target);
            Fault::Bad(format!(
                "it is a hard link to `{target}`, which is not in the layer"
            ))
        };
        let target_name = Name::clean(target)
            .map_err(|reason| Fault::Bad(format!("what it is a hard link to: {reason}")))?;
        let (parent, last) = target_name.split().ok_or_else(missing)?;
        let target_dir = match self.tree.dir(parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
            found => found?,
        };
        let stat = |dir: &OwnedFd, name: &[u8]| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let found = match stat(&target_dir, last) {
            Err(Errno::NOENT) => return Err(missing()),
            found => found?,
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(Fault::bad("it is a hard link to a directory"));
        }
        let same = |other: fs::Stat| (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino);
        if stat(dir, name).is_ok_and(same) {
            return Ok(());
        }
        let link = || fs::linkat(&*target_dir, last, dir, name, AtFlags::empty());
        match self.place(dir, name, link) {
            // The directory that it replaces had the target in it.
            Err(Fault::System(Errno::NOENT)) => Err(missing()),
            linked => linked,
        }
    }

    /// Makes a device, where the machine allows it. No container can open it anyway, since their root file systems are
    /// mounted without devices; it is made so that the image looks complete.
    fn device(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        kind: FileType,
        device: fs::Dev,
        attributes: &Attributes,
    ) -> Done {
        match self.node(dir, name, kind, device) {
            Err(Fault::System(Errno::PERM)) => {
                tracing::debug!(name = shown(name), "devices cannot be made here");
                Ok(())
            }
            made => made.and_then(|()| attributes.set_at(dir, name, false)),
        }
    }

    fn node(&mut self, dir: &OwnedFd, name: &[u8], kind: FileType, device: fs::Dev) -> Done {
        let mode = Mode::RUSR | Mode::WUSR;
        self.place(dir, name, || fs::mknodat(dir, name, kind, mode, device))
    }

    /// Hides what lower layers have under `name`. What this layer has there stays, whichever comes first in the
    /// archive.
    fn whiteout(&mut self, name: &Name) -> Done {
        let (parent, last) = name
            .split()
            .ok_or_else(|| Fault::bad("the root of a layer cannot be hidden"))?;
        let dir = self.tree.make_dir(parent)?;
        let kind = FileType::CharacterDevice;
        match fs::mknodat(&*dir, last, kind, Mode::empty(), 0) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        match tree::open_dir(&dir, last) {
            Ok(found) => Ok(Tree::make_opaque(&found)?),
            // Anything else hides what is below it by being there.
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn finish_later(&mut self, name: Name, attributes: Attributes) -> Done {
        self.memory += size_of::<Unfinished>() + name.as_bytes().len() + attributes.memory();
        if self.memory > MAX_UNFINISHED {
            return Err(Fault::bad("the layer has too many directories"));
        }
        self.unfinished.push(Unfinished { name, attributes });
        Ok(())
    }

    /// Sets what was put off.
    fn finish(mut self) -> Result<(), UnpackError> {
        for Unfinished { name, attributes } in std::mem::take(&mut self.unfinished) {
            self.finish_dir(&name, &attributes)
                .map_err(|fault| fault.at(name.as_bytes()))?;
        }
        Ok(())
    }

    fn finish_dir(&mut self, name: &Name, attributes: &Attributes) -> Done {
        let found = match name.split() {
            None => self.tree.dir(b""),
            Some((parent, last)) => self
                .tree
                .dir(parent)
                .and_then(|dir| tree::open_dir(&dir, last))
                .map(Rc::new),
        };
        match found {
            Ok(dir) => attributes.set(&dir),
            // A later entry has replaced it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn device(major: u32, minor: u32) -> Done<fs::Dev> {
    if major > MAX_DEVICE.0 || minor > MAX_DEVICE.1 {
        // The kernel would cut the number off, and make another device of it.
        return Err(Fault::bad("its device number is out of range"));
    }
    Ok(fs::makedev(major, minor))
}

/// Writes the content of the current entry.
fn write(file: &File, sparse: Option<&Map>, entries: &mut Entries<impl BufRead>) -> Done {
    let Some(map) = sparse else {
        let end = entries.remaining();
        return write_piece(file, 0, end, entries);
    };
    for piece in &map.pieces {
        write_piece(file, piece.offset, piece.length, entries)?;
    }
    Ok(fs::ftruncate(file, map.size)?)
}

fn write_piece(
    file: &File,
    mut offset: u64,
    mut left: u64,
    entries: &mut Entries<impl BufRead>,
) -> Done {
    while left > 0 {
        let ready = entries.content()?;
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let ready = &ready[..ready.len().min(most)];
        let length = ready.len();
        if length == 0 {
            return Err(Fault::bad("its content is shorter than it says"));
        }
        file.write_all_at(ready, offset)
            .map_err(|error| Fault::System(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        entries.consume(length);
        offset += length as u64;
        left -= length as u64;
    }
    Ok(())
}
