//! A process in a container, and the streams of one.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::error::Error;
use super::session::Shared;
use super::stdio::{ProcessInput, ProcessOutput, Socket};
use crate::ids::{ContainerId, ProcessId};
use crate::protocol::container::{Exit, Stdio, StdioStream, WindowSize};
use crate::protocol::messages::{Resize, Signal};

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
    stdin: Mutex<Option<ProcessInput>>,
    stdout: Mutex<Option<ProcessOutput>>,
    stderr: Mutex<Option<ProcessOutput>>,
}

fn take<T>(stream: &Mutex<Option<T>>) -> Option<T> {
    stream.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Process {
    /// Attaches to the streams of a process that has just been started with `stdio`, on a node that goes on with them where they
    /// were, or does not.
    pub(super) async fn attach(
        shared: Arc<Shared>,
        container: ContainerId,
        id: Option<ProcessId>,
        stdio: Stdio,
        resumable: bool,
        exit: watch::Receiver<Option<Exit>>,
    ) -> Result<Self, Error> {
        let socket = |stream: StdioStream| {
            Socket::new(
                &shared,
                container.clone(),
                id.clone(),
                stream,
                resumable,
                exit.clone(),
            )
        };
        let session = || Arc::clone(&shared);
        let mut streams = Streams::default();
        if stdio.stdin {
            let stdin = ProcessInput::open(session(), socket(StdioStream::Stdin)).await?;
            streams.stdin = Mutex::new(Some(stdin));
        }
        if stdio.output {
            let stdout = ProcessOutput::open(session(), socket(StdioStream::Stdout)).await?;
            streams.stdout = Mutex::new(Some(stdout));
        }
        if stdio.output && stdio.terminal.is_none() {
            let stderr = ProcessOutput::open(session(), socket(StdioStream::Stderr)).await?;
            streams.stderr = Mutex::new(Some(stderr));
        }
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
    pub fn take_stdin(&self) -> Option<ProcessInput> {
        take(&self.streams.stdin)
    }

    /// What the process writes, or all that its terminal shows. Given once, if attached.
    #[must_use]
    pub fn take_stdout(&self) -> Option<ProcessOutput> {
        take(&self.streams.stdout)
    }

    /// What the process writes to standard error. Given once, if attached and without a terminal.
    #[must_use]
    pub fn take_stderr(&self) -> Option<ProcessOutput> {
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
        let read = async |stream: Option<ProcessOutput>| -> io::Result<Vec<u8>> {
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
            .call(&Resize {
                container,
                process,
                size,
            })
            .await?)
    }
}
