//! The agent itself: answers its location's calls, carries the streams of containers, reports what happens.
//!
//! Containers outlive a link. When one has ended, the agent says on the next what it still has, and the location says
//! which of it is to go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::container::{Filler, Origin, Running, Slot};
use super::engine::{Adopted, Engine, EngineError, Spec};
use super::stats::{StartTimes, measure};
use super::{fault, fetch, program, stdio};
use crate::ids::ContainerId;
use crate::link::{
    Budget, Closed, Inbound, Incoming, Link, OpenedStream, PendingCall, answer, splice,
};
use crate::protocol::container::Started;
use crate::protocol::messages::{
    Call, Capacity, ContainerEnded, Create, Destroy, DropLayers, Exec, Fault, FaultCode, Holding,
    Notice, ProcessEnded, Resize, Signal, StreamHeader, WaitTcp, Wake,
};
use crate::tcp::ResetOnDrop;

/// How often the node says what it has to offer when nothing changes.
const CAPACITY_INTERVAL: Duration = Duration::from_secs(5);

/// First and longest pause between two attempts to connect to a port that nothing listens on yet.
const FIRST_RETRY: Duration = Duration::from_millis(1);
const LAST_RETRY: Duration = Duration::from_millis(50);

/// How long the output of a further process waits for somebody to take it, after its end.
const OUTPUT_KEPT: Duration = Duration::from_mins(1);

/// A node's agent.
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    state: PathBuf,
    engine: Arc<dyn Engine>,
    containers: Mutex<HashMap<ContainerId, Slot>>,
    starts: StartTimes,
    /// What the standard streams may hold for locations that are away.
    budget: Budget,
    /// The last link there was.
    link: Mutex<Option<Link>>,
    /// Its containers were made by an earlier process, and it has started no further process yet.
    adopted: AtomicBool,
    /// Wait for processes to end.
    watchers: TaskTracker,
    /// Cancelled when the agent is done.
    ended: CancellationToken,
}

impl Agent {
    /// An agent that runs containers with `engine`. Free disk space is measured where `state` is.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, state: PathBuf) -> Self {
        Self {
            shared: Arc::new(Shared {
                state,
                engine,
                link: Mutex::default(),
                containers: Mutex::default(),
                starts: StartTimes::default(),
                budget: Budget::default(),
                adopted: AtomicBool::new(false),
                watchers: TaskTracker::new(),
                ended: CancellationToken::new(),
            }),
        }
    }

    /// Takes back the containers that an earlier process has left running, and says how many those are.
    ///
    /// # Errors
    ///
    /// When the engine cannot.
    pub async fn adopt(&self) -> Result<usize, EngineError> {
        let adopted = self.shared.engine.adopt().await?;
        let count = adopted.len();
        for Adopted {
            id,
            program,
            container,
        } in adopted
        {
            let (slot, filler) = Slot::new();
            let running = filler.fill(container, program, Origin::Adopted);
            self.shared.table().insert(id.clone(), slot);
            let reporting = report_end(Arc::clone(&self.shared), id, running);
            self.shared.watchers.spawn(reporting);
        }
        self.shared.adopted.store(count > 0, Ordering::Relaxed);
        Ok(count)
    }

    /// Serves the location at the other end of `link` until it has gone or `shutdown` is cancelled. Containers run on.
    pub async fn serve(&self, link: Link, mut incoming: Incoming, shutdown: &CancellationToken) {
        let shared = &self.shared;
        *shared.link() = Some(link.clone());
        if shared.introduce(&link).await.is_err() {
            return;
        }
        let mut tasks = JoinSet::new();
        let mut capacity = tokio::time::interval(CAPACITY_INTERVAL);
        capacity.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let inbound = tokio::select! {
                () = shutdown.cancelled() => break,
                inbound = incoming.next() => inbound,
                _ = capacity.tick() => {
                    if shared.report_capacity(&link).await.is_err() {
                        break;
                    }
                    continue;
                }
                Some(_) = tasks.join_next() => continue,
            };
            let shared = Arc::clone(shared);
            match inbound {
                None => break,
                // Entered at once and in order: a `Destroy` that follows must find it.
                Some(Inbound::Call(call)) if call.kind() == Create::KIND => {
                    if let Some(creating) = shared.enter(call, link.clone()) {
                        tasks.spawn(creating);
                    }
                }
                Some(Inbound::Call(call)) => {
                    drop(tasks.spawn(async move { shared.handle(call).await }));
                }
                Some(Inbound::Stream(stream)) => {
                    drop(tasks.spawn(async move { shared.carry(stream).await }));
                }
                Some(Inbound::Notice(_)) => {}
            }
        }
        tasks.shutdown().await;
    }

    /// Destroys all containers, because the location has gone for good. The agent can serve another one.
    pub async fn free_all(&self) {
        let slots: Vec<_> = self.shared.table().drain().collect();
        let mut destroying = JoinSet::new();
        for (id, slot) in slots {
            destroying.spawn(async move {
                if let Some(running) = slot.settled().await
                    && let Err(error) = running.container.destroy().await
                {
                    tracing::warn!("container {id}, whose location has gone: {error}");
                }
            });
        }
        destroying.join_all().await;
    }

    /// Ends all containers, and the engine.
    pub async fn shutdown(self) {
        let shared = self.shared;
        shared.table().clear();
        shared.engine.shutdown().await;
        shared.ended.cancel();
        shared.watchers.close();
        shared.watchers.wait().await;
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, HashMap<ContainerId, Slot>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn container(&self, id: &ContainerId) -> Result<Arc<Running>, Fault> {
        let slot = self.table().get(id).cloned();
        slot.ok_or_else(|| Fault::new(FaultCode::NotFound, format!("there is no container {id}")))?
            .ready()
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the location, if there is one at the moment. What it misses it learns on the next link, if it is of use then.
    async fn tell<N: Notice>(&self, notice: N) {
        let link = self.link().clone();
        if let Some(link) = link {
            let _ = link.notify(&notice).await;
        }
    }

    /// Says what there is from before, and what has become of it.
    async fn introduce(&self, link: &Link) -> Result<(), Closed> {
        let containers: Vec<_> = {
            let table = self.table();
            let ready = table
                .iter()
                .filter_map(|(id, slot)| Some((id.clone(), slot.ready().ok()?)));
            ready.collect()
        };
        let names = containers.iter().map(|(id, _)| id.clone()).collect();
        let holding = Holding {
            containers: names,
            adopted: self.adopted.load(Ordering::Relaxed),
        };
        link.notify(&holding).await?;
        self.report_capacity(link).await?;
        for (container, running) in containers {
            // What ends from here on is reported on this link in any case.
            if let Some(exit) = running.container.first_process().wait().now_or_never() {
                link.notify(&ContainerEnded { container, exit }).await?;
            }
        }
        Ok(())
    }

    async fn report_capacity(&self, link: &Link) -> Result<(), Closed> {
        let containers = u32::try_from(self.table().len()).unwrap_or(u32::MAX);
        let node = measure(&self.state, containers, &self.starts);
        link.notify(&Capacity { node }).await
    }

    async fn handle(self: Arc<Self>, call: PendingCall) {
        let node = &self;
        match call.kind() {
            Wake::KIND => answer(call, async |wake: Wake| node.wake(&wake.container).await).await,
            Destroy::KIND => {
                answer(call, async |destroy: Destroy| {
                    node.destroy(&destroy.container).await
                })
                .await;
            }
            Exec::KIND => answer(call, async |exec: Exec| node.exec(exec).await).await,
            Signal::KIND => {
                answer(call, async |signal: Signal| {
                    let running = node.container(&signal.container)?;
                    let sent = match &signal.process {
                        None => {
                            running
                                .container
                                .first_process()
                                .signal(signal.signal)
                                .await
                        }
                        Some(id) => running.process(id)?.process.signal(signal.signal).await,
                    };
                    sent.map_err(|error| fault(&error))
                })
                .await;
            }
            Resize::KIND => {
                answer(call, async |resize: Resize| {
                    let running = node.container(&resize.container)?;
                    let resized = match &resize.process {
                        None => running.container.first_process().resize(resize.size),
                        Some(id) => running.process(id)?.process.resize(resize.size),
                    };
                    resized.map_err(|error| fault(&error))
                })
                .await;
            }
            WaitTcp::KIND => answer(call, async |wait: WaitTcp| node.wait_tcp(wait).await).await,
            DropLayers::KIND => {
                answer(call, async |drop: DropLayers| {
                    node.engine
                        .drop_layers(&drop.layers)
                        .await
                        .map_err(|error| fault(&error))
                })
                .await;
            }
            _ => call.unknown(),
        }
    }

    /// Enters a container that is to be made into the table, and returns the making of it.
    fn enter(
        self: Arc<Self>,
        call: PendingCall,
        link: Link,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let (create, reply) = call.decode::<Create>().ok()?;
        let (slot, filler) = Slot::new();
        let id = create.container.clone();
        {
            let mut table = self.table();
            if table.contains_key(&id) {
                reply.send(Err(Fault::new(
                    FaultCode::Malformed,
                    format!("there is a container {id} already"),
                )));
                return None;
            }
            table.insert(id, slot);
        }
        Some(async move { reply.send(self.create(create, filler, &link).await) })
    }

    async fn create(
        self: &Arc<Self>,
        create: Create,
        filler: Filler,
        link: &Link,
    ) -> Result<Started, Fault> {
        let Create {
            container: id,
            image,
            spec,
        } = create;
        // From here on the entry goes with every failure, and with the task if the location goes away.
        let entry = Entry {
            shared: self,
            id: &id,
            kept: false,
        };
        let program = program::first(&image.config, &spec)?;

        let began = Instant::now();
        fetch::layers(link, &*self.engine, &id, &image.layers).await?;
        let unpack = began.elapsed();

        let began = Instant::now();
        let made = Spec {
            id: id.clone(),
            layers: image.layers.iter().map(|layer| layer.digest).collect(),
            files: spec.files,
            program: program.clone(),
            stdio: spec.stdio,
            limits: spec.limits,
        };
        let container = self
            .engine
            .create(made)
            .await
            .map_err(|error| fault(&error))?;
        if !spec.sleep {
            container.start().await.map_err(|error| fault(&error))?;
        }
        let start = began.elapsed();
        self.starts.add(start);
        let ip = container.ip();
        let running = filler.fill(container, program, Origin::Made);
        entry.keep();
        self.watchers
            .spawn(report_end(Arc::clone(self), id, running));
        Ok(Started {
            ip,
            unpack,
            start,
            resumable: true,
        })
    }

    async fn wake(&self, id: &ContainerId) -> Result<(), Fault> {
        let running = self.container(id)?;
        if running.program.args.is_empty() {
            let text = "the image does not say what to run, and neither did who spawned it";
            return Err(Fault::new(FaultCode::BadImage, text));
        }
        running
            .container
            .start()
            .await
            .map_err(|error| fault(&error))
    }

    async fn destroy(&self, id: &ContainerId) -> Result<(), Fault> {
        let slot = self.table().remove(id);
        let slot = slot.ok_or_else(|| {
            Fault::new(FaultCode::NotFound, format!("there is no container {id}"))
        })?;
        match slot.settled().await {
            Some(running) => running
                .container
                .destroy()
                .await
                .map_err(|error| fault(&error)),
            None => Ok(()),
        }
    }

    async fn exec(self: &Arc<Self>, exec: Exec) -> Result<(), Fault> {
        // From here on, not all of them have ended with the earlier process.
        self.adopted.store(false, Ordering::Relaxed);
        let running = self.container(&exec.container)?;
        let program = program::further(&running.program, &exec.spec)?;
        let place = running.place(exec.process.clone())?;
        let process = running
            .container
            .exec(program, exec.spec.stdio)
            .await
            .map_err(|error| fault(&error))?;
        let further = place.fill(process);
        let shared = Arc::clone(self);
        // What was in a container that is destroyed is not kept for its output.
        let running = Arc::downgrade(&running);
        self.watchers.spawn(async move {
            let exit = further.process.wait().await;
            let (container, process) = (exec.container, exec.process);
            if let Some(running) = running.upgrade() {
                running.process_ended(process.clone());
            }
            let ended = ProcessEnded {
                container,
                process: process.clone(),
                exit,
            };
            shared.tell(ended).await;
            drop(further);
            let _ = tokio::time::timeout(OUTPUT_KEPT, shared.ended.cancelled()).await;
            if let Some(running) = running.upgrade() {
                running.forget_process(&process);
            }
        });
        Ok(())
    }

    /// Connects again and again until something listens, the container ends or the time is over.
    async fn wait_tcp(&self, wait: WaitTcp) -> Result<(), Fault> {
        let running = self.container(&wait.container)?;
        let mut pause = FIRST_RETRY;
        let listening = async {
            while running.container.connect(wait.port).await.is_err() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        };
        tokio::select! {
            () = listening => Ok(()),
            _ = running.container.first_process().wait() => {
                Err(Fault::new(FaultCode::NotFound, format!("the container ended before it listened on port {}", wait.port)))
            }
            () = tokio::time::sleep(wait.timeout) => {
                let text = format!("nothing in the container listened on port {} within {:?}", wait.port, wait.timeout);
                Err(Fault::new(FaultCode::TimedOut, text))
            }
        }
    }

    /// Carries one stream. Whatever fails resets it, by dropping it.
    async fn carry(&self, opened: OpenedStream) {
        let Ok((header, stream)) = opened.accept::<StreamHeader>() else {
            return;
        };
        match header {
            StreamHeader::Tunnel { container, port } => {
                let Ok(running) = self.container(&container) else {
                    return;
                };
                let Ok(connection) = running.container.connect(port).await else {
                    return;
                };
                let _ = connection.set_nodelay(true);
                let mut connection = ResetOnDrop::new(connection);
                if splice(stream, connection.stream()).await.is_ok() {
                    connection.end();
                }
            }
            StreamHeader::Stdio {
                container,
                process,
                stream: which,
                position,
            } => {
                let Ok(running) = self.container(&container) else {
                    return;
                };
                let taken = running.take_stream(process.as_ref(), which);
                // The stream must not keep a container that is destroyed.
                drop(running);
                if let Some(taken) = taken {
                    stdio::carry(stream, taken, position, &self.budget).await;
                } else {
                    tracing::debug!(
                        "{which:?} of a process in {container} is not there or was taken before"
                    );
                }
            }
            StreamHeader::Upload { .. } | StreamHeader::Fetch { .. } => {}
        }
    }
}

/// Waits for the container's end and reports it.
async fn report_end(shared: Arc<Shared>, id: ContainerId, running: Arc<Running>) {
    let exit = running.container.first_process().wait().await;
    drop(running);
    shared
        .tell(ContainerEnded {
            container: id,
            exit,
        })
        .await;
}

/// A container's entry in the table while it is being made.
struct Entry<'a> {
    shared: &'a Shared,
    id: &'a ContainerId,
    kept: bool,
}

impl Entry<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.table().remove(self.id);
        }
    }
}
