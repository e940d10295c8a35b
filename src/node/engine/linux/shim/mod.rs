//! The shim: a small process between an engine and its containers, which makes them and dies with the engine.
//!
//! ```text
//! tf ─┬─ (stage 1, ends at once)
//!     └─ shim, the first process of a pid namespace
//!         ├─ first process of a container, in a pid namespace of its own
//!         ├─ further process of the container
//!         └─ helper: makes a container or a further process, then ends
//! ```
//!
//! An engine has many threads, and a process with threads can neither fork without executing something nor enter a user
//! namespace. The shim has one. It is the engine's own program, executed anew from a sealed copy in memory, so that no
//! container can ever write to the file that the next one is made with.
//!
//! All containers live in pid namespaces below the shim's, which no process can leave. The kernel kills what is in a pid
//! namespace when its first process dies, and the shim dies when the engine's thread that started it does, or when its
//! socket closes. So nothing of a container outlives its engine, however that ends.

mod beneath;
mod config;
mod create;
mod exec;
mod launch;
mod mounts;
mod privileges;
mod root;
mod seccomp;
#[cfg(target_arch = "x86_64")]
mod seccomp32;
mod user;
mod view;

use std::collections::HashMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::control::{self, Problem, Report, Request, Step, Streams, steps};
use super::sys::{self, Forked};
use seccomp::Filter;
pub(super) use user::IDS;
use view::View;

/// First argument of a program that is to be a shim.
pub(super) const ARGUMENT: &str = "__shim";

/// Descriptors that a process of a container may have open, as under Docker.
const DESCRIPTORS: u64 = 1_048_576;

/// Is the shim. Standard input is the socket to the engine.
pub(super) fn main() -> ! {
    let Ok(control) = take_control() else {
        sys::exit_now(1)
    };
    // SAFETY: the program has just started and has one thread.
    #[allow(unsafe_code, reason = "forks")]
    let forked = unsafe { sys::fork(libc::CLONE_PARENT | libc::CLONE_NEWPID | libc::CLONE_NEWNS) };
    let sent = match forked.step(steps::PID_NAMESPACE) {
        Ok(Forked::Child) => serve(&control),
        Ok(Forked::Parent(_, pidfd)) => control::send(&control, &Report::Here, &[pidfd]),
        Err(problem) => control::send_plain(
            &control,
            &Report::Failed {
                request: 0,
                problem,
            },
        ),
    };
    sys::exit_now(i32::from(sent.is_err()));
}

/// Moves the socket away from standard input, and puts `/dev/null` there and on the other standard streams.
fn take_control() -> nix::Result<OwnedFd> {
    let control = fcntl(0, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the descriptor has just been made for us.
    #[allow(unsafe_code, reason = "a raw descriptor becomes an owned one")]
    let control = unsafe { OwnedFd::from_raw_fd(control) };
    let null = nix::fcntl::open(
        "/dev/null",
        nix::fcntl::OFlag::O_RDWR,
        nix::sys::stat::Mode::empty(),
    )?;
    for stream in 0..3 {
        nix::unistd::dup2(null, stream)?;
    }
    if null > 2 {
        nix::unistd::close(null)?;
    }
    Ok(control)
}

/// Serves the engine until it goes.
fn serve(control: &OwnedFd) -> ! {
    let status = match prepare(control) {
        Err(problem) => {
            // Nobody is left to tell if this fails.
            let _ = control::send_plain(
                control,
                &Report::Failed {
                    request: 0,
                    problem,
                },
            );
            1
        }
        // The engine has gone already.
        Ok(None) => 0,
        Ok(Some(shim)) => i32::from(shim.run().is_err()),
    };
    // Takes all containers along.
    sys::exit_now(status);
}

struct Shim<'a> {
    control: &'a OwnedFd,
    children: SignalFd,
    view: View,
    filter: Filter,
    /// Requests by the process that handles them.
    helpers: HashMap<i32, u32>,
    /// Tells other engines that this one's containers may still be there.
    _lock: Vec<OwnedFd>,
}

fn prepare(control: &OwnedFd) -> Result<Option<Shim<'_>>, Problem> {
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.cast_unsigned().into())
        .step("die with the engine")?;
    sys::set_name(c"tf-shim").step("take a name")?;
    privileges::hide().step("hide the memory")?;
    privileges::reset_signals().step("reset the signals")?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().step("watch the children")?;
    let children = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .step("watch the children")?;

    let Some((request, lock)) = control::receive(control).step("read a request")? else {
        return Ok(None);
    };
    let Request::Setup(setup) = request else {
        return Err(Problem::Other("the first request is another".to_owned()));
    };
    let view = View::make(&setup)?;
    set_limits().step("set limits")?;
    // The engine's keys are not the containers'.
    sys::new_session_keyring().step("make a keyring")?;
    control::send_plain(control, &Report::Ready).step("report")?;
    Ok(Some(Shim {
        control,
        children,
        view,
        filter: Filter::compile()?,
        helpers: HashMap::new(),
        _lock: lock,
    }))
}

/// Sets what processes of containers inherit, whatever the engine was started with.
fn set_limits() -> nix::Result<()> {
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DESCRIPTORS);
    for (resource, wanted) in [
        (Resource::RLIMIT_NOFILE, DESCRIPTORS.min(most)),
        (Resource::RLIMIT_NPROC, RLIM_INFINITY),
        (Resource::RLIMIT_CORE, RLIM_INFINITY),
    ] {
        match setrlimit(resource, wanted, wanted) {
            // A root that may not go beyond its own limits, as in some containers: all of those, then.
            Err(Errno::EPERM) => {
                let (_, hard) = getrlimit(resource)?;
                let wanted = wanted.min(hard);
                setrlimit(resource, wanted, wanted)?;
            }
            other => other?,
        }
    }
    // Who protects the engine from being killed for memory does not mean the containers. Without the privilege, it cannot
    // have been protected.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    Ok(())
}

impl Shim<'_> {
    /// Handles requests and ends of processes, until the engine goes.
    fn run(mut self) -> std::io::Result<()> {
        loop {
            let mut events = [
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut events, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let [requested, ended] = events.map(|event| event.any().unwrap_or(true));
            if ended {
                while let Ok(Some(_)) = self.children.read_signal() {}
                self.reap()?;
            }
            if requested {
                match control::receive(self.control)? {
                    Some((request, descriptors)) => self.handle(request, descriptors)?,
                    None => return Ok(()),
                }
            }
        }
    }

    /// Reports the children that have ended.
    fn reap(&mut self) -> std::io::Result<()> {
        loop {
            let Some((process, status)) = sys::reap()? else {
                return Ok(());
            };
            let report = match self.helpers.remove(&process) {
                Some(request) => Report::HelperEnded { request },
                None => Report::Ended { process, status },
            };
            self.report(&report)?;
        }
    }

    fn report(&self, report: &Report) -> std::io::Result<()> {
        control::send_plain(self.control, report)
    }

    /// Has a new process handle a request.
    fn handle(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> std::io::Result<()> {
        let number = match &request {
            Request::Setup(_) => 0,
            Request::Create { request, .. } | Request::Exec { request, .. } => *request,
        };
        // SAFETY: the shim has one thread.
        #[allow(unsafe_code, reason = "forks")]
        let forked = unsafe { sys::fork(0) };
        let problem = match forked.step("start a process") {
            Ok(Forked::Child) => {
                let done = catch_unwind(AssertUnwindSafe(|| self.help(request, descriptors)));
                let problem = match done {
                    Ok(Ok(())) => sys::exit_now(0),
                    Ok(Err(problem)) => problem,
                    Err(_) => Problem::Other("the helper of the shim panicked".to_owned()),
                };
                // The shim sees our end if this fails.
                let _ = self.report(&Report::Failed {
                    request: number,
                    problem,
                });
                sys::exit_now(1);
            }
            Ok(Forked::Parent(process, _)) => {
                self.helpers.insert(process, number);
                return Ok(());
            }
            Err(problem) => problem,
        };
        self.report(&Report::Failed {
            request: number,
            problem,
        })
    }

    /// Handles a request, in a process made for it.
    fn help(&self, request: Request, descriptors: Vec<OwnedFd>) -> Result<(), Problem> {
        let missing = || Problem::Other("a request without its descriptors".to_owned());
        let mut descriptors = descriptors.into_iter();
        match request {
            Request::Setup(_) => Err(Problem::Other("set up twice".to_owned())),
            Request::Create { request, create } => {
                let streams = Streams::from_descriptors(create.start.streams, &mut descriptors)
                    .ok_or_else(missing)?;
                create::create(
                    self.control,
                    &self.view,
                    &self.filter,
                    request,
                    *create,
                    streams,
                )
            }
            Request::Exec { request, exec } => {
                let streams = Streams::from_descriptors(exec.start.streams, &mut descriptors)
                    .ok_or_else(missing)?;
                let container = descriptors.next().ok_or_else(missing)?;
                exec::exec(
                    self.control,
                    &self.view,
                    &self.filter,
                    request,
                    *exec,
                    streams,
                    &container,
                )
            }
        }
    }
}
