//! One container on a node, from the first thought of it to its end.
//!
//! ```text
//! creating ──▶ ready ──▶ gone
//!     └──── failed ────────▲
//! ```
//!
//! A container can be destroyed in any state: one that is being created is destroyed as soon as that is done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::engine::{Container, Process, ProcessIo, Program};
use crate::ids::ProcessId;
use crate::protocol::container::StdioStream;
use crate::protocol::messages::{Fault, FaultCode};

/// A container's place in the node's table.
#[derive(Clone)]
pub(crate) struct Slot {
    state: watch::Receiver<State>,
}

/// Fills a [`Slot`]. Dropping it means that the container could not be made.
pub(crate) struct Filler {
    state: watch::Sender<State>,
}

#[derive(Clone)]
enum State {
    Creating,
    Ready(Arc<Running>),
}

/// A container that was made.
pub(crate) struct Running {
    pub(crate) container: Box<dyn Container>,
    /// What its first process was started with.
    pub(crate) program: Program,
    processes: Mutex<HashMap<ProcessId, Arc<Further>>>,
    streams: Streams,
}

/// A further process of a container.
pub(crate) struct Further {
    pub(crate) process: Box<dyn Process>,
    streams: Streams,
}

/// Standard streams that nobody has attached to yet.
struct Streams(Mutex<ProcessIo>);

/// A standard stream, ready to be carried.
pub(crate) enum Stream {
    /// Bytes for the process.
    In(Box<dyn tokio::io::AsyncWrite + Send + Unpin>),
    /// Bytes from the process.
    Out(Box<dyn tokio::io::AsyncRead + Send + Unpin>),
}

impl Slot {
    pub(crate) fn new() -> (Self, Filler) {
        let (sender, receiver) = watch::channel(State::Creating);
        (Self { state: receiver }, Filler { state: sender })
    }

    /// The container, if it is ready.
    pub(crate) fn ready(&self) -> Result<Arc<Running>, Fault> {
        match &*self.state.borrow() {
            State::Ready(running) => Ok(Arc::clone(running)),
            State::Creating => Err(Fault::new(
                FaultCode::InUse,
                "the container is still being made",
            )),
        }
    }

    /// The container once it is ready; none if it could not be made.
    pub(crate) async fn settled(mut self) -> Option<Arc<Running>> {
        match &*self
            .state
            .wait_for(|state| matches!(state, State::Ready(_)))
            .await
            .ok()?
        {
            State::Ready(running) => Some(Arc::clone(running)),
            State::Creating => None,
        }
    }
}

impl Filler {
    pub(crate) fn fill(self, container: Box<dyn Container>, program: Program) -> Arc<Running> {
        let streams = Streams(Mutex::new(container.first_process().take_io()));
        let running = Arc::new(Running {
            container,
            program,
            processes: Mutex::default(),
            streams,
        });
        self.state.send_replace(State::Ready(Arc::clone(&running)));
        running
    }
}

impl Running {
    pub(crate) fn add_process(&self, id: ProcessId, process: Box<dyn Process>) -> Arc<Further> {
        let streams = Streams(Mutex::new(process.take_io()));
        let further = Arc::new(Further { process, streams });
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(&further));
        further
    }

    /// A further process by its name.
    pub(crate) fn process(&self, id: &ProcessId) -> Result<Arc<Further>, Fault> {
        let processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let process = processes.get(id).cloned();
        process.ok_or_else(|| {
            Fault::new(
                FaultCode::NotFound,
                format!("the container has no process {id}"),
            )
        })
    }

    /// Forgets a further process, and kills it if it still runs.
    pub(crate) fn forget_process(&self, id: &ProcessId) {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    /// Takes a standard stream of a process, the first one if not named.
    pub(crate) fn take_stream(
        &self,
        process: Option<&ProcessId>,
        which: StdioStream,
    ) -> Option<Stream> {
        match process {
            None => self.streams.take(which),
            Some(id) => self.process(id).ok()?.streams.take(which),
        }
    }
}

impl Streams {
    fn take(&self, which: StdioStream) -> Option<Stream> {
        let mut io = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match which {
            StdioStream::Stdin => io.stdin.take().map(Stream::In),
            StdioStream::Stdout => io.stdout.take().map(Stream::Out),
            StdioStream::Stderr => io.stderr.take().map(Stream::Out),
        }
    }
}
