//! One of the engines that run on a machine at a time: its number, its directory, and what dead ones have left.
//!
//! The number, a *slot*, is the machine's, not the state directory's: user ids, cgroups, links and addresses are named by
//! it. Who has a slot holds a lock on `/run/20ft/SLOT`, an engine and its shim together, so that the lock is free only when
//! both are gone. The file says which state directory the engine works in.
//!
//! Beside it, `/run/20ft/SLOT.sock` is where a lasting shim is found by the next engine on the same state directory. It is
//! for root: the directory is closed to others, and no container sees it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use super::cgroups::{self, Hierarchies};
use super::network;
use super::takeover::Heritage;
use crate::node::engine::EngineError;

/// Where the locks are.
const LOCKS: &str = "/run/20ft";
/// Engines that a machine can have at a time.
pub(super) const SLOTS: u16 = 128;

/// The place of a living engine among those of the machine.
#[derive(Debug)]
pub(super) struct Instance {
    slot: u16,
    lock: File,
    directory: PathBuf,
}

impl Instance {
    /// Sweeps what dead engines have left, and takes the first free slot.
    pub(super) fn take(state: &Path) -> Result<Self, EngineError> {
        sweep_dead(state)?;
        for slot in 0..SLOTS {
            let Some(mut lock) = lock(slot).map_err(lock_failed)? else {
                continue;
            };
            // Whoever had it may have died since the others were swept.
            if lock.metadata().map_err(lock_failed)?.len() > 0 {
                sweep(slot, &lock, state)?;
            }
            // Who had it last has ended a moment ago. Another one is had at once.
            if network::lingers(slot)? {
                fs::remove_file(lock_path(slot)).map_err(lock_failed)?;
                continue;
            }
            let directory = state.join("run").join(slot.to_string());
            lock.set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| lock.write_all(state.as_os_str().as_bytes()))
                .map_err(lock_failed)?;
            let instance = Self {
                slot,
                lock,
                directory,
            };
            instance.make_directory()?;
            return Ok(instance);
        }
        Err(EngineError::InUse(format!(
            "every place for a running `tf` on this machine (there are {SLOTS}; see /run/20ft)"
        )))
    }

    /// Takes the place of an engine that has died, and sweeps what others have left.
    pub(super) fn resume(heritage: &Heritage, state: &Path) -> Result<Self, EngineError> {
        sweep_dead(state)?;
        let lock = heritage.lock.try_clone();
        Ok(Self {
            slot: heritage.slot,
            lock: lock.map_err(|source| failed("keep the lock of a slot", source))?,
            directory: state.join("run").join(heritage.slot.to_string()),
        })
    }

    /// The number.
    pub(super) fn slot(&self) -> u16 {
        self.slot
    }

    /// The directory for what it has as long as it lives.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory, unless it is there.
    pub(super) fn make_directory(&self) -> Result<(), EngineError> {
        let make = |directory: &Path| {
            private_directory(directory).map_err(|source| {
                failed(
                    &format!("make the directory {}", directory.display()),
                    source,
                )
            })
        };
        // The one above first, which is to be closed to others as well.
        self.directory.parent().map_or(Ok(()), make)?;
        make(&self.directory)
    }

    /// The lock, to be held by the shim too.
    pub(super) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// A socket for the next engine to connect to. Does not block.
    pub(super) fn listen(&self) -> io::Result<OwnedFd> {
        let path = socket_path(self.slot);
        // Of somebody who had the slot before.
        remove_if_there(&path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(socket.as_raw_fd(), &UnixAddr::new(&path)?)?;
        listen(&socket, Backlog::new(4)?)?;
        Ok(socket)
    }

    /// Removes what the containers of the instance have left. Its shim is gone.
    pub(super) fn clear_containers(&self) -> Result<(), EngineError> {
        let hierarchies = Hierarchies::find()
            .map_err(|source| failed("find the cgroups of the machine", source))?;
        hierarchies
            .remove(&cgroups::instance(self.slot))
            .map_err(|source| failed("remove the cgroups of containers", source))?;
        hierarchies.remove_top();
        remove_directory(&self.directory)
    }

    /// Removes all that the instance has left. Its shim is gone.
    pub(super) fn clear(&self) -> Result<(), EngineError> {
        self.clear_containers()?;
        remove_if_there(&socket_path(self.slot))
            .map_err(|source| failed("remove a socket from /run/20ft", source))?;
        fs::remove_file(lock_path(self.slot))
            .map_err(|source| failed("remove a lock from /run/20ft", source))
    }
}

fn lock_failed(source: io::Error) -> EngineError {
    failed("lock a slot in /run/20ft", source)
}

/// Sweeps what dead engines have left.
fn sweep_dead(state: &Path) -> Result<(), EngineError> {
    private_directory(Path::new(LOCKS))
        .map_err(|source| failed("make the directory of the locks, /run/20ft", source))?;
    for slot in abandoned(state).map_err(lock_failed)? {
        if let Some(lock) = lock(slot).map_err(lock_failed)? {
            sweep(slot, &lock, state)?;
            fs::remove_file(lock_path(slot)).map_err(lock_failed)?;
        }
    }
    Ok(())
}

/// Slots that somebody has used, according to their locks and directories.
fn abandoned(state: &Path) -> io::Result<Vec<u16>> {
    let mut slots = Vec::new();
    for directory in [Path::new(LOCKS), &state.join("run")] {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let slot = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            slots.extend(slot.filter(|slot| *slot < SLOTS && !slots.contains(slot)));
        }
    }
    Ok(slots)
}

/// Slots of engines on this state directory, dead or alive, that may have a lasting shim.
pub(super) fn lasting(state: &Path) -> io::Result<Vec<u16>> {
    let slots = abandoned(state)?;
    let ours = |slot: &u16| {
        // One that goes meanwhile is nobody's.
        socket_path(*slot).exists()
            && fs::read(lock_path(*slot)).is_ok_and(|owner| owner == state.as_os_str().as_bytes())
    };
    Ok(slots.into_iter().filter(ours).collect())
}

/// The names of what is in a directory.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Where the shim of a slot waits for the next engine.
pub(super) fn socket_path(slot: u16) -> PathBuf {
    Path::new(LOCKS).join(format!("{slot}.sock"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn lock_path(slot: u16) -> PathBuf {
    Path::new(LOCKS).join(slot.to_string())
}

/// Locks a slot, unless somebody has it.
fn lock(slot: u16) -> io::Result<Option<File>> {
    let path = lock_path(slot);
    loop {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        // Whoever had it may have removed the file in between; then the lock is on nothing.
        match fs::metadata(&path) {
            Ok(found) if found.ino() == file.metadata()?.ino() => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes what a dead engine has left. Its lock is ours.
fn sweep(slot: u16, mut lock: &File, state: &Path) -> Result<(), EngineError> {
    tracing::debug!(slot, "sweeping what an engine has left");
    let hierarchies =
        Hierarchies::find().map_err(|source| failed("find the cgroups of the machine", source))?;
    hierarchies
        .remove(&cgroups::instance(slot))
        .map_err(|source| failed("remove the cgroups of dead containers", source))?;
    hierarchies.remove_top();
    network::sweep(slot)?;
    let mut other = Vec::new();
    lock.rewind()
        .and_then(|()| lock.read_to_end(&mut other))
        .map_err(|source| failed("read a lock of /run/20ft", source))?;
    let other = PathBuf::from(std::ffi::OsString::from_vec(other));
    for state in [state, &other] {
        if state.is_absolute() {
            remove_directory(&state.join("run").join(slot.to_string()))?;
        }
    }
    remove_if_there(&socket_path(slot))
        .map_err(|source| failed("remove a socket from /run/20ft", source))
}

fn remove_directory(directory: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(
            &format!("remove the directory {}", directory.display()),
            error,
        )),
        _ => Ok(()),
    }
}

/// Makes a directory that only its owner can look into, unless it is there.
fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn failed(step: &str, source: io::Error) -> EngineError {
    EngineError::Failed {
        step: step.to_owned(),
        source,
    }
}
