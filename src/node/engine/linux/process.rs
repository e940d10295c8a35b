//! A process in a container, first or further, as the engine's callers see it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nix::sys::stat::{Mode, fchmod};
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::cgroups::Hierarchies;
use super::client::{Closing, Made};
use super::control::{self, Problem, Progress, Status, Step, Streams};
use super::custody::Place;
use super::stream::Stream;
use super::sys;
use super::terminal::{Terminal, TerminalEnd};
use crate::node::engine::{EngineError, Process, ProcessIo};
use crate::protocol::container::{Exit, Stdio, WindowSize};

/// The engine's ends of what a process is connected to.
pub(super) struct Ends {
    progress: OwnedFd,
    go: OwnedFd,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: bool,
}

impl Ends {
    /// Waits for the network namespace of a container that is being made. Nothing if it will not be.
    pub(super) async fn network(&self) -> Result<Option<OwnedFd>, Problem> {
        const STEP: &str = "find the container's network";
        let socket = nonblocking(self.progress.try_clone().step(STEP)?)?;
        let socket = sys::watch(socket).step(STEP)?;
        loop {
            let mut guard = socket.readable().await.step(STEP)?;
            // A failure stays there for whoever asks what became of the process.
            match guard.try_io(|socket| control::peek::<Progress>(socket.get_ref())) {
                Err(_would_block) => {}
                Ok(Ok(Some((Progress::Network, descriptors)))) => {
                    control::receive::<Progress>(socket.get_ref()).step(STEP)?;
                    return Ok(descriptors.into_iter().next());
                }
                Ok(other) => return other.map(|_| None).step(STEP),
            }
        }
    }

    /// The same once more, for the shim to keep, as far as there is something in each [`Place`] but that of the process and the
    /// terminal.
    pub(super) fn kept(&self) -> io::Result<Vec<Option<OwnedFd>>> {
        let copy = |fd: &OwnedFd| fd.try_clone();
        Ok(vec![
            None,
            Some(copy(&self.progress)?),
            Some(copy(&self.go)?),
            self.stdin.as_ref().map(copy).transpose()?,
            self.stdout.as_ref().map(copy).transpose()?,
            self.stderr.as_ref().map(copy).transpose()?,
            None,
        ])
    }
}

/// Both ends of what a process is to be connected to.
pub(super) fn connect(stdio: Stdio) -> io::Result<(Streams, Ends)> {
    let (progress, their_progress) = control::pair()?;
    let (their_go, go) = pipe_pair()?;
    let pipes = stdio.terminal.is_none();
    let (their_stdin, stdin) = optional(pipes && stdio.stdin)?;
    let (stdout, their_stdout) = optional(pipes && stdio.output)?;
    let (stderr, their_stderr) = optional(pipes && stdio.output)?;
    Ok((
        Streams {
            progress: their_progress,
            go: their_go,
            stdio: [their_stdin, their_stdout, their_stderr],
        },
        Ends {
            progress,
            go,
            stdin,
            stdout,
            stderr,
            terminal: stdio.terminal.is_some(),
        },
    ))
}

fn optional(wanted: bool) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if !wanted {
        return Ok((None, None));
    }
    let (read, write) = pipe_pair()?;
    // Programs open /dev/stdout anew, as whatever user they are. Only who has the pipe already can.
    fchmod(read.as_raw_fd(), Mode::from_bits_truncate(0o666))?;
    Ok((Some(read), Some(write)))
}

fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Where to ask whether the kernel has killed a process of a container for want of memory.
#[derive(Debug, Clone)]
pub(super) struct MemoryLimit {
    /// The machine's cgroups.
    pub(super) hierarchies: Arc<Hierarchies>,
    /// The container's.
    pub(super) cgroup: String,
}

impl MemoryLimit {
    /// How many processes of the container it has killed.
    pub(super) fn kills(&self) -> u64 {
        self.hierarchies.out_of_memory_kills(&self.cgroup)
    }
}

/// What tells how a process ends.
struct End {
    ended: oneshot::Receiver<Status>,
    /// With how many processes the kernel had killed before.
    limit: Option<(u64, MemoryLimit)>,
}

/// A process in a container.
pub(super) struct LinuxProcess {
    pidfd: Arc<OwnedFd>,
    io: Mutex<ProcessIo>,
    go: Mutex<Option<OwnedFd>>,
    launched: watch::Receiver<Option<Result<(), Problem>>>,
    exit: watch::Receiver<Option<Exit>>,
    terminal: Option<Arc<Terminal>>,
    /// Whether it dies when nobody has this any more.
    further: bool,
}

impl LinuxProcess {
    /// The process that the shim has made, connected to `ends`. It waits to be told to go. `closing` is what tells the shim
    /// that a stream was closed, if it wants to know.
    pub(super) async fn new(
        made: Made,
        mut ends: Ends,
        limit: Option<MemoryLimit>,
        further: bool,
        closing: impl Fn(Place) -> Option<Closing>,
    ) -> Result<Self, Problem> {
        // Counted now, because a process may be killed as soon as it goes.
        let limit = limit.map(|limit| (limit.kills(), limit));
        let end = End {
            ended: made.ended,
            limit,
        };
        let (opened, opening) = oneshot::channel();
        let awaited = std::mem::take(&mut ends.terminal);
        let mut process = Self::connect(made.pidfd, ends, end, opened, closing)?;
        process.further = further;
        if awaited {
            let Ok(master) = opening.await else {
                let outcome = process.launched.borrow().clone();
                return Err(outcome.and_then(Result::err).unwrap_or_else(|| {
                    Problem::Other("the process ended before it had a terminal".to_owned())
                }));
            };
            process.add_terminal(master)?;
        }
        Ok(process)
    }

    /// The first process of a container of an engine that has died, with the descriptors that the shim has kept.
    pub(super) fn restore(
        mut kept: Vec<Option<OwnedFd>>,
        ended: oneshot::Receiver<Status>,
        limit: Option<(u64, MemoryLimit)>,
        closing: impl Fn(Place) -> Option<Closing>,
    ) -> Result<Self, Problem> {
        let mut take = |place: Place| kept.get_mut(place as usize).and_then(Option::take);
        let missing = || Problem::Other("a container was kept without its descriptors".to_owned());
        let pidfd = take(Place::Process).ok_or_else(missing)?;
        let ends = Ends {
            progress: take(Place::Progress).ok_or_else(missing)?,
            go: take(Place::Go).ok_or_else(missing)?,
            stdin: take(Place::Stdin),
            stdout: take(Place::Stdout),
            stderr: take(Place::Stderr),
            terminal: false,
        };
        let terminal = take(Place::Terminal);
        // The terminal was opened long ago.
        let (opened, _) = oneshot::channel();
        let end = End { ended, limit };
        let mut process = Self::connect(pidfd, ends, end, opened, closing)?;
        if let Some(master) = terminal {
            process.add_terminal(master)?;
        }
        Ok(process)
    }

    fn connect(
        pidfd: OwnedFd,
        ends: Ends,
        end: End,
        opened: oneshot::Sender<OwnedFd>,
        closing: impl Fn(Place) -> Option<Closing>,
    ) -> Result<Self, Problem> {
        let (progress, launched) = watch::channel(None);
        let (over, exit) = watch::channel(None);
        let socket = sys::watch(nonblocking(ends.progress)?).step("watch a socket")?;
        tokio::spawn(follow(socket, opened, progress));
        tokio::spawn(await_exit(end, launched.clone(), over));
        let mut io = ProcessIo::default();
        let watched = "watch a standard stream";
        if let Some(fd) = ends.stdin {
            let stream = Stream::sender(fd, closing(Place::Stdin)).step(watched)?;
            io.stdin = Some(Box::new(stream));
        }
        if let Some(fd) = ends.stdout {
            let stream = Stream::receiver(fd, closing(Place::Stdout)).step(watched)?;
            io.stdout = Some(Box::new(stream));
        }
        if let Some(fd) = ends.stderr {
            let stream = Stream::receiver(fd, closing(Place::Stderr)).step(watched)?;
            io.stderr = Some(Box::new(stream));
        }
        Ok(Self {
            pidfd: Arc::new(pidfd),
            io: Mutex::new(io),
            go: Mutex::new(Some(ends.go)),
            launched,
            exit,
            terminal: None,
            further: false,
        })
    }

    fn add_terminal(&mut self, master: OwnedFd) -> Result<(), Problem> {
        let master = Arc::new(Terminal::new(master).step("watch a terminal")?);
        let io = self.io.get_mut().unwrap_or_else(PoisonError::into_inner);
        io.stdin = Some(Box::new(TerminalEnd::new(Arc::clone(&master))));
        io.stdout = Some(Box::new(TerminalEnd::new(Arc::clone(&master))));
        self.terminal = Some(master);
        Ok(())
    }

    /// Adds what it has to what `ends` had, for the shim to keep.
    pub(super) fn kept(&self, mut ends: Vec<Option<OwnedFd>>) -> io::Result<Vec<Option<OwnedFd>>> {
        ends[Place::Process as usize] = Some(self.pidfd.try_clone()?);
        if let Some(terminal) = &self.terminal {
            ends[Place::Terminal as usize] = Some(terminal.master()?);
        }
        Ok(ends)
    }

    /// Stands for the process.
    pub(super) fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.pidfd
    }

    /// Lets it run its program, and says what kept it from that. Later calls only say.
    pub(super) async fn go(&self) -> Result<(), Problem> {
        let go = self
            .go
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(go) = go {
            // If it has died in the meantime, its exit says so.
            let _ = File::from(go).write_all(b"!");
        }
        let mut launched = self.launched.clone();
        match launched.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Whether it has been told to go.
    pub(super) fn is_going(&self) -> bool {
        self.go
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    /// Kills it, whatever it is doing.
    pub(super) fn kill(&self) {
        // It may have gone.
        let _ = sys::pidfd_send_signal(&*self.pidfd, libc::SIGKILL);
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(lost),
            Err(_) => lost(),
        }
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }
}

fn lost() -> Exit {
    Exit::Lost("the engine that ran it has ended".to_owned())
}

impl Drop for LinuxProcess {
    fn drop(&mut self) {
        if self.further && !self.has_ended() {
            self.kill();
        }
    }
}

impl Process for LinuxProcess {
    fn take_io(&self) -> ProcessIo {
        std::mem::take(&mut *self.io.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wait(&self) -> BoxFuture<'_, Exit> {
        self.ended().boxed()
    }

    fn signal(&self, signal: u8) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            match sys::pidfd_send_signal(&*self.pidfd, signal.into()) {
                Ok(()) => Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(EngineError::Ended),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    Err(EngineError::BadSpec(format!(
                        "there is no signal {signal}: expected a number from 1 to 64"
                    )))
                }
                Err(source) => Err(EngineError::Failed {
                    step: "send a signal".to_owned(),
                    source,
                }),
            }
        }
        .boxed()
    }

    fn resize(&self, size: WindowSize) -> Result<(), EngineError> {
        match &self.terminal {
            Some(terminal) => terminal.resize(size).map_err(|source| EngineError::Failed {
                step: "change the size of the terminal".to_owned(),
                source,
            }),
            None => Err(EngineError::BadSpec(
                "the process has no terminal: ask for one when it is started".to_owned(),
            )),
        }
    }
}

fn nonblocking(fd: OwnedFd) -> Result<OwnedFd, Problem> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).step("set up a socket")?;
    Ok(fd)
}

/// Reads what a new process says of itself until its program runs.
async fn follow(
    socket: AsyncFd<OwnedFd>,
    opened: oneshot::Sender<OwnedFd>,
    launched: watch::Sender<Option<Result<(), Problem>>>,
) {
    let mut opened = Some(opened);
    let outcome = loop {
        let Ok(mut guard) = socket.readable().await else {
            break Ok(());
        };
        // What it failed with stays there, for the next engine if this one dies before anybody has been told.
        match guard.try_io(|socket| control::peek::<Progress>(socket.get_ref())) {
            Err(_would_block) => {}
            Ok(Ok(Some((Progress::Terminal, descriptors)))) => {
                let _ = control::receive::<Progress>(socket.get_ref());
                if let (Some(opened), Some(master)) =
                    (opened.take(), descriptors.into_iter().next())
                {
                    // Nobody waits if creating the process has been given up.
                    let _ = opened.send(master);
                }
            }
            Ok(Ok(Some((Progress::Network, _)))) => {
                let _ = control::receive::<Progress>(socket.get_ref());
            }
            Ok(Ok(Some((Progress::Failed(problem), _)))) => break Err(problem),
            Ok(Ok(None)) => break Ok(()),
            Ok(Err(error)) => break Err(Problem::Other(error.to_string())),
        }
    };
    launched.send_replace(Some(outcome));
}

/// Finds out how the process ended.
async fn await_exit(
    end: End,
    mut launched: watch::Receiver<Option<Result<(), Problem>>>,
    exit: watch::Sender<Option<Exit>>,
) {
    let End { ended, limit } = end;
    let status = ended.await;
    // Closed by its end at the latest.
    let outcome = match launched.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone(),
        Err(_) => None,
    };
    let result = match (status, outcome) {
        (Err(_), _) => lost(),
        (_, Some(Err(Problem::NotFound(text)))) => Exit::NotFound(text),
        (_, Some(Err(Problem::NotExecutable(text)))) => Exit::NotExecutable(text),
        (Ok(Status::Signal(9)), _)
            if limit.is_some_and(|(before, limit)| limit.kills() > before) =>
        {
            Exit::OutOfMemory
        }
        (Ok(Status::Signal(signal)), _) => Exit::Signal(signal),
        (Ok(Status::Code(code)), _) => Exit::Code(code),
    };
    exit.send_replace(Some(result));
}
