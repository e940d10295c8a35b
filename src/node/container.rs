//! One container on a node, from the first thought of it to its end.
//!
//! ```text
//! creating ──▶ ready ──▶ gone
//!     └──── failed ────────▲
//! ```
//!
//! A container can be destroyed in any state: one that is being created is destroyed as soon as that is done.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::engine::{Container, Process, ProcessIo, Program};
use crate::ids::ProcessId;
use crate::link::{Receiving, Sending};
use crate::protocol::container::StdioStream;
use crate::protocol::messages::{Fault, FaultCode};

/// How many further processes of a container there can be at a time, and how many that have ended are remembered: each takes
/// some of the descriptors that the node shares among all containers.
const MOST_FURTHER: usize = 512;

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

/// Whose work a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Of this process.
    Made,
    /// Of an earlier one, which has carried its streams until then.
    Adopted,
}

/// A container that was made.
pub(crate) struct Running {
    pub(crate) container: Box<dyn Container>,
    /// What its first process was started with.
    pub(crate) program: Program,
    processes: Mutex<Processes>,
    streams: Streams,
}

/// The further processes of a container.
#[derive(Default)]
struct Processes {
    /// Nothing yet for one that is being started.
    table: HashMap<ProcessId, Option<Arc<Further>>>,
    /// Those in the table that have ended, the first to end first.
    ended: VecDeque<ProcessId>,
}

/// The place of a further process that is being started. It is free again when this is dropped.
pub(crate) struct Place<'a> {
    running: &'a Running,
    id: Option<ProcessId>,
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
    /// How much has arrived.
    pub(crate) receiving: Receiving,
}

/// Where bytes of a process come from.
pub(crate) struct Output {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What was read, and the client has still to get.
    pub(crate) sending: Sending,
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
    pub(crate) fn fill(
        self,
        container: Box<dyn Container>,
        program: Program,
        origin: Origin,
    ) -> Arc<Running> {
        let streams = Streams::new(container.first_process().take_io(), origin);
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
    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a further process.
    pub(crate) fn place(&self, id: ProcessId) -> Result<Place<'_>, Fault> {
        let mut processes = self.processes();
        if processes.table.contains_key(&id) {
            let text = format!("the container has a process {id} already");
            return Err(Fault::new(FaultCode::Malformed, text));
        }
        if processes.table.len() - processes.ended.len() >= MOST_FURTHER {
            let text = format!(
                "the container has {MOST_FURTHER} further processes, which is as many as there can be: end one"
            );
            return Err(Fault::new(FaultCode::LimitReached, text));
        }
        processes.table.insert(id.clone(), None);
        Ok(Place {
            running: self,
            id: Some(id),
        })
    }

    /// A further process by its name.
    pub(crate) fn process(&self, id: &ProcessId) -> Result<Arc<Further>, Fault> {
        let process = self.processes().table.get(id).cloned().flatten();
        process.ok_or_else(|| {
            Fault::new(
                FaultCode::NotFound,
                format!("the container has no process {id}"),
            )
        })
    }

    /// A further process has ended. Its output stays to be taken for a while, unless very many end.
    pub(crate) fn process_ended(&self, id: ProcessId) {
        let oldest = {
            let mut processes = self.processes();
            processes.ended.push_back(id);
            if processes.ended.len() <= MOST_FURTHER {
                return;
            }
            let oldest = processes.ended.pop_front();
            oldest.and_then(|oldest| processes.table.remove(&oldest))
        };
        drop(oldest);
    }

    /// Forgets a further process that has ended.
    pub(crate) fn forget_process(&self, id: &ProcessId) {
        let forgotten = {
            let mut processes = self.processes();
            let ended = processes.ended.iter().position(|ended| ended == id);
            // Else it was forgotten before, and another may be called the same by now.
            ended.and_then(|place| {
                processes.ended.remove(place);
                processes.table.remove(id)
            })
        };
        drop(forgotten);
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

impl Place<'_> {
    /// Puts the process there.
    pub(crate) fn fill(mut self, process: Box<dyn Process>) -> Arc<Further> {
        let streams = Streams::new(process.take_io(), Origin::Made);
        let further = Arc::new(Further { process, streams });
        if let Some(id) = self.id.take() {
            let mut processes = self.running.processes();
            processes.table.insert(id, Some(Arc::clone(&further)));
        }
        further
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.running.processes().table.remove(&id);
        }
    }
}

impl Streams {
    fn new(io: ProcessIo, origin: Origin) -> Self {
        let output = |reader| {
            Stream::Out(Output {
                reader,
                sending: match origin {
                    Origin::Made => Sending::new(),
                    Origin::Adopted => Sending::continued(),
                },
            })
        };
        let input = |writer| {
            Stream::In(Input {
                writer,
                unwritten: BytesMut::new(),
                receiving: match origin {
                    Origin::Made => Receiving::new(),
                    Origin::Adopted => Receiving::continued(),
                },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ContainerId;
    use crate::node::engine::fake::FakeEngine;
    use crate::node::engine::{Engine, Spec};
    use crate::protocol::container::{Limits, Stdio};

    fn sleeping() -> Program {
        Program {
            args: vec!["sleep".to_owned()],
            ..Program::default()
        }
    }

    async fn running(engine: &FakeEngine) -> Arc<Running> {
        let spec = Spec {
            id: ContainerId::random(),
            layers: vec![],
            files: vec![],
            program: sleeping(),
            stdio: Stdio::default(),
            limits: Limits::default(),
        };
        let container = engine.create(spec).await.expect("created");
        let (slot, filler) = Slot::new();
        filler.fill(container, sleeping(), Origin::Made);
        slot.ready().expect("ready")
    }

    async fn start(running: &Running, id: &ProcessId) -> Result<(), Fault> {
        let place = running.place(id.clone())?;
        let process = running.container.exec(sleeping(), Stdio::default());
        place.fill(process.await.expect("started"));
        Ok(())
    }

    #[tokio::test]
    async fn further_processes_and_what_is_kept_of_them_are_bounded() {
        let engine = FakeEngine::new();
        let running = running(&engine).await;
        let names: Vec<_> = (0..MOST_FURTHER).map(|_| ProcessId::random()).collect();
        for name in &names {
            start(&running, name).await.expect("there is room");
        }
        let fault = start(&running, &names[0]).await.expect_err("it is there");
        assert_eq!(fault.code, FaultCode::Malformed);
        let next = ProcessId::random();
        let fault = start(&running, &next).await.expect_err("too many");
        assert_eq!(fault.code, FaultCode::LimitReached);
        for name in &names {
            running.process_ended(name.clone());
        }
        running.process(&names[0]).expect("its output can be taken");
        start(&running, &next).await.expect("there is room again");
        running.process_ended(next.clone());
        assert!(running.process(&names[0]).is_err());
        running.process(&names[1]).expect("not the oldest");
        running.forget_process(&next);
        assert!(running.process(&next).is_err());
    }

    #[tokio::test]
    async fn a_process_that_could_not_be_started_takes_no_place() {
        let engine = FakeEngine::new();
        let running = running(&engine).await;
        let name = ProcessId::random();
        drop(running.place(name.clone()).expect("there is room"));
        start(&running, &name).await.expect("there is room");
    }
}
