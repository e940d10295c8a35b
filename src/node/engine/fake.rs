//! An engine for tests, without privileges and on any system: its programs are functions of the test, its containers a few
//! tasks and loopback listeners.
//!
//! It keeps the contract of [`Engine`] where that shows: first processes start when told, processes end by signals, streams
//! are those that were asked for, and whatever runs in a container ends with it. It confines nothing.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Container, Engine, EngineError, Process, ProcessIo, Program, Spec};
use crate::ids::Digest;
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
    layers: Mutex<HashSet<Digest>>,
    containers: AtomicU32,
    ended: CancellationToken,
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
            layers: Mutex::default(),
            containers: AtomicU32::new(0),
            ended: CancellationToken::new(),
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
    fn prepare(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async { Ok(()) }.boxed()
    }

    fn has_layer(&self, layer: &Digest) -> bool {
        locked(&self.layers).contains(layer)
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
            locked(&self.layers).insert(layer);
            Ok(())
        }
        .boxed()
    }

    fn drop_layers<'a>(&'a self, layers: &'a [Digest]) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            locked(&self.layers).retain(|layer| !layers.contains(layer));
            Ok(())
        }
        .boxed()
    }

    fn create(&self, spec: Spec) -> BoxFuture<'_, Result<Box<dyn Container>, EngineError>> {
        async move {
            if let Some(missing) = spec.layers.iter().find(|layer| !self.has_layer(layer)) {
                return Err(EngineError::BadSpec(format!("layer {missing} is not here")));
            }
            if self.ended.is_cancelled() {
                return Err(EngineError::Ended);
            }
            let number = self.containers.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::new(Shared {
                programs: self.programs.clone(),
                files: spec.files,
                ports: Ports::default(),
                ended: self.ended.child_token(),
            });
            let first = FakeProcess::new(&shared, spec.program, spec.stdio);
            // Everything ends with the first process.
            let (mut exit, all) = (first.exit.clone(), shared.ended.clone());
            tokio::spawn(async move {
                // An error means that it has ended, too.
                let _ = exit.wait_for(Option::is_some).await;
                all.cancel();
            });
            let container = FakeContainer {
                ip: Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 2).to_bits() + number),
                shared,
                first,
            };
            Ok(Box::new(container) as Box<dyn Container>)
        }
        .boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move { self.ended.cancel() }.boxed()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.ended.cancel();
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
    ip: Ipv4Addr,
    shared: Arc<Shared>,
    first: FakeProcess,
}

impl Drop for FakeContainer {
    fn drop(&mut self) {
        self.shared.ended.cancel();
    }
}

impl Container for FakeContainer {
    fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    fn start(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.first.start();
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
            if self.shared.ended.is_cancelled() {
                return Err(EngineError::Ended);
            }
            let process = FakeProcess::new(&self.shared, program, stdio);
            process.start();
            Ok(Box::new(process) as Box<dyn Process>)
        }
        .boxed()
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        async move {
            match self.shared.ports.address(port) {
                Some(address) if !self.shared.ended.is_cancelled() => {
                    TcpStream::connect(address).await
                }
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }
        .boxed()
    }

    fn destroy(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.shared.ended.cancel();
            self.first.wait().await;
            Ok(())
        }
        .boxed()
    }
}

struct FakeProcess {
    io: Mutex<ProcessIo>,
    begin: watch::Sender<bool>,
    signals: mpsc::UnboundedSender<u8>,
    size: watch::Sender<Option<WindowSize>>,
    exit: watch::Receiver<Option<Exit>>,
}

impl FakeProcess {
    /// A process that waits to be started.
    fn new(shared: &Arc<Shared>, program: Program, stdio: Stdio) -> Self {
        let terminal = stdio.terminal.is_some();
        let (stdin, their_stdin) = stream(stdio.stdin);
        let (stdout, their_stdout) = stream(stdio.output);
        let (stderr, their_stderr) = stream(stdio.output && !terminal);
        let (begin, mut begun) = watch::channel(false);
        let (signals, mut signalled) = mpsc::unbounded_channel();
        let (size, their_size) = watch::channel(stdio.terminal);
        let (over, exit) = watch::channel(None);
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let context = Context {
                args: program.args,
                env: program.env,
                files: shared.files.clone(),
                stdin: their_stdin.map_or_else(|| boxed(tokio::io::empty()), boxed),
                stdout: sink(their_stdout),
                stderr: sink(their_stderr),
                size: their_size,
                ports: shared.ports.clone(),
            };
            let run = async {
                // Fails when nobody has the process any more; then it is killed.
                if begun.wait_for(|begun| *begun).await.is_err() {
                    return Exit::Signal(9);
                }
                let name = context.args.first().cloned().unwrap_or_default();
                match shared.programs.get(&name) {
                    Some(run) => run(context).await,
                    None => Exit::NotFound(format!("`{name}` is not in the container")),
                }
            };
            // Either order of an end and a signal may happen; a signal that was sent first counts first.
            let exit = tokio::select! {
                biased;
                () = shared.ended.cancelled() => Exit::Signal(9),
                signal = signalled.recv() => Exit::Signal(signal.unwrap_or(9)),
                exit = run => exit,
            };
            over.send_replace(Some(exit));
        });
        Self {
            io: Mutex::new(ProcessIo {
                stdin: stdin.map(|end| Box::new(end) as Box<_>),
                stdout: stdout.map(|end| Box::new(end) as Box<_>),
                stderr: stderr.map(|end| Box::new(end) as Box<_>),
            }),
            begin,
            signals,
            size,
            exit,
        }
    }

    fn start(&self) {
        self.begin.send_replace(true);
    }
}

fn stream(wanted: bool) -> (Option<DuplexStream>, Option<DuplexStream>) {
    if wanted {
        let (ours, theirs) = duplex(BUFFER);
        (Some(ours), Some(theirs))
    } else {
        (None, None)
    }
}

fn boxed(stream: impl AsyncRead + Send + Unpin + 'static) -> Box<dyn AsyncRead + Send + Unpin> {
    Box::new(stream)
}

fn sink(stream: Option<DuplexStream>) -> Box<dyn AsyncWrite + Send + Unpin> {
    match stream {
        Some(stream) => Box::new(stream),
        None => Box::new(tokio::io::sink()),
    }
}

impl Process for FakeProcess {
    fn take_io(&self) -> ProcessIo {
        std::mem::take(&mut *locked(&self.io))
    }

    fn wait(&self) -> BoxFuture<'_, Exit> {
        let mut exit = self.exit.clone();
        async move {
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.clone().unwrap_or(Exit::Signal(9)),
                // The runtime is going.
                Err(_) => Exit::Lost("the engine has ended".to_owned()),
            }
        }
        .boxed()
    }

    fn signal(&self, signal: u8) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            if self.exit.borrow().is_some() {
                return Err(EngineError::Ended);
            }
            self.signals.send(signal).map_err(|_| EngineError::Ended)
        }
        .boxed()
    }

    fn resize(&self, size: WindowSize) -> Result<(), EngineError> {
        if self.size.borrow().is_none() {
            return Err(EngineError::BadSpec(
                "the process has no terminal".to_owned(),
            ));
        }
        self.size.send_replace(Some(size));
        Ok(())
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
