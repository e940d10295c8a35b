//! What containers, nodes and tunnels share of their location: the link there is now, and what was heard over it.
//!
//! ```text
//!        ┌────────── continued ──────────┐
//!        ▼                               │
//!   ──▶ live ── the link has ended ──▶ away ──▶ ended
//!        └────────── for good ───────────────────▲
//! ```
//!
//! A link goes on by itself after a lost connection. A location that was killed and started again does not know the link
//! any more, but it knows the session: it is continued on a new link then. Tunnelled connections that were open have ended, standard
//! streams are opened again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::ids::{ContainerId, NodeId, ProcessId, SessionId};
use crate::link::{
    Budget, CallError, CloseReason, Closed, ConnectError, ConnectOptions, Dial, Inbound, Incoming,
    Link, Malformed, PendingNotice, Status, connect,
};
use crate::progress::{Progress, Step};
use crate::protocol::container::Exit;
use crate::protocol::handshake::Refusal;
use crate::protocol::messages::{
    Call, ContainerBack, ContainerEnded, Continue, Destroy, ListNodes, NodeChanged, NodeInfo,
    NodeLeft, Notice, ProcessEnded, UnpackProgress,
};

/// First and longest wait between two attempts to continue the session.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A session at a location.
pub(super) struct Shared {
    current: watch::Sender<Current>,
    status: watch::Sender<Status>,
    /// For how long the location keeps it while there is no connection.
    pub(super) linger: Duration,
    /// What standard inputs may hold while the location is away.
    pub(super) budget: Budget,
    tables: Mutex<Tables>,
    /// What goes on by itself, for as long as somebody is in the session.
    tasks: Mutex<JoinSet<()>>,
}

/// The link that the session is on.
enum Current {
    Live(Link),
    /// There is none at the moment.
    Away,
    Ended(CloseReason),
}

#[derive(Default)]
struct Tables {
    nodes: HashMap<NodeId, NodeInfo>,
    exits: HashMap<(ContainerId, Option<ProcessId>), watch::Sender<Option<Exit>>>,
    /// How often each container was out of reach and has come back.
    returns: HashMap<ContainerId, watch::Sender<u64>>,
    unpacking: HashMap<ContainerId, Weak<dyn Progress>>,
}

impl Shared {
    /// A session on its first link.
    pub(super) fn new(link: Link) -> Arc<Self> {
        Arc::new(Self {
            linger: link.linger(),
            current: watch::Sender::new(Current::Live(link)),
            status: watch::Sender::new(Status::Up),
            budget: Budget::default(),
            tables: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// Has something go on by itself. It must not keep the session.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link, as soon as there is one that is connected: what is sent on one that is not is lost if it does not come back.
    ///
    /// # Errors
    ///
    /// When the session has ended.
    pub(super) async fn link(&self) -> Result<Link, Closed> {
        loop {
            let link = self.last_link().await?;
            let mut status = link.status();
            let settled = status.wait_for(|status| !matches!(status, Status::Down { .. }));
            match settled.await.as_deref() {
                Ok(Status::Closed(_)) => {}
                _ => return Ok(link),
            }
            self.left(&link).await;
        }
    }

    /// The link, as soon as there is one, connected or not.
    async fn last_link(&self) -> Result<Link, Closed> {
        let mut current = self.current.subscribe();
        let current = current.wait_for(|current| !matches!(current, Current::Away));
        // The sender is ours, so there is always a next value to wait for.
        match current.await.as_deref() {
            Ok(Current::Live(link)) => Ok(link.clone()),
            Ok(Current::Ended(reason)) => Err(Closed(*reason)),
            Ok(Current::Away) | Err(_) => Err(Closed(CloseReason::Clean)),
        }
    }

    /// Asks the location. What becomes of the call when the link ends meanwhile is not known.
    ///
    /// # Errors
    ///
    /// When it refuses, or the link ends.
    pub(super) async fn call<C: Call>(&self, call: &C) -> Result<C::Reply, CallError> {
        self.link().await?.call(call).await
    }

    /// Asks the location something that can be asked twice, and so is asked again on the next link if need be.
    ///
    /// # Errors
    ///
    /// When it refuses, or the session ends.
    pub(super) async fn repeat<C: Call>(&self, call: &C) -> Result<C::Reply, CallError> {
        loop {
            let link = self.link().await?;
            match link.call(call).await {
                Err(CallError::Closed(_)) => self.left(&link).await,
                answered => return answered,
            }
        }
    }

    /// Waits until the session has noticed that a link has ended.
    pub(super) async fn left(&self, link: &Link) {
        let mut current = self.current.subscribe();
        let left = |current: &Current| !matches!(current, Current::Live(live) if live.is(link));
        let _ = current.wait_for(left).await;
    }

    /// How the connection is, now and from now on.
    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits for the end of the session.
    pub(super) async fn ended(&self) -> CloseReason {
        let mut current = self.current.subscribe();
        let ended = current.wait_for(|current| matches!(current, Current::Ended(_)));
        match ended.await.as_deref() {
            Ok(Current::Ended(reason)) => *reason,
            _ => CloseReason::Clean,
        }
    }

    /// Ends the session on purpose.
    pub(super) async fn close(&self) {
        let link = match &*self.current.borrow() {
            Current::Live(link) => Some(link.clone()),
            _ => None,
        };
        match link {
            Some(link) => link.close().await,
            None => self.end(CloseReason::Clean),
        }
    }

    /// The nodes there are now.
    pub(super) fn nodes(&self) -> Vec<NodeInfo> {
        self.tables().nodes.values().cloned().collect()
    }

    /// Takes over what nodes the location says there are.
    pub(super) fn set_nodes(&self, nodes: Vec<NodeInfo>) {
        let nodes = nodes.into_iter().map(|node| (node.id.clone(), node));
        self.tables().nodes = nodes.collect();
    }

    /// Where the end of a process will be told; the first process of a container if not named.
    pub(super) fn expect_exit(
        &self,
        container: &ContainerId,
        process: Option<&ProcessId>,
    ) -> watch::Receiver<Option<Exit>> {
        let key = (container.clone(), process.cloned());
        self.tables()
            .exits
            .entry(key)
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe()
    }

    /// Counts how often the container has come back after it was out of reach. Ends when it is destroyed.
    pub(super) fn returns(&self, container: &ContainerId) -> watch::Receiver<u64> {
        self.tables()
            .returns
            .entry(container.clone())
            .or_default()
            .subscribe()
    }

    /// Nobody will ask for this container any more.
    pub(super) fn forget(&self, container: &ContainerId) {
        let mut tables = self.tables();
        tables.exits.retain(|(id, _), _| id != container);
        tables.returns.remove(container);
        tables.unpacking.remove(container);
    }

    /// Reports on the unpacking of a container's layers go there.
    pub(super) fn expect_unpacking(&self, container: &ContainerId, progress: &Arc<dyn Progress>) {
        self.tables()
            .unpacking
            .insert(container.clone(), Arc::downgrade(progress));
    }

    /// Containers that have not ended, as far as it is known here.
    fn running(&self) -> HashSet<ContainerId> {
        let tables = self.tables();
        let running = tables.exits.iter();
        let running =
            running.filter(|((_, process), exit)| process.is_none() && exit.borrow().is_none());
        running
            .map(|((container, _), _)| container.clone())
            .collect()
    }

    fn exited(&self, container: ContainerId, process: Option<ProcessId>, exit: Exit) {
        if let Some(sender) = self.tables().exits.get(&(container, process)) {
            sender.send_if_modified(|known| {
                let news = known.is_none();
                if news {
                    *known = Some(exit);
                }
                news
            });
        }
    }

    /// Processes have ended without anybody having seen how.
    fn lost(&self, which: impl Fn(&ContainerId, Option<&ProcessId>) -> bool, why: &str) {
        let lost: Vec<_> = {
            let tables = self.tables();
            let lost = tables.exits.keys();
            let lost = lost.filter(|(container, process)| which(container, process.as_ref()));
            lost.cloned().collect()
        };
        for (container, process) in lost {
            self.exited(container, process, Exit::Lost(why.to_owned()));
        }
    }

    fn came_back(&self, container: &ContainerId) {
        if let Some(returns) = self.tables().returns.get(container) {
            returns.send_modify(|count| *count += 1);
        }
    }

    fn heard(&self, notice: &PendingNotice) -> Result<(), Malformed> {
        match notice.kind() {
            NodeChanged::KIND => {
                let NodeChanged { node } = notice.decode()?;
                self.tables().nodes.insert(node.id.clone(), node);
            }
            NodeLeft::KIND => {
                let NodeLeft { node } = notice.decode()?;
                self.tables().nodes.remove(&node);
            }
            ContainerEnded::KIND => {
                let ContainerEnded { container, exit } = notice.decode()?;
                self.exited(container, None, exit);
            }
            ProcessEnded::KIND => {
                let ProcessEnded {
                    container,
                    process,
                    exit,
                } = notice.decode()?;
                self.exited(container, Some(process), exit);
            }
            ContainerBack::KIND => {
                let ContainerBack {
                    container,
                    processes_ended,
                } = notice.decode()?;
                if processes_ended {
                    let why = "it ended with the program that runs its node";
                    self.lost(|id, process| *id == container && process.is_some(), why);
                }
                self.came_back(&container);
            }
            UnpackProgress::KIND => {
                let UnpackProgress {
                    container,
                    layer,
                    done,
                } = notice.decode()?;
                let progress = self
                    .tables()
                    .unpacking
                    .get(&container)
                    .and_then(Weak::upgrade);
                if let Some(progress) = progress {
                    progress.report(Step::LayerUnpacked { layer, done });
                }
            }
            other => tracing::debug!("the location sent an unknown notice {other}"),
        }
        Ok(())
    }

    /// Ends the session: everything that ran in it has ended.
    fn end(&self, reason: CloseReason) {
        self.current.send_replace(Current::Ended(reason));
        self.status.send_replace(Status::Closed(reason));
        self.lost(|_, _| true, &format!("the session has ended: {reason}"));
    }
}

/// Keeps a session: reads what the location tells, and goes on with it on another link when the location has been started
/// anew.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) options: ConnectOptions,
}

impl Keeper {
    /// Keeps the session, which is on `link`, to its end.
    pub(super) async fn run(self, mut link: Link, mut incoming: Incoming) {
        let reason = loop {
            match self.read(&link, incoming).await {
                // What answers there is the location, and it does not know the link.
                CloseReason::Refused(Refusal::SessionGone) => {}
                reason => break reason,
            }
            self.shared.current.send_replace(Current::Away);
            let continued = tokio::select! {
                continued = self.resume(&link) => continued,
                reason = self.shared.ended() => Err(reason),
            };
            (link, incoming) = match continued {
                Ok(continued) => continued,
                Err(reason) => break reason,
            };
        };
        self.shared.end(reason);
    }

    /// Reads what the location tells, until the link has ended.
    async fn read(&self, link: &Link, mut incoming: Incoming) -> CloseReason {
        let mut status = link.status();
        loop {
            let inbound = tokio::select! {
                inbound = incoming.next() => inbound,
                changed = status.changed() => {
                    let now = *status.borrow_and_update();
                    // Whether that is the end of the session is still to be seen.
                    if changed.is_ok() && !matches!(now, Status::Closed(_)) {
                        self.shared.status.send_replace(now);
                    }
                    continue;
                }
            };
            match inbound {
                None => return link.closed().await,
                Some(Inbound::Notice(notice)) => {
                    if let Err(malformed) = self.shared.heard(&notice) {
                        tracing::warn!("the location sent what cannot be read: {malformed}");
                    }
                }
                Some(Inbound::Call(call)) => call.unknown(),
                Some(Inbound::Stream(_)) => {}
            }
        }
    }

    /// Goes on with the session on a new link, for as long as the location keeps sessions.
    async fn resume(&self, former: &Link) -> Result<(Link, Incoming), CloseReason> {
        let since = std::time::Instant::now();
        self.shared.status.send_if_modified(|status| {
            let up = matches!(status, Status::Up);
            if up {
                *status = Status::Down { since };
            }
            up
        });
        let deadline = Instant::now() + former.linger();
        // A link on which nothing was answered may have become the session's all the same.
        let mut names = vec![former.session().clone()];
        let mut wait = FIRST_WAIT;
        while let Ok(attempt) = timeout_at(deadline, self.attempt(&mut names)).await {
            match attempt {
                Ok(connected) => return Ok(connected),
                Err(Setback::ForGood(reason)) => return Err(reason),
                Err(Setback::ForNow) => {}
            }
            if Instant::now() + wait >= deadline {
                break;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        Err(CloseReason::Expired)
    }

    async fn attempt(&self, names: &mut Vec<SessionId>) -> Result<(Link, Incoming), Setback> {
        let gone = CloseReason::Refused(Refusal::SessionGone);
        let connected = connect(Arc::clone(&self.dial), self.options.clone()).await;
        let (link, incoming) = connected.map_err(|error| match error {
            ConnectError::Rejected | ConnectError::Version { .. } => Setback::ForGood(gone),
            error => {
                tracing::debug!(%error, "cannot connect again yet");
                Setback::ForNow
            }
        })?;
        let running = self.shared.running();
        let mut there = None;
        for session in names.iter().cloned() {
            match link.call(&Continue { session }).await {
                Ok(containers) => there = Some(containers),
                Err(CallError::Closed(_)) => {
                    names.push(link.session().clone());
                    return Err(Setback::ForNow);
                }
                Err(_) => {}
            }
        }
        // There may have been nothing to keep.
        if there.is_none() && !running.is_empty() {
            link.close().await;
            return Err(Setback::ForGood(gone));
        }
        let there: HashSet<_> = there.unwrap_or_default().into_iter().collect();
        let nodes = link.call(&ListNodes {}).await;
        self.shared.set_nodes(nodes.map_err(|_| Setback::ForNow)?);
        self.shared
            .current
            .send_replace(Current::Live(link.clone()));
        self.shared.status.send_replace(Status::Up);
        let missing = |id: &ContainerId| running.contains(id) && !there.contains(id);
        self.shared
            .lost(|id, _| missing(id), "the location has lost it");
        for container in there {
            if self
                .shared
                .tables()
                .exits
                .contains_key(&(container.clone(), None))
            {
                self.shared.came_back(&container);
            } else {
                // Whoever asked for it was told that it failed.
                let link = link.clone();
                tokio::spawn(async move { link.call(&Destroy { container }).await });
            }
        }
        Ok((link, incoming))
    }
}

/// Why the session does not go on.
enum Setback {
    ForNow,
    ForGood(CloseReason),
}
