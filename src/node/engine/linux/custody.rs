//! What a lasting shim keeps of its containers while they have no engine, and how it hands that to the next one.
//!
//! ```text
//! engine ── Keep, LetGo, Forget ──▶ shim      while there is an engine
//!           (the engine dies; the shim waits for the next one, for the time of the lease)
//! next engine ◀── Offer, Kept ..., End ── shim
//! ```
//!
//! What a container is, is a record that the shim hands back as it was given, and descriptors. Those are the engine's ends of
//! what the container is connected to: as the shim has them too, the container does not notice that the engine has gone, and
//! what it has written waits to be read.
//!
//! The next engine may be of another version than the shim. It looks at [`Offer`] first, which never changes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::control::Status;

/// Version of everything that a shim and an engine which did not start it say to each other, and of the records. To be
/// raised with every change by which an engine would not understand, or misunderstand, a shim of the version before.
pub(super) const VERSION: u32 = 2;

/// Name of what is kept of the engine itself. No container has it.
pub(super) const ENGINE: &str = "engine";

/// What a shim says to whoever connects to it. Descriptor: one that stands for the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    /// Its [`VERSION`].
    pub(super) version: u32,
    /// Whether it has no engine. If so, all that it keeps follows.
    pub(super) free: bool,
}

/// Something to keep. Descriptors: those that are [present](Keep::present).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Keep {
    /// Its name, which is a container's or [`ENGINE`].
    pub(super) name: String,
    /// The container's first process, as in [`super::control::Report::Made`].
    pub(super) process: Option<i32>,
    /// Directories of the container's layers, beneath that of the layers, which must stay there.
    pub(super) layers: Vec<PathBuf>,
    /// Which of its descriptors there are. A container's are in the order of [`Place`].
    pub(super) present: Vec<bool>,
    /// What the next engine needs to know.
    pub(super) record: ByteBuf,
}

/// What was kept, for the next engine. Descriptors: those that are [present](Kept::present).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// As given.
    pub(super) name: String,
    /// As given.
    pub(super) process: Option<i32>,
    /// How the process ended, if it has.
    pub(super) status: Option<Status>,
    /// Which of the descriptors are still there.
    pub(super) present: Vec<bool>,
    /// As given.
    pub(super) record: ByteBuf,
}

/// From a shim to its next engine, after [`Offer`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Handover {
    /// Something that was kept.
    Kept(Kept),
    /// That was all: the engine is this shim's from now on. Descriptor: the lock of its slot.
    End,
}

/// The descriptors of a container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// Stands for it.
    Process,
    /// Where it says what became of it until its program runs.
    Progress,
    /// Takes the word to go.
    Go,
    /// Takes its standard input.
    Stdin,
    /// Yields its standard output.
    Stdout,
    /// Yields its standard error.
    Stderr,
    /// The master of its terminal.
    Terminal,
}

/// Puts the descriptors of a message in their places; none if there are too few.
pub(super) fn placed(present: &[bool], descriptors: Vec<OwnedFd>) -> Option<Vec<Option<OwnedFd>>> {
    let mut descriptors = descriptors.into_iter();
    present
        .iter()
        .map(|present| match present {
            true => descriptors.next().map(Some),
            false => Some(None),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_read_by_every_version() {
        // What a shim has once sent: {"version": 7, "free": true}
        let bytes = b"\xa2\x67version\x07\x64free\xf5";
        let offer: Offer = ciborium::from_reader(&bytes[..]).expect("it is one");
        assert_eq!((offer.version, offer.free), (7, true));
        let mut written = Vec::new();
        ciborium::into_writer(&offer, &mut written).expect("written");
        assert_eq!(written, bytes);
    }

    #[test]
    fn descriptors_find_their_places() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("there"));
        let found = placed(&[true, false, true], vec![null(), null()]).expect("enough");
        let found: Vec<_> = found.iter().map(Option::is_some).collect();
        assert_eq!(found, [true, false, true]);
        assert!(placed(&[true, true], vec![null()]).is_none());
    }
}
