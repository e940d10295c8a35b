//! What a lasting shim keeps, and whom it gives that to. See [`super::super::custody`].
//!
//! Whoever connects must be root: the socket is in a directory of root's, in a part of the file system that no container can
//! see, and the kernel says who has connected.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{SockFlag, accept4, getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use serde_bytes::ByteBuf;

use super::super::control::{self, Problem, Status, Step};
use super::super::custody::{ENGINE, Handover, Keep, Kept, Offer, Place, VERSION, placed};
use super::super::sys;
use super::view::LAYERS;

/// How long an engine that takes over may leave a message unread. Nothing else is done meanwhile.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest lease: as good as for ever, and the clock can still count it.
const LONGEST_LEASE: Duration = Duration::from_hours(24 * 365);

/// Keeps containers for the next engine.
pub(super) struct Keeper {
    /// Where the next engine connects.
    listener: OwnedFd,
    /// How long to wait for it.
    lease: Duration,
    /// Until when, while there is no engine.
    deadline: Option<Instant>,
    items: BTreeMap<String, Item>,
}

struct Item {
    process: Option<i32>,
    status: Option<Status>,
    descriptors: Vec<Option<OwnedFd>>,
    record: ByteBuf,
    /// Locks on the directories.
    _layers: Vec<File>,
}

impl Keeper {
    /// Keeps nothing yet. `listener` does not block.
    pub(super) fn new(listener: OwnedFd, lease: Duration) -> Self {
        Self {
            listener,
            lease: lease.min(LONGEST_LEASE),
            deadline: None,
            items: BTreeMap::new(),
        }
    }

    /// Sets how long to wait.
    pub(super) fn set_lease(&mut self, lease: Duration) {
        self.lease = lease.min(LONGEST_LEASE);
    }

    /// Keeps something from now on, whose descriptors these are.
    pub(super) fn keep(&mut self, keep: Keep, descriptors: Vec<OwnedFd>) -> Result<(), Problem> {
        let descriptors = placed(&keep.present, descriptors)
            .ok_or_else(|| Problem::Other("a request without its descriptors".to_owned()))?;
        let process = descriptors.get(Place::Process as usize);
        if keep.process.is_some()
            && process.is_some_and(|process| process.as_ref().is_some_and(has_ended))
        {
            // Its end was reported before, and nobody would ever hear of it again.
            return Err(Problem::Other("the container has ended".to_owned()));
        }
        let lock = |layer| {
            let directory = File::open(Path::new(LAYERS).join(layer))?;
            // The engine has it at this moment, so there is nobody to wait for.
            directory.lock_shared()?;
            Ok(directory)
        };
        let layers = keep.layers.iter().map(lock).collect::<io::Result<_>>();
        let item = Item {
            process: keep.process,
            status: None,
            descriptors,
            record: keep.record,
            _layers: layers.step("hold the layers of the container")?,
        };
        self.items.insert(keep.name, item);
        Ok(())
    }

    /// Closes a descriptor that the engine has closed, so that the container notices.
    pub(super) fn let_go(&mut self, name: &str, place: Place) {
        let item = self.items.get_mut(name);
        if let Some(descriptor) = item.and_then(|item| item.descriptors.get_mut(place as usize)) {
            *descriptor = None;
        }
    }

    /// Keeps something no longer.
    pub(super) fn forget(&mut self, name: &str) {
        self.items.remove(name);
    }

    /// Remembers how a process ended.
    pub(super) fn ended(&mut self, process: i32, status: Status) {
        let running = |item: &&mut Item| item.process == Some(process) && item.status.is_none();
        if let Some(item) = self.items.values_mut().find(running) {
            item.status = Some(status);
        }
    }

    /// The engine has gone. Whether there is something to keep for the next one.
    pub(super) fn orphan(&mut self) -> bool {
        self.deadline = Some(Instant::now() + self.lease);
        self.items.contains_key(ENGINE)
    }

    /// How long there is still to wait, while there is no engine.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Kills those of our children that nobody keeps: further processes, and whatever was being made when the engine died.
    /// Returns how many there are. What they leave to us when they die comes next.
    pub(super) fn kill_others(&self) -> io::Result<usize> {
        let kept: Vec<_> = self.items.values().filter_map(Item::living).collect();
        let mut others = 0;
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has gone in the meantime is nobody's.
            let stat = fs::read(Path::new("/proc").join(&name).join("stat")).unwrap_or_default();
            if parent(&String::from_utf8_lossy(&stat)) == Some(1) && !kept.contains(&process) {
                others += 1;
                match kill(Pid::from_raw(process), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(others)
    }

    /// Where the next engine connects.
    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers who has connected. Returns the socket to the next engine, if that is what it is now.
    pub(super) fn receive(&mut self, lock: &[OwnedFd]) -> io::Result<Option<OwnedFd>> {
        let socket = match accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the kernel has just made this descriptor for us.
            #[allow(unsafe_code, reason = "a raw descriptor becomes an owned one")]
            Ok(socket) => unsafe { OwnedFd::from_raw_fd(socket) },
            // It has given up in the meantime.
            Err(_) => return Ok(None),
        };
        if getsockopt(&socket, sockopt::PeerCredentials)?.uid() != 0 {
            return Ok(None);
        }
        setsockopt(&socket, sockopt::SendTimeout, &time(HANDOVER_TIMEOUT))?;
        let free = self.deadline.is_some();
        let offer = Offer {
            version: VERSION,
            free,
        };
        // One that goes before it has all is as good as not there, and the wait goes on.
        let offered = control::send(&socket, &offer, &[sys::pidfd_open(1)?]);
        if !free
            || offered
                .and_then(|()| self.hand_over(&socket, lock))
                .is_err()
        {
            return Ok(None);
        }
        setsockopt(&socket, sockopt::SendTimeout, &time(Duration::ZERO))?;
        self.deadline = None;
        Ok(Some(socket))
    }

    fn hand_over(&self, socket: &OwnedFd, lock: &[OwnedFd]) -> io::Result<()> {
        for (name, item) in &self.items {
            let present = item.descriptors.iter().map(Option::is_some).collect();
            let kept = Handover::Kept(Kept {
                name: name.clone(),
                process: item.process,
                status: item.status,
                present,
                record: item.record.clone(),
            });
            let descriptors: Vec<_> = item.descriptors.iter().flatten().collect();
            control::send(socket, &kept, &descriptors)?;
        }
        control::send(socket, &Handover::End, lock)
    }
}

impl Item {
    /// The process, unless it has ended.
    fn living(&self) -> Option<i32> {
        self.process.filter(|_| self.status.is_none())
    }
}

/// Whether the process that a descriptor stands for has ended and has been reaped.
fn has_ended(process: &OwnedFd) -> bool {
    matches!(
        sys::pidfd_send_signal(process, 0),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH)
    )
}

fn time(duration: Duration) -> TimeVal {
    let seconds = libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX);
    TimeVal::new(seconds, 0)
}

/// The parent in the text of `/proc/PID/stat`, which is the second field after the name: that may have anything in it.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_has_ended_is_not_kept() {
        let listener = File::open("/dev/null").expect("there").into();
        let mut keeper = Keeper::new(listener, Duration::from_secs(1));
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("started");
        let process = i32::try_from(child.id()).expect("a number");
        let pidfd = sys::pidfd_open(process).expect("it is there");
        let mut keep = || {
            let keep = Keep {
                name: "container".to_owned(),
                process: Some(process),
                layers: vec![],
                present: vec![true],
                record: ByteBuf::new(),
            };
            keeper.keep(keep, vec![pidfd.try_clone().expect("copied")])
        };
        keep().expect("it runs");
        child.kill().expect("killed");
        // Not reaped yet, so that its end is still to be noticed.
        keep().expect("it is still there");
        child.wait().expect("ended");
        keep().expect_err("it has ended");
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (sh) S 1 12 12 0 -1"), Some(1));
        assert_eq!(parent("12 (a) S 9 (b) R 7 12"), Some(7));
        for text in ["", "12 (sh", "12 (sh) S", "12 (sh) S x"] {
            assert_eq!(parent(text), None);
        }
    }
}
