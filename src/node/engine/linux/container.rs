//! A container of the Linux engine.

mod record;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

pub(super) use self::record::{Record, Restoring, keep};
use super::cgroups::{self, Hierarchies};
use super::client::Shim;
use super::control::{Create, Exec, Problem, Start, Step};
use super::explain::explain;
use super::ids::Range;
use super::layers::Held;
use super::network::{Attachment, Network};
use super::process::{Ends, LinuxProcess, MemoryLimit, connect};
use crate::node::engine::{Container, EngineError, Process, Program, Spec};
use crate::protocol::container::Stdio;

/// Length of a host name made of a container's name, as Docker has it.
const HOSTNAME_LENGTH: usize = 12;

/// What an engine makes its containers with.
pub(super) struct Workshop {
    /// Makes them.
    pub(super) shim: Shim,
    /// Connects them.
    pub(super) network: Network,
    /// The machine's cgroups.
    pub(super) hierarchies: Arc<Hierarchies>,
    /// The number of the engine.
    pub(super) slot: u16,
    /// State directory, for what is said about it.
    pub(super) state: PathBuf,
    /// Directory of the layers.
    pub(super) layers: PathBuf,
    /// Directory of the containers.
    pub(super) containers: PathBuf,
    /// Directory of what is being removed.
    pub(super) trash: PathBuf,
    /// Removals under way.
    pub(super) removals: tokio_util::task::TaskTracker,
}

/// A container. Destroyed when dropped.
pub(super) struct LinuxContainer(Arc<Inner>);

struct Inner {
    workshop: Arc<Workshop>,
    first: LinuxProcess,
    ip: Ipv4Addr,
    cgroup: String,
    limit: Option<MemoryLimit>,
    attachment: Mutex<Option<Arc<Attachment>>>,
    traces: Mutex<Option<Traces>>,
    destroyed: OnceCell<()>,
}

/// What there is of a container outside its processes.
pub(super) struct Traces {
    name: String,
    cgroup: String,
    /// Taken by the container's processes until they have ended, and the layers in use until then. None of a container that
    /// was not whole when its engine died.
    _resources: Option<(Range, Held)>,
}

impl Traces {
    /// What a container of this name has left that is not ours.
    pub(super) fn of_another(slot: u16, name: String) -> Self {
        Self {
            cgroup: cgroups::container(slot, &name),
            name,
            _resources: None,
        }
    }
}

impl LinuxContainer {
    /// Makes a container of `spec` from `layers`.
    pub(super) async fn make(
        workshop: Arc<Workshop>,
        spec: Spec,
        layers: Held,
        ids: Range,
    ) -> Result<Self, EngineError> {
        let first_id = ids.first();
        let mut record = Record {
            id: spec.id.clone(),
            program: spec.program.clone(),
            layers: spec.layers,
            first_id,
            ip: Ipv4Addr::UNSPECIFIED,
            interface: 0,
            memory_limited: spec.limits.memory.is_some(),
        };
        let name = spec.id.as_str().to_owned();
        let cgroup = cgroups::container(workshop.slot, &name);
        let paths = layers
            .paths()
            .iter()
            .map(|path| path.strip_prefix(&workshop.layers).map(Path::to_owned))
            .collect::<Result<_, _>>()
            .map_err(|_| explain(outside(), &workshop.state))?;
        let traces = Traces {
            name: name.clone(),
            cgroup: cgroup.clone(),
            _resources: Some((ids, layers)),
        };
        let limit = spec.limits.memory.map(|_| MemoryLimit {
            hierarchies: Arc::clone(&workshop.hierarchies),
            cgroup: cgroup.clone(),
        });
        let hostname = name[..HOSTNAME_LENGTH].to_owned();
        let create = Create {
            name,
            hostname: hostname.clone(),
            cgroup,
            first_id,
            layers: paths,
            files: spec.files,
            resolv_conf: workshop.network.resolv_conf(),
            limits: spec.limits,
            start: Start::new(spec.program, spec.stdio.terminal, [false; 3]),
        };
        match assemble(&workshop, create, spec.stdio, limit.clone(), &mut record).await {
            Ok((first, attachment)) => Ok(Self(Arc::new(Inner {
                workshop,
                first,
                ip: attachment.ip(),
                cgroup: traces.cgroup.clone(),
                limit,
                attachment: Mutex::new(Some(Arc::new(attachment))),
                traces: Mutex::new(Some(traces)),
                destroyed: OnceCell::new(),
            }))),
            Err(problem) => {
                let state = workshop.state.clone();
                clear(&workshop, traces).await;
                Err(match problem {
                    Failure::Problem(problem) => explain(problem, &state),
                    Failure::Engine(error) => error,
                })
            }
        }
    }
}

enum Failure {
    Problem(Problem),
    Engine(EngineError),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

fn outside() -> Problem {
    Problem::Other("a layer is not in the directory of the layers".to_owned())
}

/// Makes the container's processes and connects it. Of a failure nothing runs on.
async fn assemble(
    workshop: &Arc<Workshop>,
    mut create: Create,
    stdio: Stdio,
    limit: Option<MemoryLimit>,
    record: &mut Record,
) -> Result<(LinuxProcess, Attachment), Failure> {
    let directory = workshop.containers.join(&create.name);
    let hosts = directory.join("hosts");
    let hostname = create.hostname.clone();
    make_directory(&directory, &hosts, create.first_id)
        .step("make a directory for the container")?;
    let (streams, ends) = connect(stdio).step("make pipes for the container")?;
    create.start.streams = streams.stdio.each_ref().map(Option::is_some);
    let shim = &workshop.shim;
    let kept = shim.is_lasting().then(|| ends.kept());
    let kept = kept.transpose().step("keep the pipes of the container")?;
    let (name, layers) = (create.name.clone(), create.layers.clone());
    // The network takes the time that the rest of the container takes.
    let (made, attached) = tokio::join!(shim.create(create, streams), attach(workshop, &ends));
    let made = made?;
    let process = made.process;
    let closing = |place| shim.closing(&name, place);
    let first = LinuxProcess::new(made, ends, limit, false, closing).await?;
    let connected = async {
        let attachment = attached?;
        fs::write(&hosts, hosts_file(&hostname, attachment.ip()))
            .step("write /etc/hosts of the container")?;
        // From here on it outlives the engine: it is whole.
        if let Some(kept) = kept {
            record.ip = attachment.ip();
            record.interface = attachment.interface();
            let kept = first.kept(kept).step("keep the pipes of the container")?;
            keep(shim, &name, Some(process), layers, record, kept).await?;
        }
        Ok(attachment)
    };
    match connected.await {
        Ok(attachment) => Ok((first, attachment)),
        Err(failure) => {
            first.kill();
            first.ended().await;
            Err(failure)
        }
    }
}

/// Connects a container that is being made with the network.
async fn attach(workshop: &Workshop, ends: &Ends) -> Result<Attachment, Failure> {
    let namespace = ends
        .network()
        .await?
        .ok_or_else(|| Problem::Other("the container ended before it had a network".to_owned()))?;
    let attached = workshop.network.attach(namespace).await;
    attached.map_err(Failure::Engine)
}

/// Makes the directory of a container. The container's root passes through it and sees nothing in it.
fn make_directory(directory: &Path, hosts: &Path, owner: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o711).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
    fs::write(hosts, "")?;
    fs::set_permissions(hosts, fs::Permissions::from_mode(0o644))?;
    chown(hosts, Some(owner), Some(owner))
}

fn hosts_file(hostname: &str, ip: Ipv4Addr) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n\
                    ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{ip}\t{hostname}");
    text
}

/// The network namespace of the process that `pidfd` stands for.
fn network_namespace(pidfd: &OwnedFd) -> io::Result<OwnedFd> {
    let pid = host_pid(pidfd)?;
    let namespace = fs::File::open(format!("/proc/{pid}/ns/net"))?;
    // If the process has not ended since, the number was not somebody else's.
    super::sys::pidfd_send_signal(pidfd, 0)?;
    Ok(namespace.into())
}

/// Our number for the process that `pidfd` stands for. The shim, in its own pid namespace, knows it by another.
fn host_pid(pidfd: &OwnedFd) -> io::Result<i32> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?
        .lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Removes what there is of a container whose processes have ended.
pub(super) async fn clear(workshop: &Arc<Workshop>, traces: Traces) {
    let workshop_ = Arc::clone(workshop);
    let done = workshop
        .removals
        .spawn_blocking(move || {
            let workshop = workshop_;
            if let Err(error) = workshop.hierarchies.remove(&traces.cgroup) {
                tracing::warn!(%error, cgroup = traces.cgroup, "cannot remove the cgroups of a container");
            }
            let directory = workshop.containers.join(&traces.name);
            let trash = workshop.trash.join(&traces.name);
            if let Err(error) = fs::rename(&directory, &trash) {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, directory = %directory.display(), "cannot remove a container's directory");
                }
                return;
            }
            // Whoever waits does so for what others can see: this can take as long as there are files.
            let removals = workshop.removals.clone();
            removals.spawn_blocking(move || {
                if let Err(error) = fs::remove_dir_all(&trash) {
                    tracing::warn!(%error, directory = %trash.display(), "cannot remove a container's directory");
                }
                drop(workshop);
            });
        })
        .await;
    if let Err(error) = done {
        tracing::warn!(%error, "a container could not be cleared away");
    }
}

impl Inner {
    async fn destroy(&self) {
        self.destroyed
            .get_or_init(|| async {
                self.first.kill();
                self.first.ended().await;
                let attachment = locked(&self.attachment).take();
                drop(attachment);
                let traces = locked(&self.traces).take();
                if let Some(traces) = traces {
                    let name = traces.name.clone();
                    clear(&self.workshop, traces).await;
                    if self.workshop.shim.is_lasting()
                        && let Err(problem) = self.workshop.shim.forget(name).await
                    {
                        tracing::debug!(%problem, "the shim has gone before it could forget a container");
                    }
                }
            })
            .await;
    }

    async fn exec(&self, program: Program, stdio: Stdio) -> Result<LinuxProcess, Problem> {
        let (streams, ends) = connect(stdio).step("make pipes for the process")?;
        let attached = streams.stdio.each_ref().map(Option::is_some);
        let exec = Exec {
            cgroup: self.cgroup.clone(),
            start: Start::new(program, stdio.terminal, attached),
        };
        let made = self
            .workshop
            .shim
            .exec(exec, streams, self.first.pidfd())
            .await?;
        let limit = self.limit.clone();
        // It ends with the engine in any case.
        let process = LinuxProcess::new(made, ends, limit, true, |_| None).await?;
        match process.go().await {
            // These are ends of the process, which tells of them itself.
            Ok(()) | Err(Problem::NotFound(_) | Problem::NotExecutable(_)) => Ok(process),
            Err(problem) => Err(problem),
        }
    }

    /// What to tell about a problem: if the container has ended, that.
    fn explain(&self, problem: Problem) -> EngineError {
        match problem {
            Problem::BadSpec(_) => explain(problem, &self.workshop.state),
            _ if self.first.has_ended() => EngineError::Ended,
            _ => explain(problem, &self.workshop.state),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is only ever taken whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for LinuxContainer {
    fn drop(&mut self) {
        self.0.first.kill();
        let inner = Arc::clone(&self.0);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let removals = inner.workshop.removals.clone();
            removals.spawn_on(async move { inner.destroy().await }, &runtime);
        }
    }
}

impl Container for LinuxContainer {
    fn ip(&self) -> Ipv4Addr {
        self.0.ip
    }

    fn start(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            if self.0.first.has_ended() && !self.0.first.is_going() {
                return Err(EngineError::Ended);
            }
            match self.0.first.go().await {
                Ok(()) | Err(Problem::NotFound(_) | Problem::NotExecutable(_)) => Ok(()),
                Err(problem) => Err(explain(problem, &self.0.workshop.state)),
            }
        }
        .boxed()
    }

    fn first_process(&self) -> &dyn Process {
        &self.0.first
    }

    fn exec(
        &self,
        program: Program,
        stdio: Stdio,
    ) -> BoxFuture<'_, Result<Box<dyn Process>, EngineError>> {
        async move {
            if self.0.first.has_ended() {
                return Err(EngineError::Ended);
            }
            match self.0.exec(program, stdio).await {
                Ok(process) => Ok(Box::new(process) as Box<dyn Process>),
                Err(problem) => Err(self.0.explain(problem)),
            }
        }
        .boxed()
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        let attachment = locked(&self.0.attachment).clone();
        async move {
            match attachment {
                Some(attachment) if !self.0.first.has_ended() => attachment.connect(port).await,
                _ => Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    "the container has ended",
                )),
            }
        }
        .boxed()
    }

    fn destroy(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.0.destroy().await;
            Ok(())
        }
        .boxed()
    }
}
