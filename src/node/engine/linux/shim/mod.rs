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
//!
//! A *lasting* shim, which a node that serves others has, does not die with its engine. It kills what nobody keeps and waits
//! for the next engine, for the time of a lease (see `keeper`); then it ends, with all containers. As it lives on in the
//! control group that the engine was started in, a systemd unit for a node needs `KillMode=process`: otherwise systemd kills
//! it, and the containers, when the engine has died.

mod beneath;
mod create;
mod exec;
mod keeper;
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
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::control::{self, Problem, Report, Request, Step, Streams, steps};
use super::sys::{self, Forked};
use keeper::Keeper;
use seccomp::Filter;
pub(super) use user::IDS;
use view::View;

/// First argument of a program that is to be a shim.
pub(super) const ARGUMENT: &str = "__shim";

/// Longest that is waited for at once.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

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
        Ok(Forked::Child) => serve(control),
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

/// Serves the engine until it goes, and a lasting shim those that come after it.
fn serve(control: OwnedFd) -> ! {
    let status = match prepare(&control) {
        Err(problem) => {
            // Nobody is left to tell if this fails.
            let _ = control::send_plain(
                &control,
                &Report::Failed {
                    request: 0,
                    problem,
                },
            );
            1
        }
        // The engine has gone already.
        Ok(None) => 0,
        Ok(Some(shim)) => i32::from(shim.run(control).is_err()),
    };
    // Takes all containers along.
    sys::exit_now(status);
}

struct Shim {
    children: SignalFd,
    view: View,
    filter: Filter,
    /// Requests by the process that handles them.
    helpers: HashMap<i32, u32>,
    /// What a lasting shim keeps.
    keeper: Option<Keeper>,
    /// Tells other engines that this one's containers may still be there.
    lock: Vec<OwnedFd>,
}

fn prepare(control: &OwnedFd) -> Result<Option<Shim>, Problem> {
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

    let Some((request, mut descriptors)) = control::receive(control).step("read a request")? else {
        return Ok(None);
    };
    let Request::Setup(setup) = request else {
        return Err(Problem::Other("the first request is another".to_owned()));
    };
    let keeper = match setup.lease {
        None => None,
        Some(lease) => {
            let listener = descriptors.pop().ok_or_else(missing)?;
            Some(Keeper::new(listener, lease))
        }
    };
    let view = View::make(&setup)?;
    set_limits().step("set limits")?;
    // The engine's keys are not the containers'.
    sys::new_session_keyring().step("make a keyring")?;
    if keeper.is_some() {
        // Whoever kills the engine's process group does not mean the containers, either.
        nix::unistd::setsid().step("start a session")?;
        sys::prctl(libc::PR_SET_PDEATHSIG, 0).step("outlive the engine")?;
    }
    control::send_plain(control, &Report::Ready).step("report")?;
    Ok(Some(Shim {
        children,
        view,
        filter: Filter::compile()?,
        helpers: HashMap::new(),
        keeper,
        lock: descriptors,
    }))
}

fn missing() -> Problem {
    Problem::Other("a request without its descriptors".to_owned())
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

impl Shim {
    /// Serves one engine after the other, until the containers are to end.
    fn run(mut self, control: OwnedFd) -> std::io::Result<()> {
        let mut next = Some(control);
        while let Some(control) = next {
            let served = self.serve(&control);
            drop(control);
            // However it ended: an engine that talks nonsense is as good as dead.
            if !self.keeper.as_mut().is_some_and(Keeper::orphan) {
                return served;
            }
            next = self.await_engine()?;
        }
        Ok(())
    }

    /// Handles requests and ends of processes, until the engine goes.
    fn serve(&mut self, control: &OwnedFd) -> std::io::Result<()> {
        loop {
            let listener = self.keeper.as_ref().map(Keeper::listener);
            let [requested, ended, called] = wait(
                [Some(control.as_fd()), Some(self.children.as_fd()), listener],
                None,
            )?;
            if ended {
                self.reap(Some(control))?;
            }
            if requested {
                match control::receive(control)? {
                    Some((request, descriptors)) => self.handle(control, request, descriptors)?,
                    None => return Ok(()),
                }
            } else if called && let Some(keeper) = &mut self.keeper {
                // There is an engine, so this only says so. A failure is the caller's.
                let _ = keeper.receive(&self.lock);
            }
        }
    }

    /// Waits for the next engine, while the lease lasts.
    fn await_engine(&mut self) -> std::io::Result<Option<OwnedFd>> {
        // They are reported to nobody any more.
        self.helpers.clear();
        loop {
            let Some(keeper) = &mut self.keeper else {
                return Ok(None);
            };
            let remaining = keeper.remaining().unwrap_or_default();
            if remaining.is_zero() {
                return Ok(None);
            }
            // The next engine finds only what is kept. Each end of another shows up, with what it leaves to us.
            let listener = match keeper.kill_others()? {
                0 => Some(keeper.listener()),
                _ => None,
            };
            let [ended, called] = wait([Some(self.children.as_fd()), listener], Some(remaining))?;
            if ended {
                self.reap(None)?;
            } else if called
                && let Some(keeper) = &mut self.keeper
                && let Ok(Some(control)) = keeper.receive(&self.lock)
            {
                return Ok(Some(control));
            }
        }
    }

    /// Takes note of the children that have ended, and reports them.
    fn reap(&mut self, control: Option<&OwnedFd>) -> std::io::Result<()> {
        while let Ok(Some(_)) = self.children.read_signal() {}
        loop {
            let Some((process, status)) = sys::reap()? else {
                return Ok(());
            };
            let report = if let Some(request) = self.helpers.remove(&process) {
                Report::HelperEnded { request }
            } else {
                if let Some(keeper) = &mut self.keeper {
                    keeper.ended(process, status);
                }
                Report::Ended { process, status }
            };
            if let Some(control) = control {
                self.report(control, &report)?;
            }
        }
    }

    /// Tells the engine. One that has gone is noticed where its requests are read, after all that it has still sent.
    fn report(&self, control: &OwnedFd, report: &Report) -> std::io::Result<()> {
        match control::send_plain(control, report) {
            Err(_) if self.keeper.is_some() => Ok(()),
            other => other,
        }
    }

    /// Does what is asked.
    fn handle(
        &mut self,
        control: &OwnedFd,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> std::io::Result<()> {
        match (request, &mut self.keeper) {
            (Request::Keep { request, keep }, Some(keeper)) => {
                let report = match keeper.keep(*keep, descriptors) {
                    Ok(()) => Report::Done { request },
                    Err(problem) => Report::Failed { request, problem },
                };
                self.report(control, &report)
            }
            (Request::Forget { request, name }, Some(keeper)) => {
                keeper.forget(&name);
                self.report(control, &Report::Done { request })
            }
            (Request::LetGo { name, place }, Some(keeper)) => {
                keeper.let_go(&name, place);
                Ok(())
            }
            (Request::Lease(lease), Some(keeper)) => {
                keeper.set_lease(lease);
                Ok(())
            }
            (request, _) => self.delegate(control, request, descriptors),
        }
    }

    /// Has a new process handle a request.
    fn delegate(
        &mut self,
        control: &OwnedFd,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> std::io::Result<()> {
        let number = match &request {
            Request::Create { request, .. }
            | Request::Exec { request, .. }
            | Request::Keep { request, .. }
            | Request::Forget { request, .. } => *request,
            Request::Setup(_) | Request::LetGo { .. } | Request::Lease(_) => 0,
        };
        // SAFETY: the shim has one thread.
        #[allow(unsafe_code, reason = "forks")]
        let forked = unsafe { sys::fork(0) };
        let problem = match forked.step("start a process") {
            Ok(Forked::Child) => {
                // What is other containers' does not come along into this one.
                self.keeper = None;
                let done = catch_unwind(AssertUnwindSafe(|| {
                    self.help(control, request, descriptors)
                }));
                let problem = match done {
                    Ok(Ok(())) => sys::exit_now(0),
                    Ok(Err(problem)) => problem,
                    Err(_) => Problem::Other("the helper of the shim panicked".to_owned()),
                };
                // The shim sees our end if this fails.
                let _ = self.report(
                    control,
                    &Report::Failed {
                        request: number,
                        problem,
                    },
                );
                sys::exit_now(1);
            }
            Ok(Forked::Parent(process, _)) => {
                self.helpers.insert(process, number);
                return Ok(());
            }
            Err(problem) => problem,
        };
        self.report(
            control,
            &Report::Failed {
                request: number,
                problem,
            },
        )
    }

    /// Handles a request, in a process made for it.
    fn help(
        &self,
        control: &OwnedFd,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Problem> {
        let mut descriptors = descriptors.into_iter();
        match request {
            Request::Create { request, create } => {
                let streams = Streams::from_descriptors(create.start.streams, &mut descriptors)
                    .ok_or_else(missing)?;
                create::create(control, &self.view, &self.filter, request, *create, streams)
            }
            Request::Exec { request, exec } => {
                let streams = Streams::from_descriptors(exec.start.streams, &mut descriptors)
                    .ok_or_else(missing)?;
                let container = descriptors.next().ok_or_else(missing)?;
                exec::exec(
                    control,
                    &self.view,
                    &self.filter,
                    request,
                    *exec,
                    streams,
                    &container,
                )
            }
            _ => Err(Problem::Other("this shim does not do that".to_owned())),
        }
    }
}

/// Waits until there is something to read from one of these, or the time is over. Says from which.
fn wait<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    limit: Option<Duration>,
) -> nix::Result<[bool; N]> {
    // One that is longer is waited for in parts: whoever calls looks how long it still is.
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit.min(LONGEST_WAIT) + Duration::from_millis(1))
            .unwrap_or(PollTimeout::MAX)
    });
    let mut events: Vec<_> = descriptors
        .iter()
        .flatten()
        .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN))
        .collect();
    match poll(&mut events, limit) {
        Err(Errno::EINTR) => return Ok([false; N]),
        other => other?,
    };
    let mut ready = events.iter().map(|event| event.any().unwrap_or(true));
    Ok(descriptors.map(|descriptor| descriptor.is_some() && ready.next().unwrap_or_default()))
}
