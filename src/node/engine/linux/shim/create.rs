//! Makes a container: runs in a process that the shim forks for it, and ends when the container waits to be started.
//!
//! ```text
//! helper                                        first process of the container
//! its cgroups, a mount namespace
//! clone, into new user and pid namespaces ────▶ waits
//! maps its ids ──────────────────────── Mapped ▶ enters the cgroups, becomes root, makes its other namespaces,
//!                                               hands the network to the engine
//! mounts the image's file systems ───── Mounted ▶ takes its own copy of the mounts, mounts the kernel's file systems,
//!                                               leaves everything else behind, gives up privileges
//! tells the engine ◀ Ok ──────────────────────── waits for the word to go
//! ```
//!
//! The container's first process is a child of the shim's, not of this one. It ends if this one does before it is made.

use std::convert::Infallible;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};

use super::super::cgroups::Entrance;
use super::super::control::{self, Create, Problem, Progress, Report, Step, Streams, steps};
use super::super::sys::{self, Forked};
use super::launch::{Launch, NEVER_RAN};
use super::mounts;
use super::privileges::{Former, become_root, hide, limit_capabilities};
use super::root;
use super::seccomp::Filter;
use super::user::IDS;
use super::view::View;

/// Word to the first process that it may go on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Word {
    /// Its ids are mapped.
    Mapped,
    /// The root file system is mounted.
    Mounted,
}

/// Makes the container and tells the engine.
pub(super) fn create(
    control: &OwnedFd,
    view: &View,
    filter: &Filter,
    request: u32,
    create: Create,
    streams: Streams,
) -> Result<(), Problem> {
    // Whatever that of the process was that started us.
    umask(Mode::from_bits_truncate(0o022));
    let entrance = view
        .cgroups
        .make(&create.cgroup, &create.limits)
        .step("make the cgroups of the container")?;
    unshare(CloneFlags::CLONE_NEWNS).step("make a mount namespace")?;
    let (ours, theirs) = control::pair().step("make a socket")?;
    let forked = fork_first(create.first_id, &entrance);
    match forked.step(steps::USER_NAMESPACE)? {
        Forked::Child => {
            drop(ours);
            let launch = Launch {
                start: create.start,
                streams,
                filter: filter.clone(),
                hostname: create.hostname,
            };
            let Err(problem) = be_first(&theirs, entrance, &launch);
            // Nobody is left to tell if this fails.
            let _ = control::send_plain(&theirs, &Err::<(), _>(problem));
            sys::exit_now(NEVER_RAN)
        }
        Forked::Parent(process, pidfd) => {
            drop((theirs, entrance, streams));
            let users = map_ids(process, create.first_id).step(steps::USER_NAMESPACE)?;
            tell(&ours, &Word::Mapped)?;
            root::mount_root(&create, &users)?;
            tell(&ours, &Word::Mounted)?;
            let (made, _) = control::receive::<Result<(), Problem>>(&ours)
                .step("hear of the first process")?
                .ok_or_else(died)?;
            made?;
            control::send(control, &Report::Made { request, process }, &[pidfd])
                .step("report the container")
        }
    }
}

/// Forks the first process of a container, in a user namespace that `owner` has made.
///
/// What the kernel counts by user, as message queues, watches of files and pending signals, it counts in a user namespace and
/// for its owner, too. Were that root, one container could use up what all others and the machine can have.
fn fork_first(owner: u32, entrance: &Entrance) -> std::io::Result<Forked> {
    let former = Former::of(owner)?;
    // SAFETY: this process, forked from the shim, has one thread.
    #[allow(unsafe_code, reason = "forks")]
    let forked = unsafe {
        sys::fork_into(
            libc::CLONE_PARENT | libc::CLONE_NEWUSER | libc::CLONE_NEWPID,
            entrance.birthplace(),
        )
    };
    // The new process has no ids yet that it could change to.
    if !matches!(forked, Ok(Forked::Child)) {
        former.restore()?;
    }
    forked
}

fn died() -> Problem {
    Problem::Other(
        "the first process of the container died while it was made: if there is a limit on its memory, a higher one may help"
            .to_owned(),
    )
}

fn tell(first: &OwnedFd, word: &Word) -> Result<(), Problem> {
    control::send_plain(first, word).map_err(|_| died())
}

/// Gives the user namespace of `process` the ids from `first_id` on, and returns it.
fn map_ids(process: i32, first_id: u32) -> std::io::Result<OwnedFd> {
    let map = format!("0 {first_id} {IDS}");
    fs::write(format!("/proc/{process}/uid_map"), &map)?;
    fs::write(format!("/proc/{process}/gid_map"), &map)?;
    fs::File::open(format!("/proc/{process}/ns/user")).map(OwnedFd::from)
}

/// Is the first process, until it runs its program.
fn be_first(helper: &OwnedFd, entrance: Entrance, launch: &Launch) -> Result<Infallible, Problem> {
    // Already what it says, as with all processes of the shim. Nobody is to look into this one.
    hide().step("hide the memory")?;
    wait_for(helper, &Word::Mapped)?;
    entrance.enter().step("join the cgroups of the container")?;
    // The image can have no part in what we hold open.
    let mut keep: Vec<_> = launch
        .streams
        .descriptors()
        .map(AsRawFd::as_raw_fd)
        .collect();
    keep.push(helper.as_raw_fd());
    sys::close_all_but(&keep).step("close descriptors")?;
    become_root()?;
    nix::unistd::setsid().step("start a session")?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .step(steps::NAMESPACES)?;
    let network = fs::File::open("/proc/self/ns/net").step("find the container's network")?;
    control::send(&launch.streams.progress, &Progress::Network, &[network])
        .step("hand over the container's network")?;
    nix::unistd::sethostname(&launch.hostname).step("set the host name")?;
    wait_for(helper, &Word::Mounted)?;
    unshare(CloneFlags::CLONE_NEWNS).step(steps::NAMESPACES)?;
    mounts::enter_root()?;
    let terminal = launch.open_terminal()?;
    if let Some(terminal) = &terminal {
        mounts::mount_console(terminal)?;
    }
    limit_capabilities()?;
    // It closes with everything else.
    control::send_plain(helper, &Ok::<_, Problem>(())).step("report")?;
    launch.go(terminal.as_ref())
}

/// Waits until the helper says `word`. Ends the process if that has died.
fn wait_for(helper: &OwnedFd, word: &Word) -> Result<(), Problem> {
    match control::receive::<Word>(helper).step("wait for the helper")? {
        Some((said, _)) if said == *word => Ok(()),
        Some((said, _)) => Err(Problem::Other(format!("expected {word:?}, heard {said:?}"))),
        None => sys::exit_now(NEVER_RAN),
    }
}
