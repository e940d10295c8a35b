//! A process in a container, and the streams of one.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::error::Error;
use super::location::Shared;
use crate::ids::{ContainerId, ProcessId};
use crate::link::ByteStream;
use crate::protocol::container::{Exit, Stdio, StdioStream, WindowSize};
use crate::protocol::messages::{Resize, Signal, StreamHeader};

/// A process in a container: its first one, or one that was started later. Clones are the same process.
#[derive(Clone)]
pub struct Process {
    shared: Arc<Shared>,
    container: ContainerId,
    id: Option<ProcessId>,
    streams: Arc<Streams>,
    exit: watch::Receiver<Option<Exit>>,
}

/// Streams that nobody has taken yet.
#[derive(Default)]
struct Streams {
    stdin: Mutex<Option<ByteStream>>,
    stdout: Mutex<Option<ByteStream>>,
    stderr: Mutex<Option<ByteStream>>,
}

fn take(stream: &Mutex<Option<ByteStream>>) -> Option<ByteStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Process {
    /// Attaches to the streams of a process that has just been started with `stdio`.
    pub(super) async fn attach(
        shared: Arc<Shared>,
        container: ContainerId,
        id: Option<ProcessId>,
        stdio: Stdio,
        exit: watch::Receiver<Option<Exit>>,
    ) -> Result<Self, Error> {
        let open = async |wanted: bool, stream: StdioStream| {
            if !wanted {
                return Ok::<_, Error>(Mutex::new(None));
            }
            let header = StreamHeader::Stdio {
                container: container.clone(),
                process: id.clone(),
                stream,
            };
            Ok(Mutex::new(Some(shared.link.open(&header).await?)))
        };
        let streams = Streams {
            stdin: open(stdio.stdin, StdioStream::Stdin).await?,
            stdout: open(stdio.output, StdioStream::Stdout).await?,
            stderr: open(
                stdio.output && stdio.terminal.is_none(),
                StdioStream::Stderr,
            )
            .await?,
        };
        Ok(Self {
            shared,
            container,
            id,
            streams: Arc::new(streams),
            exit,
        })
    }

    /// What is written here, the process reads. Shut it down to let the process read the end. Given once, if attached.
    #[must_use]
    pub fn take_stdin(&self) -> Option<ByteStream> {
        take(&self.streams.stdin)
    }

    /// What the process writes, or all that its terminal shows. Given once, if attached.
    #[must_use]
    pub fn take_stdout(&self) -> Option<ByteStream> {
        take(&self.streams.stdout)
    }

    /// What the process writes to standard error. Given once, if attached and without a terminal.
    #[must_use]
    pub fn take_stderr(&self) -> Option<ByteStream> {
        take(&self.streams.stderr)
    }

    /// Waits for its end. What it has written may still be on its way: read its streams to their end.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(exit)) => exit.clone(),
            _ => Exit::Lost("nobody knows how it ended".to_owned()),
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Reads its output and standard error to the end and waits for it.
    ///
    /// # Errors
    ///
    /// When the session ends meanwhile.
    pub async fn wait_with_output(&self) -> Result<(Exit, Vec<u8>, Vec<u8>), Error> {
        let read = async |stream: Option<ByteStream>| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                stream.read_to_end(&mut bytes).await?;
            }
            Ok(bytes)
        };
        let (stdout, stderr) =
            tokio::try_join!(read(self.take_stdout()), read(self.take_stderr()))?;
        Ok((self.wait().await, stdout, stderr))
    }

    /// Sends it a signal, by number.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub async fn signal(&self, signal: u8) -> Result<(), Error> {
        let (container, process) = (self.container.clone(), self.id.clone());
        Ok(self
            .shared
            .link
            .call(&Signal {
                container,
                process,
                signal,
            })
            .await?)
    }

    /// Changes the size of its terminal.
    ///
    /// # Errors
    ///
    /// When it has ended or has no terminal.
    pub async fn resize(&self, size: WindowSize) -> Result<(), Error> {
        let (container, process) = (self.container.clone(), self.id.clone());
        Ok(self
            .shared
            .link
            .call(&Resize {
                container,
                process,
                size,
            })
            .await?)
    }
}
