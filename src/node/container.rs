//! One container on a node, from the first thought of it to its end.
//!
//! ```text
//! creating ──▶ ready ──▶ gone
//!     └──── failed ────────▲
//! ```
//!
//! A container can be destroyed in any state: one that is being created is destroyed as soon as that is done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
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

/// Standard streams that nobody is attached to at the moment.
struct Streams(Mutex<Vec<(StdioStream, Stream)>>);

/// A standard stream, ready to be carried.
pub(crate) enum Stream {
    /// Bytes for the process.
    In(Input),
    /// Bytes from the process.
    Out(Output),
}

/// Where bytes for a process go.
pub(crate) struct Input {
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What has arrived and is still to be written.
    pub(crate) unwritten: BytesMut,
}

/// Where bytes of a process come from.
pub(crate) struct Output {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What was read and is still to be sent.
    pub(crate) unsent: BytesMut,
}

/// A standard stream that somebody carries. Goes back when dropped, so that the next one can go on with it.
pub(crate) struct Lent {
    /// There until it is used up.
    stream: Option<Stream>,
    /// Does not keep a container that is destroyed.
    owner: Weak<Running>,
    process: Option<ProcessId>,
    which: StdioStream,
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
        let streams = Streams::new(container.first_process().take_io());
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
        let streams = Streams::new(process.take_io());
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

    /// Takes a standard stream of a process, the first one if not named. Whoever has it gives it back, unless it is used up.
    pub(crate) fn take_stream(
        self: &Arc<Self>,
        process: Option<&ProcessId>,
        which: StdioStream,
    ) -> Option<Lent> {
        let stream = match process {
            None => self.streams.take(which),
            Some(id) => self.process(id).ok()?.streams.take(which),
        };
        Some(Lent {
            stream: Some(stream?),
            owner: Arc::downgrade(self),
            process: process.cloned(),
            which,
        })
    }

    fn put_back(&self, process: Option<&ProcessId>, which: StdioStream, stream: Stream) {
        match process {
            None => self.streams.put(which, stream),
            Some(id) => {
                if let Ok(process) = self.process(id) {
                    process.streams.put(which, stream);
                }
            }
        }
    }
}

impl Streams {
    fn new(io: ProcessIo) -> Self {
        let output = |reader| {
            Stream::Out(Output {
                reader,
                unsent: BytesMut::new(),
            })
        };
        let input = |writer| {
            Stream::In(Input {
                writer,
                unwritten: BytesMut::new(),
            })
        };
        let streams = [
            (StdioStream::Stdin, io.stdin.map(input)),
            (StdioStream::Stdout, io.stdout.map(output)),
            (StdioStream::Stderr, io.stderr.map(output)),
        ];
        let there = streams.into_iter();
        Self(Mutex::new(
            there
                .filter_map(|(which, stream)| Some((which, stream?)))
                .collect(),
        ))
    }

    fn list(&self) -> MutexGuard<'_, Vec<(StdioStream, Stream)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, which: StdioStream) -> Option<Stream> {
        let mut list = self.list();
        let index = list.iter().position(|(name, _)| *name == which)?;
        Some(list.swap_remove(index).1)
    }

    fn put(&self, which: StdioStream, stream: Stream) {
        self.list().push((which, stream));
    }
}

impl Lent {
    /// The stream, to be used in place.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        self.stream
            .as_mut()
            .expect("it is taken by `use_up` alone, which consumes this")
    }

    /// Closes the stream for good.
    pub(crate) fn use_up(mut self) {
        self.stream = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A container that is destroyed meanwhile needs no streams.
        if let (Some(stream), Some(owner)) = (self.stream.take(), self.owner.upgrade()) {
            owner.put_back(self.process.as_ref(), self.which, stream);
        }
    }
}
