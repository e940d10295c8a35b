//! Who owns what, and where it runs: the heart of a location.
//!
//! Sessions own containers, nodes run them, and the broker knows the one for the other. It is independent of how
//! clients talk to the location: a front end opens a session, calls the functions here on its behalf, and passes on the
//! [`Event`]s that come out.
//!
//! ```text
//! front end ── open ──▶ Session ── spawn ──▶ placement ──▶ node
//!     ▲                    │                    │
//!     └────── Event ───────┴──── end: everything it owned is destroyed on the nodes
//! ```

mod room;
mod session;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::room::{LOAD_WINDOW, room};
pub(crate) use self::session::Session;
use super::images::Images;
use super::layers::Held;
use super::ledger::{Ledger, Record};
use super::limits::Room;
use super::now;
use crate::ids::{ContainerId, Digest, NodeId, ProcessId, SessionId, UserId};
use crate::link::{CallError, Link, Status};
use crate::protocol::container::Exit;
use crate::protocol::messages::{
    Call, Destroy, DropLayers, Fault, FaultCode, Holding, NodeInfo, SessionInfo,
};

/// How many events may wait for a front end that does not read them. A client that lets more pile up is gone or hostile.
const EVENT_BACKLOG: usize = 1024;

/// How long a node may take to destroy a container whose session has ended.
const DESTROY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many containers a node is asked to destroy at a time that it should not have.
const SURPLUS_AT_ONCE: usize = 16;

/// Something that a session's client should hear of.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    NodeChanged(NodeInfo),
    NodeLeft(NodeId),
    ContainerEnded(ContainerId, Exit),
    ProcessEnded(ContainerId, ProcessId, Exit),
    UnpackProgress(ContainerId, Digest, u64),
    /// The container's node is back; whether the further processes have ended meanwhile.
    ContainerBack(ContainerId, bool),
}

/// Knows sessions, nodes and containers. Clones are the same broker.
#[derive(Clone)]
pub(crate) struct Broker {
    images: Images,
    pub(super) ledger: Ledger,
    tables: Arc<Mutex<Tables>>,
    node_count: watch::Sender<usize>,
}

#[derive(Default)]
pub(super) struct Tables {
    pub(super) sessions: HashMap<SessionId, Client>,
    pub(super) nodes: HashMap<NodeId, Node>,
    pub(super) containers: HashMap<ContainerId, Placement>,
}

/// A session as the broker sees it.
pub(super) struct Client {
    pub(super) user: UserId,
    agent: String,
    since: u64,
    events: mpsc::Sender<Event>,
}

pub(super) struct Node {
    pub(super) link: Link,
    info: NodeInfo,
}

impl Node {
    /// Whether its connection is lost. It may come back, and what it runs is not given up until its link ends; but whoever
    /// asked it for something would wait for it.
    pub(super) fn is_away(&self) -> bool {
        matches!(*self.link.status().borrow(), Status::Down { .. })
    }
}

/// Where a container runs, and for whom.
pub(super) struct Placement {
    pub(super) session: SessionId,
    pub(super) user: UserId,
    pub(super) node: NodeId,
    image: Digest,
    since: u64,
    layers: BTreeSet<Digest>,
    /// Keeps the layers in the store, for nodes that have still to fetch them.
    _held: Option<Held>,
    /// What it takes of the user's limits.
    _room: Room,
    /// From before this location was started, its session not yet continued.
    pub(super) orphan: bool,
    /// What the client has not heard of while there was no session.
    pub(super) unheard: Unheard,
}

/// What has become of an orphan.
#[derive(Default)]
pub(super) struct Unheard {
    pub(super) exit: Option<Exit>,
    pub(super) processes_ended: bool,
}

impl Placement {
    /// One that was written down by a location that was killed.
    pub(super) fn orphan(
        record: Record,
        layers: BTreeSet<Digest>,
        held: Option<Held>,
        room: Room,
    ) -> Self {
        Self {
            session: record.session,
            user: record.user,
            node: record.node,
            image: record.image,
            since: record.since,
            layers,
            _held: held,
            _room: room,
            orphan: true,
            unheard: Unheard::default(),
        }
    }
}

impl Broker {
    pub(crate) fn new(images: Images, ledger: Ledger) -> Self {
        Self {
            images,
            ledger,
            tables: Arc::default(),
            node_count: watch::Sender::new(0),
        }
    }

    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session, which is called as its client knows it. Its events come out of the receiver, which closes if the front
    /// end does not keep up with them.
    pub(crate) fn open_session(
        &self,
        id: SessionId,
        user: UserId,
        agent: String,
    ) -> (Session, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENT_BACKLOG);
        let client = Client {
            user: user.clone(),
            agent,
            since: now(),
            events,
        };
        self.tables().sessions.insert(id.clone(), client);
        (Session::new(id, user, self.clone()), receiver)
    }

    /// All sessions, the oldest first.
    pub(crate) fn sessions(&self) -> Vec<SessionInfo> {
        let tables = self.tables();
        let mut sessions: Vec<SessionInfo> = tables
            .sessions
            .iter()
            .map(|(id, client)| {
                let owned = tables
                    .containers
                    .values()
                    .filter(|placement| placement.session == *id)
                    .count();
                SessionInfo {
                    id: id.clone(),
                    user: client.user.clone(),
                    agent: client.agent.clone(),
                    since: client.since,
                    containers: u32::try_from(owned).unwrap_or(u32::MAX),
                }
            })
            .collect();
        sessions.sort_by(|a, b| a.since.cmp(&b.since).then_with(|| a.id.cmp(&b.id)));
        sessions
    }

    /// A node has come, and has said what it is and which containers it has from before. Others that are placed on it are
    /// gone, and those that it should not have are to go.
    pub(crate) fn node_arrived(&self, link: &Link, info: NodeInfo, holding: &Holding) {
        let id = info.id.clone();
        let (former, lost) = {
            let mut tables = self.tables();
            let node = Node {
                link: link.clone(),
                info: info.clone(),
            };
            let former = tables.nodes.insert(id.clone(), node);
            let lost = tables.reconcile(&id, holding);
            tables.broadcast(&Event::NodeChanged(info));
            self.node_count.send_replace(tables.nodes.len());
            (former, lost)
        };
        self.strike(lost.missing);
        if !lost.surplus.is_empty() {
            let count = lost.surplus.len();
            tracing::info!("containers of node {id} that belong to no session any more: {count}");
            tokio::spawn(destroy_surplus(link.clone(), lost.surplus));
        }
        if let Some(former) = former {
            // Nobody has to wait for a peer that is gone in all probability.
            tokio::spawn(async move { former.link.close().await });
        }
    }

    /// Strikes containers out of the written list, in the background.
    pub(super) fn strike(&self, containers: Vec<ContainerId>) {
        if !containers.is_empty() {
            let ledger = self.ledger.clone();
            tokio::spawn(async move { ledger.strike(containers).await });
        }
    }

    /// A node has said what it is now.
    pub(crate) fn node_changed(&self, link: &Link, info: NodeInfo) {
        let mut tables = self.tables();
        let Some(node) = tables.nodes.get_mut(&info.id) else {
            return;
        };
        if node.link.is(link) {
            node.info = info.clone();
            tables.broadcast(&Event::NodeChanged(info));
        }
    }

    /// The connection to a node is lost or back. Clients do not count on a node meanwhile.
    pub(crate) fn node_wavered(&self, link: &Link, id: &NodeId) {
        let mut tables = self.tables();
        let Some(node) = tables.nodes.get(id).filter(|node| node.link.is(link)) else {
            return;
        };
        let event = if node.is_away() {
            tracing::warn!(
                "the connection to node {id} is lost: nothing is placed on it until it is back"
            );
            Event::NodeLeft(id.clone())
        } else {
            tracing::info!("the connection to node {id} is back");
            Event::NodeChanged(node.info.clone())
        };
        tables.broadcast(&event);
    }

    /// How many nodes there are, now and from now on.
    pub(crate) fn node_count(&self) -> watch::Receiver<usize> {
        self.node_count.subscribe()
    }

    /// The link to a node has ended. Unless the node has come again on another one, it is gone, and so is what ran on it.
    pub(crate) fn node_left(&self, link: &Link, id: &NodeId) {
        let mut tables = self.tables();
        if !tables.nodes.get(id).is_some_and(|node| node.link.is(link)) {
            return;
        }
        tables.nodes.remove(id);
        let lost = tables.reconcile(id, &Holding::default());
        self.strike(lost.missing);
        tables.broadcast(&Event::NodeLeft(id.clone()));
        self.node_count.send_replace(tables.nodes.len());
    }

    /// Passes on what a node says of a container, if the container is there and on that node.
    pub(crate) fn node_reports(&self, node: &NodeId, container: &ContainerId, event: Event) {
        self.tables().notify_owner(node, container, event);
    }

    /// Whether a container that was placed on the node is made of this layer: the layers that a node may fetch.
    pub(crate) fn node_needs(&self, node: &NodeId, layer: &Digest) -> bool {
        self.tables()
            .containers
            .values()
            .any(|placement| placement.node == *node && placement.layers.contains(layer))
    }

    /// All nodes that are connected, the one with most room first.
    pub(crate) fn ranked_nodes(&self) -> Vec<NodeInfo> {
        let tables = self.tables();
        let mut recent: HashMap<&NodeId, u32> = HashMap::new();
        let unseen = now().saturating_sub(LOAD_WINDOW.as_secs());
        for placement in tables.containers.values() {
            if placement.since > unseen {
                *recent.entry(&placement.node).or_default() += 1;
            }
        }
        let here = tables.nodes.values().filter(|node| !node.is_away());
        let mut nodes: Vec<(f64, NodeInfo)> = here
            .map(|node| {
                let recent = recent.get(&node.info.id).copied().unwrap_or(0);
                (room(&node.info, recent), node.info.clone())
            })
            .collect();
        nodes.sort_by(|(a, first), (b, second)| {
            b.total_cmp(a).then_with(|| first.id.cmp(&second.id))
        });
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    /// Destroys containers whose session has ended. Returns when that is done, or a node fails to do it in time.
    pub(super) async fn destroy_all(&self, containers: Vec<ContainerId>) {
        if containers.is_empty() {
            return;
        }
        let mut destroying = JoinSet::new();
        {
            let tables = self.tables();
            for container in &containers {
                let placement = tables.containers.get(container);
                // What ran on a node that is not here is gone, or will be when the node comes back with it.
                if let Some(node) = placement.and_then(|found| tables.nodes.get(&found.node)) {
                    let (link, container) = (node.link.clone(), container.clone());
                    destroying.spawn(async move {
                        let message = Destroy { container };
                        let result = call_node(&link, &message).await;
                        (message.container, result)
                    });
                }
            }
        }
        let all = async {
            while let Some(destroyed) = destroying.join_next().await {
                if let Ok((container, Err(fault))) = destroyed {
                    tracing::warn!("container {container} of a session that has ended: {fault}");
                }
            }
        };
        if timeout(DESTROY_TIMEOUT, all).await.is_err() {
            tracing::warn!(
                "a node takes longer than {DESTROY_TIMEOUT:?} to destroy the containers of a session"
            );
        }
        {
            let mut tables = self.tables();
            for container in &containers {
                tables.containers.remove(container);
            }
        }
        self.ledger.strike(containers).await;
    }

    /// Tells all nodes to forget layers. One that cannot be told now frees the space when it starts again or runs short of
    /// it.
    pub(crate) async fn drop_layers(&self, layers: Vec<Digest>) {
        let links: Vec<Link> = self
            .tables()
            .nodes
            .values()
            .filter(|node| !node.is_away())
            .map(|node| node.link.clone())
            .collect();
        let message = DropLayers { layers };
        let telling = links.iter().map(async |link| {
            if let Err(error) = link.call(&message).await {
                tracing::warn!("a node keeps layers that were removed: {error}");
            }
        });
        join_all(telling).await;
    }
}

/// Destroys what a node should not have. It may say that there is very much, and never answer.
async fn destroy_surplus(node: Link, containers: Vec<ContainerId>) {
    stream::iter(containers)
        .for_each_concurrent(SURPLUS_AT_ONCE, async |container| {
            // A node that cannot be told is not there any more.
            let _ = call_node(&node, &Destroy { container }).await;
        })
        .await;
}

impl Tables {
    /// Containers by what is known of them.
    pub(super) fn select(&self, wanted: impl Fn(&Placement) -> bool) -> Vec<ContainerId> {
        let matching = self.containers.iter();
        let matching = matching.filter(|(_, placement)| wanted(placement));
        matching.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn send(&mut self, session: &SessionId, event: Event) {
        let Some(Client { events, .. }) = self.sessions.get(session) else {
            return;
        };
        // Progress is worth nothing to somebody who is behind; everything else must arrive or end the session.
        let dispensable = matches!(event, Event::UnpackProgress(..) | Event::NodeChanged(_));
        if dispensable && events.capacity() < EVENT_BACKLOG / 2 {
            return;
        }
        if events.try_send(event).is_err() {
            self.sessions.remove(session);
        }
    }

    fn broadcast(&mut self, event: &Event) {
        for session in self.sessions.keys().cloned().collect::<Vec<_>>() {
            self.send(&session, event.clone());
        }
    }

    pub(super) fn notify_owner(&mut self, node: &NodeId, container: &ContainerId, event: Event) {
        let Some(placement) = self.containers.get_mut(container) else {
            return;
        };
        if placement.node != *node {
            return;
        }
        if placement.orphan {
            return placement.unheard.note(event);
        }
        let session = placement.session.clone();
        self.send(&session, event);
    }
}

/// Calls a node. That it is gone is the caller's fault to report, not the end of anything.
pub(crate) async fn call_node<C: Call>(node: &Link, call: &C) -> Result<C::Reply, Fault> {
    node.call(call).await.map_err(|error| match error {
        CallError::Fault(fault) => fault,
        CallError::Closed(_) => Fault::new(FaultCode::NoNode, "the container's node has gone"),
        CallError::TooLong(_) => Fault::new(FaultCode::LimitReached, error.to_string()),
        CallError::Malformed(_) => Fault::new(
            FaultCode::Internal,
            format!("the container's node: {error}"),
        ),
    })
}
