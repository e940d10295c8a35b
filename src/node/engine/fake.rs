//! An engine for tests, without privileges and on any system: its programs are functions of the test, its containers a few
//! tasks and loopback listeners.
//!
//! It keeps the contract of [`Engine`] where that shows: first processes start when told, processes end by signals, streams
//! are those that were asked for, and whatever runs in a container ends with it. It confines nothing. Its containers end with
//! it, unless it is [killed](FakeEngine::kill).

mod process;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::process::{FakeProcess, Running};
use super::{Adopted, Container, Engine, EngineError, Process, Program, Spec};
use crate::ids::{ContainerId, Digest};
use crate::protocol::container::{Exit, PrebootFile, Stdio, WindowSize};

/// What a stream holds before its reader gets to it, in bytes: as a pipe of Linux.
const BUFFER: usize = 64 << 10;

/// A program: what it is given, to how it ends.
pub type Run = Arc<dyn Fn(Context) -> BoxFuture<'static, Exit> + Send + Sync>;

/// What a program is given.
pub struct Context {
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// Files that the container was made with.
    pub files: Vec<PrebootFile>,
    /// Its standard input; at its end if nobody is to write there.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard output.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard error.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// Size of its terminal, if it has one.
    pub size: watch::Receiver<Option<WindowSize>>,
    /// Its container's ports.
    pub ports: Ports,
}

/// The ports of a container: where on the loopback they are really listened on.
#[derive(Clone, Default)]
pub struct Ports(Arc<Mutex<HashMap<u16, SocketAddr>>>);

impl Ports {
    /// Listens on a port of the container.
    ///
    /// # Errors
    ///
    /// When the machine has no port free for it.
    pub async fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        locked(&self.0).insert(port, listener.local_addr()?);
        Ok(listener)
    }

    fn address(&self, port: u16) -> Option<SocketAddr> {
        locked(&self.0).get(&port).copied()
    }
}

/// Runs functions as if they were containers.
pub struct FakeEngine {
    programs: HashMap<String, Run>,
    machine: Arc<Machine>,
    life: Arc<Life>,
    /// Containers of an earlier engine that nobody has asked for yet.
    left: Mutex<Vec<Left>>,
}

/// What an engine works on, and leaves to the next one.
#[derive(Default)]
struct Machine {
    layers: Mutex<HashSet<Digest>>,
    /// How many there were.
    containers: AtomicU32,
    living: Mutex<Vec<Left>>,
    ended: CancellationToken,
}

/// A container that its engine may leave.
#[derive(Clone)]
struct Left {
    id: ContainerId,
    ip: Ipv4Addr,
    program: Program,
    shared: Arc<Shared>,
    first: Arc<Running>,
}

/// What ends with an engine's process, and not when that is killed.
#[derive(Default)]
struct Life {
    killed: AtomicBool,
    /// Ends its further processes.
    over: CancellationToken,
}

impl Life {
    fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// An engine whose containers know these programs: `echo WORD...`, `cat`, `sleep` (until a signal), `exit STATUS`, and
    /// `serve PORT`, which sends back what it is sent.
    #[must_use]
    pub fn new() -> Self {
        let engine = Self {
            programs: HashMap::new(),
            machine: Arc::default(),
            life: Arc::default(),
            left: Mutex::default(),
        };
        engine
            .with_program("echo", |mut context| async move {
                let line = format!("{}\n", context.args[1..].join(" "));
                ended(&context.stdout.write_all(line.as_bytes()).await)
            })
            .with_program("cat", |mut context| async move {
                ended(&tokio::io::copy(&mut context.stdin, &mut context.stdout).await)
            })
            .with_program("sleep", |_context| std::future::pending())
            .with_program("exit", |context| async move {
                let status = context.args.get(1).and_then(|text| text.parse().ok());
                Exit::Code(status.unwrap_or(2))
            })
            .with_program("serve", |context| async move {
                let port = context.args.get(1).and_then(|text| text.parse().ok());
                let Some(port) = port else {
                    return Exit::Code(2);
                };
                ended(&serve(&context.ports, port).await)
            })
    }

    /// Has this engine's process die, as by `kill -9`, and starts the next one, which can take back the containers. Whatever is
    /// done with this engine and what it has made has no effect on them any more.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.life.killed.store(true, Ordering::Relaxed);
        self.life.over.cancel();
        Self {
            programs: self.programs.clone(),
            machine: Arc::clone(&self.machine),
            life: Arc::default(),
            left: Mutex::new(locked(&self.machine.living).clone()),
        }
    }

    /// Adds a program.
    #[must_use]
    pub fn with_program<F>(
        mut self,
        name: &str,
        run: impl Fn(Context) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Exit> + Send + 'static,
    {
        let run: Run = Arc::new(move |context| run(context).boxed());
        self.programs.insert(name.to_owned(), run);
        self
    }
}

fn ended<T>(result: &io::Result<T>) -> Exit {
    Exit::Code(u8::from(result.is_err()))
}

async fn serve(ports: &Ports, port: u16) -> io::Result<()> {
    let listener = ports.listen(port).await?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        connections.spawn(async move {
            let (mut read, mut write) = stream.split();
            // The other side may break it off.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine for FakeEngine {
    fn adopt(&self) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>> {
        async move {
            let left = std::mem::take(&mut *locked(&self.left));
            let adopted = left.into_iter().map(|left| Adopted {
                id: left.id.clone(),
                program: left.program.clone(),
                container: Box::new(self.container(left)),
            });
            Ok(adopted.collect())
        }
        .boxed()
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async { Ok(()) }.boxed()
    }

    fn has_layer(&self, layer: &Digest) -> bool {
        locked(&self.machine.layers).contains(layer)
    }

    fn add_layer(
        &self,
        layer: Digest,
        mut tar: Box<dyn AsyncRead + Send + Unpin>,
        progress: Box<dyn Fn(u64) + Send + Sync>,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            let failed = |source| EngineError::Failed {
                step: "read a layer".to_owned(),
                source,
            };
            let mut hash = sha2::Sha256::new();
            let mut buffer = vec![0; BUFFER];
            let mut done = 0;
            loop {
                let length = tar.read(&mut buffer).await.map_err(failed)?;
                if length == 0 {
                    break;
                }
                hash.update(&buffer[..length]);
                done += length as u64;
                progress(done);
            }
            let found = Digest::new(hash.finalize().into());
            if found != layer {
                return Err(EngineError::WrongDigest {
                    expected: layer,
                    found,
                });
            }
            locked(&self.machine.layers).insert(layer);
            Ok(())
        }
        .boxed()
    }

    fn drop_layers<'a>(&'a self, layers: &'a [Digest]) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            locked(&self.machine.layers).retain(|layer| !layers.contains(layer));
            Ok(())
        }
        .boxed()
    }

    fn create(&self, spec: Spec) -> BoxFuture<'_, Result<Box<dyn Container>, EngineError>> {
        async move {
            if let Some(missing) = spec.layers.iter().find(|layer| !self.has_layer(layer)) {
                return Err(EngineError::BadSpec(format!("layer {missing} is not here")));
            }
            if self.machine.ended.is_cancelled() {
                return Err(EngineError::Ended);
            }
            let number = self.machine.containers.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::new(Shared {
                programs: self.programs.clone(),
                files: spec.files,
                ports: Ports::default(),
                ended: self.machine.ended.child_token(),
            });
            let over = CancellationToken::new();
            let first = Arc::new(Running::new(
                &shared,
                over,
                spec.program.clone(),
                spec.stdio,
            ));
            // Everything ends with the first process.
            let (mut exit, all) = (first.exit.clone(), shared.ended.clone());
            tokio::spawn(async move {
                // An error means that it has ended, too.
                let _ = exit.wait_for(Option::is_some).await;
                all.cancel();
            });
            let left = Left {
                id: spec.id,
                ip: Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 2).to_bits() + number),
                program: spec.program,
                shared,
                first,
            };
            locked(&self.machine.living).push(left.clone());
            Ok(Box::new(self.container(left)) as Box<dyn Container>)
        }
        .boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move { self.end() }.boxed()
    }
}

impl FakeEngine {
    fn container(&self, left: Left) -> FakeContainer {
        FakeContainer {
            first: FakeProcess::new(&left.first, &self.life),
            machine: Arc::clone(&self.machine),
            life: Arc::clone(&self.life),
            left,
        }
    }

    fn end(&self) {
        if !self.life.is_killed() {
            self.machine.ended.cancel();
        }
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the processes of a container share.
struct Shared {
    programs: HashMap<String, Run>,
    files: Vec<PrebootFile>,
    ports: Ports,
    ended: CancellationToken,
}

struct FakeContainer {
    left: Left,
    first: FakeProcess,
    machine: Arc<Machine>,
    life: Arc<Life>,
}

impl FakeContainer {
    fn end(&self) {
        if !self.life.is_killed() {
            self.left.shared.ended.cancel();
            locked(&self.machine.living).retain(|left| left.id != self.left.id);
        }
    }
}

impl Drop for FakeContainer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Container for FakeContainer {
    fn ip(&self) -> Ipv4Addr {
        self.left.ip
    }

    fn start(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.left.first.start();
            Ok(())
        }
        .boxed()
    }

    fn first_process(&self) -> &dyn Process {
        &self.first
    }

    fn exec(
        &self,
        program: Program,
        stdio: Stdio,
    ) -> BoxFuture<'_, Result<Box<dyn Process>, EngineError>> {
        async move {
            let shared = &self.left.shared;
            if shared.ended.is_cancelled() {
                return Err(EngineError::Ended);
            }
            let over = self.life.over.clone();
            let running = Arc::new(Running::new(shared, over, program, stdio));
            running.start();
            let process = FakeProcess::new(&running, &self.life);
            Ok(Box::new(process) as Box<dyn Process>)
        }
        .boxed()
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        async move {
            let shared = &self.left.shared;
            match shared.ports.address(port) {
                Some(address) if !shared.ended.is_cancelled() => TcpStream::connect(address).await,
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }
        .boxed()
    }

    fn destroy(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.end();
            self.first.wait().await;
            Ok(())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ContainerId;
    use crate::protocol::container::Limits;

    fn spec(args: &[&str]) -> Spec {
        Spec {
            id: ContainerId::random(),
            layers: vec![],
            files: vec![],
            program: program(args),
            stdio: ALL,
            limits: Limits::default(),
        }
    }

    fn program(args: &[&str]) -> Program {
        Program {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Program::default()
        }
    }

    const ALL: Stdio = Stdio {
        stdin: true,
        output: true,
        terminal: None,
    };

    #[tokio::test]
    async fn a_first_process_runs_when_told_and_ends_when_told() {
        let engine = FakeEngine::new();
        let container = engine.create(spec(&["cat"])).await.expect("created");
        let first = container.first_process();
        let mut io = first.take_io();
        assert!(first.take_io().stdin.is_none());
        let (mut stdin, mut stdout) =
            (io.stdin.take().expect("in"), io.stdout.take().expect("out"));
        stdin.write_all(b"hello").await.expect("written");
        assert!(first.wait().now_or_never().is_none());
        container.start().await.expect("started");
        let mut text = [0; 5];
        stdout.read_exact(&mut text).await.expect("read");
        assert_eq!(&text, b"hello");
        first.signal(15).await.expect("sent");
        assert_eq!(first.wait().await, Exit::Signal(15));
        assert!(matches!(first.signal(9).await, Err(EngineError::Ended)));
    }

    #[tokio::test]
    async fn a_killed_engine_leaves_its_containers_to_the_next() {
        let killed = FakeEngine::new();
        let (cat, asleep) = (spec(&["cat"]), spec(&["exit", "3"]));
        let container = killed.create(cat.clone()).await.expect("created");
        let waits = killed.create(asleep.clone()).await.expect("created");
        let gone = killed.create(spec(&["sleep"])).await.expect("created");
        gone.destroy().await.expect("destroyed");
        container.start().await.expect("started");
        let further = container.exec(program(&["sleep"]), ALL).await;
        let further = further.expect("started");
        let mut io = container.first_process().take_io();
        let stdin = io.stdin.as_mut().expect("it is there");
        stdin.write_all(b"unread").await.expect("written");

        let engine = killed.kill();
        assert_eq!(further.wait().await, Exit::Signal(9));
        drop((io, container, waits, further));
        killed.shutdown().await;
        drop(killed);

        let mut adopted = engine.adopt().await.expect("adopted");
        assert!(engine.adopt().await.expect("adopted").is_empty());
        let ids: Vec<_> = adopted.iter().map(|adopted| adopted.id.clone()).collect();
        assert_eq!(ids, [cat.id, asleep.id]);
        let waits = adopted.pop().expect("two");
        assert_eq!(waits.program, asleep.program);
        waits.container.start().await.expect("started");
        let exit = waits.container.first_process().wait().await;
        assert_eq!(exit, Exit::Code(3));
        let cat = adopted.pop().expect("two").container;
        let mut io = cat.first_process().take_io();
        let mut text = [0; 6];
        let stdout = io.stdout.as_mut().expect("it is there");
        stdout.read_exact(&mut text).await.expect("read");
        assert_eq!(&text, b"unread");
        drop(io.stdin);
        assert_eq!(cat.first_process().wait().await, Exit::Code(0));
    }

    #[tokio::test]
    async fn a_server_is_reached_until_its_container_ends() {
        let engine = FakeEngine::new();
        let container = engine.create(spec(&["sleep"])).await.expect("created");
        container.start().await.expect("started");
        assert!(container.connect(80).await.is_err());
        let server = container
            .exec(program(&["serve", "80"]), Stdio::default())
            .await
            .expect("started");
        let mut stream = loop {
            match container.connect(80).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        stream.write_all(b"x").await.expect("sent");
        assert_eq!(stream.read_u8().await.expect("echoed"), b'x');
        container.destroy().await.expect("destroyed");
        assert_eq!(server.wait().await, Exit::Signal(9));
        assert!(container.connect(80).await.is_err());
    }

    #[tokio::test]
    async fn ends_are_told_apart() {
        let engine = FakeEngine::new();
        for (args, expected) in [(&["exit", "7"][..], 7), (&["echo", "x"], 0)] {
            let container = engine.create(spec(args)).await.expect("created");
            container.start().await.expect("started");
            assert_eq!(container.first_process().wait().await, Exit::Code(expected));
        }
        let container = engine.create(spec(&["nothing"])).await.expect("created");
        container.start().await.expect("started");
        assert!(matches!(
            container.first_process().wait().await,
            Exit::NotFound(_)
        ));
        let container = engine.create(spec(&["sleep"])).await.expect("created");
        engine.shutdown().await;
        assert_eq!(container.first_process().wait().await, Exit::Signal(9));
    }

    #[tokio::test]
    async fn layers_are_verified() {
        let engine = FakeEngine::new();
        let digest = Digest::of(b"layer");
        let add =
            |content: &'static [u8]| engine.add_layer(digest, Box::new(content), Box::new(|_| {}));
        assert!(matches!(
            add(b"other").await,
            Err(EngineError::WrongDigest { .. })
        ));
        let mut needs = spec(&["exit", "0"]);
        needs.layers = vec![digest];
        assert!(engine.create(needs.clone()).await.is_err());
        add(b"layer").await.expect("added");
        assert!(engine.has_layer(&digest));
        engine.create(needs).await.expect("created");
    }
}
