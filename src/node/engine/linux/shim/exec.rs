//! Starts a further process in a container: runs in a process that the shim forks for it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::super::control::{self, Exec, Problem, Report, Step, Streams};
use super::super::sys::{self, Forked};
use super::launch::{Launch, NEVER_RAN};
use super::mounts;
use super::privileges::{become_root, hide};
use super::seccomp::Filter;
use super::view::View;

const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Starts the process and tells the engine.
pub(super) fn exec(
    control: &OwnedFd,
    view: &View,
    filter: &Filter,
    request: u32,
    exec: Exec,
    streams: Streams,
    container: &OwnedFd,
) -> Result<(), Problem> {
    // Before there is anything of the container's that could look at us.
    hide().step("hide the memory")?;
    view.cgroups
        .join(&exec.cgroup)
        .step("join the cgroups of the container")?;
    // What we hold open must not lead out of the container once we are in it; the standard streams are `/dev/null`.
    let mut keep: Vec<_> = streams.descriptors().map(AsRawFd::as_raw_fd).collect();
    keep.extend([control.as_raw_fd(), container.as_raw_fd()]);
    sys::close_all_but(&keep).step("close descriptors")?;
    sys::join_namespaces(container.as_fd(), NAMESPACES).step("enter the container")?;
    become_root()?;
    let hostname = nix::unistd::gethostname()
        .step("read the host name")?
        .to_string_lossy()
        .into_owned();
    let launch = Launch {
        start: exec.start,
        streams,
        filter: filter.clone(),
        hostname,
    };
    // Only a child is in the pid namespace. As our sibling its parent is the shim, which reports its end.
    // SAFETY: this process, forked from the shim, has one thread.
    #[allow(unsafe_code, reason = "forks")]
    let forked = unsafe { sys::fork(libc::CLONE_PARENT) }.step("start a process")?;
    match forked {
        Forked::Child => {
            let run = || {
                nix::unistd::close(control.as_raw_fd()).step("close the control socket")?;
                mounts::open_null().step("open /dev/null")?;
                launch.open_terminal()
            };
            match run() {
                Ok(terminal) => launch.go(terminal.as_ref()),
                Err(problem) => {
                    // Nobody is left to tell if this fails.
                    let _ = control::send_plain(
                        &launch.streams.progress,
                        &control::Progress::Failed(problem),
                    );
                    sys::exit_now(NEVER_RAN)
                }
            }
        }
        Forked::Parent(process, pidfd) => {
            control::send(control, &Report::Made { request, process }, &[pidfd])
                .step("report the process")
        }
    }
}
