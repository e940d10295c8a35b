//! The engine's side of its shim: starts it, asks it for processes, and hears of their ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MemFdCreateFlag, memfd_create};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use super::control::{self, Create, Exec, Problem, Report, Request, Setup, Status, Step, Streams};
use super::custody::{Keep, Place};
use super::shim;
use super::sys;

/// A shim that serves this engine. It ends, with all containers, when this is dropped.
pub(super) struct Shim {
    socket: Arc<AsyncFd<OwnedFd>>,
    table: Arc<Mutex<Table>>,
    reader: AbortHandle,
    /// Stands for a lasting shim, which does not end by itself when the engine does.
    lasting: Option<Arc<OwnedFd>>,
    /// Closes when the shim has ended and all its processes with it.
    ended: watch::Receiver<()>,
}

/// A process that the shim has made. It waits to be told to go.
pub(super) struct Made {
    /// Names it to the shim.
    pub(super) process: i32,
    /// Stands for it.
    pub(super) pidfd: OwnedFd,
    /// How it ends. Closes without a value when the shim goes first.
    pub(super) ended: oneshot::Receiver<Status>,
}

/// How a request was answered.
enum Answer {
    Made(Made),
    Done,
}

/// What is under way.
#[derive(Default)]
struct Table {
    closed: bool,
    last_request: u32,
    requests: HashMap<u32, oneshot::Sender<Result<Answer, Problem>>>,
    processes: HashMap<i32, oneshot::Sender<Status>>,
}

fn gone() -> Problem {
    Problem::Other("the process that makes containers has ended".to_owned())
}

impl Shim {
    /// Starts a shim with `program`, which calls [`crate::init_if_asked`]. It holds `descriptors`, those of
    /// [`Request::Setup`], as long as it lives.
    pub(super) async fn start(
        program: PathBuf,
        setup: Setup,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, Problem> {
        let (ours, theirs) = control::pair().step("make a socket")?;
        let lasts = setup.lease.is_some();
        // Waits in the socket until the shim reads it.
        control::send(&ours, &Request::Setup(setup), &descriptors).step("ask the shim")?;
        drop(descriptors);
        fcntl(ours.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).step("set up a socket")?;
        let socket = Arc::new(sys::watch(ours).step("watch a socket")?);

        let (started, starting) = oneshot::channel();
        let (found, finding) = std::sync::mpsc::channel::<Arc<OwnedFd>>();
        let (over, ended) = watch::channel(());
        // The kernel kills the shim when the thread ends that started it, so this one stays until the shim has ended.
        thread::Builder::new()
            .name("tf-shim".to_owned())
            .spawn(move || {
                // The other end has given up if it does not listen.
                let _ = started.send(spawn(&program, theirs));
                if let Ok(pidfd) = finding.recv() {
                    await_end(&pidfd);
                }
                drop(over);
            })
            .step("start a thread")?;
        starting
            .await
            .map_err(|_| gone())?
            .step("start the process that makes containers")?;
        // The first comes from one stage, the second from the other, so in either order.
        let (mut here, mut ready) = (false, false);
        let mut lasting = None;
        while !(here && ready) {
            match next(&socket).await {
                Ok(Some((Report::Here, descriptors))) => {
                    here = true;
                    for pidfd in descriptors.into_iter().map(Arc::new) {
                        if lasts {
                            lasting = Some(Arc::clone(&pidfd));
                        }
                        // The thread listens until it gets one.
                        let _ = found.send(pidfd);
                    }
                }
                Ok(Some((Report::Ready, _))) => ready = true,
                Ok(Some((Report::Failed { problem, .. }, _))) => return Err(problem),
                _ => return Err(gone()),
            }
        }

        Ok(Self::serve(socket, Table::default(), lasting, ended))
    }

    /// Takes over the lasting shim that `pidfd` stands for, with whom `socket` is connected. Returns it with what its
    /// `processes` end with.
    pub(super) fn resume(
        socket: OwnedFd,
        pidfd: Arc<OwnedFd>,
        processes: &[i32],
    ) -> Result<(Self, Vec<oneshot::Receiver<Status>>), Problem> {
        fcntl(socket.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).step("set up a socket")?;
        let socket = Arc::new(sys::watch(socket).step("watch a socket")?);
        let mut table = Table::default();
        let ends = processes.iter().map(|process| {
            let (end, ended) = oneshot::channel();
            table.processes.insert(*process, end);
            ended
        });
        let ends = ends.collect();
        let (over, ended) = watch::channel(());
        let lasting = Arc::clone(&pidfd);
        thread::Builder::new()
            .name("tf-shim".to_owned())
            .spawn(move || {
                await_end(&pidfd);
                drop(over);
            })
            .step("start a thread")?;
        Ok((Self::serve(socket, table, Some(lasting), ended), ends))
    }

    fn serve(
        socket: Arc<AsyncFd<OwnedFd>>,
        table: Table,
        lasting: Option<Arc<OwnedFd>>,
        ended: watch::Receiver<()>,
    ) -> Self {
        let table = Arc::new(Mutex::new(table));
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&table))).abort_handle();
        Self {
            socket,
            table,
            reader,
            lasting,
            ended,
        }
    }

    /// Whether it keeps containers for the next engine.
    pub(super) fn is_lasting(&self) -> bool {
        self.lasting.is_some()
    }

    /// Makes a container.
    pub(super) async fn create(&self, create: Create, streams: Streams) -> Result<Made, Problem> {
        let descriptors: Vec<_> = streams.descriptors().collect();
        let create = Box::new(create);
        self.ask_for_process(|request| Request::Create { request, create }, &descriptors)
            .await
    }

    /// Starts a further process in the container whose first process `container` stands for.
    pub(super) async fn exec(
        &self,
        exec: Exec,
        streams: Streams,
        container: &OwnedFd,
    ) -> Result<Made, Problem> {
        let mut descriptors: Vec<_> = streams.descriptors().collect();
        descriptors.push(container);
        let exec = Box::new(exec);
        self.ask_for_process(|request| Request::Exec { request, exec }, &descriptors)
            .await
    }

    /// Has a lasting shim keep something for the next engine.
    pub(super) async fn keep(&self, keep: Keep, descriptors: &[OwnedFd]) -> Result<(), Problem> {
        let descriptors: Vec<_> = descriptors.iter().collect();
        let keep = Box::new(keep);
        self.ask(|request| Request::Keep { request, keep }, &descriptors)
            .await
            .map(drop)
    }

    /// Has a lasting shim keep something no longer; all that it held of it is free afterwards.
    pub(super) async fn forget(&self, name: String) -> Result<(), Problem> {
        self.ask(|request| Request::Forget { request, name }, &[])
            .await
            .map(drop)
    }

    /// Tells a lasting shim how long to wait for the next engine.
    pub(super) async fn set_lease(&self, lease: Duration) -> Result<(), Problem> {
        say(&self.socket, &Request::Lease(lease), &[])
            .await
            .step("ask the shim")
    }

    /// What closes a descriptor of a container that a lasting shim keeps when it is dropped; none with any other shim.
    pub(super) fn closing(&self, name: &str, place: Place) -> Option<Closing> {
        self.lasting.as_ref()?;
        Some(Closing {
            socket: Arc::clone(&self.socket),
            name: name.to_owned(),
            place,
        })
    }

    async fn ask_for_process(
        &self,
        request: impl FnOnce(u32) -> Request,
        descriptors: &[&OwnedFd],
    ) -> Result<Made, Problem> {
        match self.ask(request, descriptors).await? {
            Answer::Made(made) => Ok(made),
            Answer::Done => Err(Problem::Other("the shim has made nothing".to_owned())),
        }
    }

    async fn ask(
        &self,
        request: impl FnOnce(u32) -> Request,
        descriptors: &[&OwnedFd],
    ) -> Result<Answer, Problem> {
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut table = locked(&self.table);
            if table.closed {
                return Err(gone());
            }
            table.last_request = table.last_request.wrapping_add(1);
            let number = table.last_request;
            table.requests.insert(number, answer);
            number
        };
        say(&self.socket, &request(number), descriptors)
            .await
            .step("ask the shim")?;
        answered.await.map_err(|_| gone())?
    }

    /// Ends the shim with all containers, without waiting for that.
    pub(super) fn hang_up(&self) {
        self.reader.abort();
        if let Some(shim) = &self.lasting {
            // Closing the socket alone would make it wait for the next engine. It may have ended.
            let _ = sys::pidfd_send_signal(&**shim, libc::SIGKILL);
        }
        // However many hold the socket: nothing more is said on it. It fails if the other side has hung up before.
        let _ =
            nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        close(&self.table);
    }

    /// Ends the shim with all containers, and waits for that.
    pub(super) async fn end(&self) {
        self.hang_up();
        let mut ended = self.ended.clone();
        // Never a value: an error says that the thread has seen the end.
        while ended.changed().await.is_ok() {}
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// Closes a descriptor of a container that a lasting shim keeps, when dropped.
pub(super) struct Closing {
    socket: Arc<AsyncFd<OwnedFd>>,
    name: String,
    place: Place,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let request = Request::LetGo {
            name: std::mem::take(&mut self.name),
            place: self.place,
        };
        match control::send_plain(self.socket.get_ref(), &request) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    let socket = Arc::clone(&self.socket);
                    runtime.spawn(async move { say(&socket, &request, &[]).await });
                }
            }
            // A shim that has gone has closed it.
            _ => {}
        }
    }
}

/// Sends a request.
async fn say(
    socket: &AsyncFd<OwnedFd>,
    request: &Request,
    descriptors: &[&OwnedFd],
) -> io::Result<()> {
    loop {
        let mut guard = socket.writable().await?;
        match guard.try_io(|socket| control::send(socket.get_ref(), request, descriptors)) {
            Ok(sent) => return sent,
            Err(_would_block) => {}
        }
    }
}

fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // Every change is a single insertion or removal, so a panic leaves it whole.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives up on all that is under way.
fn close(table: &Mutex<Table>) {
    let mut table = locked(table);
    table.closed = true;
    table.requests.clear();
    table.processes.clear();
}

async fn next(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    loop {
        let mut guard = socket.readable().await?;
        match guard.try_io(|socket| control::receive(socket.get_ref())) {
            Ok(received) => return received,
            Err(_would_block) => {}
        }
    }
}

/// Hands what the shim reports to those who wait for it.
async fn read(socket: Arc<AsyncFd<OwnedFd>>, table: Arc<Mutex<Table>>) {
    loop {
        let (report, descriptors) = match next(&socket).await {
            Ok(Some(received)) => received,
            Ok(None) => break,
            // What was made ends, since it is never told to go, and whoever asked hears of its helper's end. All others go on.
            Err(error) if error.kind() == control::TRUNCATED => {
                tracing::error!(%error, "cannot take what was made");
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "the process that makes containers cannot be understood");
                break;
            }
        };
        handle(&mut locked(&table), report, descriptors);
    }
    close(&table);
}

fn handle(table: &mut Table, report: Report, descriptors: Vec<OwnedFd>) {
    match report {
        Report::Here | Report::Ready => {}
        Report::Made { request, process } => {
            let (end, ended) = oneshot::channel();
            let (Some(answer), Some(pidfd)) = (
                table.requests.remove(&request),
                descriptors.into_iter().next(),
            ) else {
                return;
            };
            // The end of a first process that was killed before it was reported may have been reported before it.
            if !has_ended(&pidfd) {
                table.processes.insert(process, end);
            }
            // Who asked may have gone; the process then ends because its word to go never comes.
            let _ = answer.send(Ok(Answer::Made(Made {
                process,
                pidfd,
                ended,
            })));
        }
        Report::Done { request } => {
            if let Some(answer) = table.requests.remove(&request) {
                let _ = answer.send(Ok(Answer::Done));
            }
        }
        Report::Failed { request, problem } => {
            if let Some(answer) = table.requests.remove(&request) {
                let _ = answer.send(Err(problem));
            }
        }
        Report::HelperEnded { request } => {
            if let Some(answer) = table.requests.remove(&request) {
                let _ = answer.send(Err(Problem::Other(
                    "the process that was to make it has died".to_owned(),
                )));
            }
        }
        Report::Ended { process, status } => {
            if let Some(end) = table.processes.remove(&process) {
                // Nobody need wait for it.
                let _ = end.send(status);
            }
        }
    }
}

/// Whether the process that a descriptor stands for has ended and has been waited for.
fn has_ended(pidfd: &OwnedFd) -> bool {
    matches!(
        sys::pidfd_send_signal(pidfd, 0),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH)
    )
}

/// Starts the first stage of a shim, which ends when it has started the second.
fn spawn(program: &Path, control: OwnedFd) -> io::Result<()> {
    let sealed = sealed(program)?;
    let status = Command::new(format!("/proc/self/fd/{}", sealed.as_raw_fd()))
        .arg0("tf")
        .arg(shim::ARGUMENT)
        .env_clear()
        .stdin(Stdio::from(control))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        // It has said why on the socket, if it could.
        tracing::debug!(%status, "the first stage of the shim failed");
    }
    Ok(())
}

/// A program that cannot be written to through the processes that execute it, whose `/proc/PID/exe` a container may see:
/// the file on a read-only mount of its own. Where that cannot be made, a copy, which takes 10 ms and its size in memory.
fn sealed(program: &Path) -> io::Result<OwnedFd> {
    let mounted = sys::clone_mount(program).and_then(|mount| {
        sys::make_read_only(&mount)?;
        Ok(mount)
    });
    match mounted {
        Ok(mount) => Ok(mount),
        Err(error) => {
            tracing::debug!("copying the program for the shim, which cannot be mounted: {error}");
            sealed_copy(program).map(OwnedFd::from)
        }
    }
}

/// A copy of a program in memory that nobody can write to any more.
fn sealed_copy(program: &Path) -> io::Result<File> {
    let mut copy = File::from(memfd_create(
        c"tf",
        MemFdCreateFlag::MFD_CLOEXEC | MemFdCreateFlag::MFD_ALLOW_SEALING,
    )?);
    io::copy(&mut File::open(program)?, &mut copy)?;
    copy.flush()?;
    fcntl(
        copy.as_raw_fd(),
        FcntlArg::F_ADD_SEALS(
            SealFlag::F_SEAL_WRITE
                | SealFlag::F_SEAL_GROW
                | SealFlag::F_SEAL_SHRINK
                | SealFlag::F_SEAL_SEAL,
        ),
    )?;
    Ok(copy)
}

/// Waits until a shim and all its processes have ended. It need not be our child.
pub(super) fn await_end(pidfd: &OwnedFd) {
    let ended = PollFd::new(pidfd.as_fd(), PollFlags::POLLIN);
    while let Err(nix::errno::Errno::EINTR) = poll(&mut [ended], PollTimeout::NONE) {}
    // If it is, nobody else waits for it.
    let _ = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_without_its_descriptors_concerns_nobody_else() {
        let (ours, theirs) = control::pair().expect("a socket");
        fcntl(ours.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("set");
        let socket = Arc::new(sys::watch(ours).expect("watched"));
        let mut table = Table::default();
        let [first, second] = [1, 2].map(|request| {
            let (answer, answered) = oneshot::channel();
            table.requests.insert(request, answer);
            answered
        });
        let (_over, ended) = watch::channel(());
        let _shim = Shim::serve(socket, table, None, ended);
        // More than are taken, as if no more could be had.
        let many: Vec<_> = (0..16)
            .map(|_| File::open("/dev/null").expect("there"))
            .collect();
        let made = Report::Made {
            request: 1,
            process: 7,
        };
        control::send(&theirs, &made, &many).expect("sent");
        let ended = Report::HelperEnded { request: 1 };
        control::send_plain(&theirs, &ended).expect("sent");
        control::send_plain(&theirs, &Report::Done { request: 2 }).expect("sent");
        assert!(first.await.expect("answered").is_err());
        assert!(second.await.expect("answered").is_ok());
    }
}
