//! A process of the fake engine: a task, and streams that outlive an engine that is killed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{BUFFER, Context, Life, Shared, locked};
use crate::node::engine::{EngineError, Process, ProcessIo, Program};
use crate::protocol::container::{Exit, Stdio, WindowSize};

/// A process, whoever knows of it.
pub(super) struct Running {
    stdin: Kept,
    stdout: Kept,
    stderr: Kept,
    begin: watch::Sender<bool>,
    signals: mpsc::UnboundedSender<u8>,
    size: watch::Sender<Option<WindowSize>>,
    /// Its end, when there is one.
    pub(super) exit: watch::Receiver<Option<Exit>>,
}

/// A process as an engine's callers have it.
pub(super) struct FakeProcess {
    running: Arc<Running>,
    io: Mutex<ProcessIo>,
}

impl Running {
    /// A process that waits to be started, and ends when `over` is cancelled.
    pub(super) fn new(
        shared: &Arc<Shared>,
        over: CancellationToken,
        program: Program,
        stdio: Stdio,
    ) -> Self {
        let terminal = stdio.terminal.is_some();
        let (stdin, their_stdin) = stream(stdio.stdin);
        let (stdout, their_stdout) = stream(stdio.output);
        let (stderr, their_stderr) = stream(stdio.output && !terminal);
        let (begin, mut begun) = watch::channel(false);
        let (signals, mut signalled) = mpsc::unbounded_channel();
        let (size, their_size) = watch::channel(stdio.terminal);
        let (ending, exit) = watch::channel(None);
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
                () = over.cancelled() => Exit::Signal(9),
                signal = signalled.recv() => Exit::Signal(signal.unwrap_or(9)),
                exit = run => exit,
            };
            ending.send_replace(Some(exit));
        });
        let kept = |stream| Arc::new(Mutex::new(stream));
        Self {
            stdin: kept(stdin),
            stdout: kept(stdout),
            stderr: kept(stderr),
            begin,
            signals,
            size,
            exit,
        }
    }

    /// Starts it.
    pub(super) fn start(&self) {
        self.begin.send_replace(true);
    }
}

impl FakeProcess {
    /// `running`, as the engine has it whose life this is.
    pub(super) fn new(running: &Arc<Running>, life: &Arc<Life>) -> Self {
        let end = |kept: &Kept| {
            let there = locked(kept).is_some();
            there.then(|| End {
                kept: Arc::clone(kept),
                life: Arc::clone(life),
            })
        };
        Self {
            io: Mutex::new(ProcessIo {
                stdin: end(&running.stdin).map(|end| Box::new(end) as Box<_>),
                stdout: end(&running.stdout).map(|end| Box::new(end) as Box<_>),
                stderr: end(&running.stderr).map(|end| Box::new(end) as Box<_>),
            }),
            running: Arc::clone(running),
        }
    }
}

/// The node's end of a stream, for as long as nobody has closed it.
type Kept = Arc<Mutex<Option<DuplexStream>>>;

/// The node's end of a stream, as an engine's callers have it.
struct End {
    kept: Kept,
    life: Arc<Life>,
}

impl End {
    fn with<T>(
        &self,
        action: impl FnOnce(Pin<&mut DuplexStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *locked(&self.kept) {
            Some(stream) if !self.life.is_killed() => action(Pin::new(stream)),
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(context, buffer))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(context))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.life.is_killed() {
            locked(&self.kept).take();
        }
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
        let mut exit = self.running.exit.clone();
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
            if self.running.exit.borrow().is_some() {
                return Err(EngineError::Ended);
            }
            self.running
                .signals
                .send(signal)
                .map_err(|_| EngineError::Ended)
        }
        .boxed()
    }

    fn resize(&self, size: WindowSize) -> Result<(), EngineError> {
        if self.running.size.borrow().is_none() {
            return Err(EngineError::BadSpec(
                "the process has no terminal".to_owned(),
            ));
        }
        self.running.size.send_replace(Some(size));
        Ok(())
    }
}
