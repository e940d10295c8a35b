//! Finds the shim of an engine that has died, and takes over what it keeps.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::client::await_end;
use super::control;
use super::custody::{Handover, Kept, Offer, VERSION, placed};
use super::{instance, sys};
use crate::node::engine::EngineError;

/// How long a shim may take to answer, in seconds.
const ANSWER_TIMEOUT: libc::time_t = 10;

/// How long an engine that was killed may take to die. Until then its shim is not to be had.
const DYING: Duration = Duration::from_millis(500);

/// How often to look whether it has died.
const POLL: Duration = Duration::from_millis(10);

/// A shim whose engine has died, and which is ours now.
pub(super) struct Heritage {
    /// Its slot.
    pub(super) slot: u16,
    /// The lock of the slot, which it holds too.
    pub(super) lock: File,
    /// Is connected with it.
    pub(super) socket: OwnedFd,
    /// Stands for it.
    pub(super) pidfd: Arc<OwnedFd>,
    /// What it has kept.
    pub(super) items: Vec<(Kept, Vec<Option<OwnedFd>>)>,
}

impl Heritage {
    /// Ends the shim with all containers.
    pub(super) fn end(&self) {
        end(&self.pidfd);
    }
}

/// Ends a shim, and waits until none of its processes is left.
pub(super) fn end(pidfd: &OwnedFd) {
    // It may have ended by itself.
    let _ = sys::pidfd_send_signal(pidfd, libc::SIGKILL);
    await_end(pidfd);
}

/// What there is at a shim's socket.
enum Found {
    /// Nobody, or somebody who goes.
    Nobody,
    /// A shim that has its engine.
    Taken,
    /// One that we do not understand.
    Strange(OwnedFd, String),
    Ours(Heritage),
}

/// Takes over the shim of a dead engine on this state directory, if there is one. Blocks for as long as that takes.
///
/// One that was started by another version of this program and keeps what this one would not understand is ended with its
/// containers, so that what they leave can be swept.
pub(super) fn take_over(state: &Path) -> Result<Option<Heritage>, EngineError> {
    let failed = |source| EngineError::Failed {
        step: "take back the containers that an earlier process has left".to_owned(),
        source,
    };
    let deadline = Instant::now() + DYING;
    for slot in instance::lasting(state).map_err(failed)? {
        loop {
            // A shim that does not answer keeps nobody from starting: it ends by itself after its lease.
            let found = ask(slot).unwrap_or_else(|error| {
                tracing::warn!(%error, slot, "cannot take back what an earlier process has left");
                Found::Nobody
            });
            match found {
                Found::Taken if Instant::now() < deadline => sleep(POLL),
                Found::Taken | Found::Nobody => break,
                Found::Ours(heritage) => return Ok(Some(heritage)),
                Found::Strange(pidfd, reason) => {
                    tracing::warn!(
                        "containers that an earlier process has left are ended: {reason}"
                    );
                    end(&pidfd);
                    break;
                }
            }
        }
    }
    Ok(None)
}

fn ask(slot: u16) -> io::Result<Found> {
    let path = instance::socket_path(slot);
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let patience = TimeVal::new(ANSWER_TIMEOUT, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    match connect(socket.as_raw_fd(), &UnixAddr::new(&path)?) {
        // The file is what a dead one has left.
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => return Ok(Found::Nobody),
        other => other?,
    }
    let Some((offer, descriptors)) = control::receive::<Offer>(&socket)? else {
        return Ok(Found::Nobody);
    };
    let Some(pidfd) = descriptors.into_iter().next().filter(|_| offer.free) else {
        return Ok(Found::Taken);
    };
    if offer.version != VERSION {
        let reason = format!(
            "they were made by another version of this program, with records of version {} where this one has {VERSION}",
            offer.version
        );
        return Ok(Found::Strange(pidfd, reason));
    }
    match receive(&socket) {
        Ok((items, lock)) => Ok(Found::Ours(Heritage {
            slot,
            lock,
            socket,
            pidfd: Arc::new(pidfd),
            items,
        })),
        // What it says is not what this version says.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Ok(Found::Strange(pidfd, format!("their records are {error}")))
        }
        Err(error) => Err(error),
    }
}

type Items = Vec<(Kept, Vec<Option<OwnedFd>>)>;

fn receive(socket: &OwnedFd) -> io::Result<(Items, File)> {
    let incomplete = || io::Error::new(io::ErrorKind::InvalidData, "incomplete");
    let mut items = Vec::new();
    loop {
        match control::receive::<Handover>(socket)?.ok_or(io::ErrorKind::UnexpectedEof)? {
            (Handover::Kept(kept), descriptors) => {
                let descriptors = placed(&kept.present, descriptors).ok_or_else(incomplete)?;
                items.push((kept, descriptors));
            }
            (Handover::End, descriptors) => {
                let lock = descriptors.into_iter().next().ok_or_else(incomplete)?;
                return Ok((items, File::from(lock)));
            }
        }
    }
}
