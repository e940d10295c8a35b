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

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::images::Images;
use super::layers::Held;
use super::now;
use crate::ids::{ContainerId, Digest, NodeId, ProcessId, SessionId, UserId};
use crate::link::{CallError, Link};
use crate::protocol::container::{ContainerSpec, Exit};
use crate::protocol::image::Description;
use crate::protocol::messages::{
    Call, ContainerInfo, Create, Destroy, DropLayers, Fault, FaultCode, NodeInfo, SessionInfo,
    Signal, Spawned,
};

/// How many events may wait for a front end that does not read them. A client that lets more pile up is gone or hostile.
const EVENT_BACKLOG: usize = 1024;

/// How long a node may take to destroy a container whose session has ended.
const DESTROY_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of the signal that nothing survives.
const SIGKILL: u8 = 9;

/// Something that a session's client should hear of.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    NodeChanged(NodeInfo),
    NodeLeft(NodeId),
    ContainerEnded(ContainerId, Exit),
    ProcessEnded(ContainerId, ProcessId, Exit),
    UnpackProgress(ContainerId, Digest, u64),
}

/// Knows sessions, nodes and containers. Clones are the same broker.
#[derive(Clone)]
pub(crate) struct Broker {
    images: Images,
    tables: Arc<Mutex<Tables>>,
    node_count: watch::Sender<usize>,
}

#[derive(Default)]
struct Tables {
    sessions: HashMap<SessionId, Client>,
    nodes: HashMap<NodeId, Node>,
    containers: HashMap<ContainerId, Placement>,
}

/// A session as the broker sees it.
struct Client {
    user: UserId,
    agent: String,
    since: u64,
    events: mpsc::Sender<Event>,
}

struct Node {
    link: Link,
    info: NodeInfo,
}

/// Where a container runs, and for whom.
struct Placement {
    session: SessionId,
    user: UserId,
    node: NodeId,
    image: Digest,
    since: u64,
    layers: BTreeSet<Digest>,
    /// Keeps the layers in the store, for nodes that have still to fetch them.
    _held: Held,
}

/// A client's stay at the location. What it owns lives until [`Session::end`].
pub(crate) struct Session {
    id: SessionId,
    user: UserId,
    broker: Broker,
}

impl Broker {
    pub(crate) fn new(images: Images) -> Self {
        Self {
            images,
            tables: Arc::default(),
            node_count: watch::Sender::new(0),
        }
    }

    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session. Its events come out of the receiver, which closes if the front end does not keep up with them.
    pub(crate) fn open_session(
        &self,
        user: UserId,
        agent: String,
    ) -> (Session, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENT_BACKLOG);
        let id = SessionId::random();
        let client = Client {
            user: user.clone(),
            agent,
            since: now(),
            events,
        };
        self.tables().sessions.insert(id.clone(), client);
        (
            Session {
                id,
                user,
                broker: self.clone(),
            },
            receiver,
        )
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

    /// A node has come, and has said what it is. If it was here before, on a link that has not ended yet, what ran on it
    /// then is gone.
    pub(crate) fn node_arrived(&self, link: &Link, info: NodeInfo) {
        let former = {
            let mut tables = self.tables();
            let id = info.id.clone();
            let node = Node {
                link: link.clone(),
                info: info.clone(),
            };
            let former = tables.nodes.insert(id.clone(), node);
            if former.is_some() {
                tables.lose_containers(&id);
            }
            tables.broadcast(&Event::NodeChanged(info));
            self.node_count.send_replace(tables.nodes.len());
            former
        };
        if let Some(former) = former {
            // Nobody has to wait for a peer that is gone in all probability.
            tokio::spawn(async move { former.link.close().await });
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
        tables.lose_containers(id);
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

    /// All nodes, the one with most room first.
    pub(crate) fn ranked_nodes(&self) -> Vec<NodeInfo> {
        let mut nodes: Vec<NodeInfo> = self
            .tables()
            .nodes
            .values()
            .map(|node| node.info.clone())
            .collect();
        nodes.sort_by(|a, b| room(b).total_cmp(&room(a)).then_with(|| a.id.cmp(&b.id)));
        nodes
    }

    /// Tells all nodes to forget layers.
    pub(crate) async fn drop_layers(&self, layers: Vec<Digest>) {
        let links: Vec<Link> = self
            .tables()
            .nodes
            .values()
            .map(|node| node.link.clone())
            .collect();
        for link in links {
            // A node that cannot be told now frees the space when it starts again or runs short of it.
            if let Err(error) = link
                .call(&DropLayers {
                    layers: layers.clone(),
                })
                .await
            {
                tracing::warn!("a node keeps layers that were removed: {error}");
            }
        }
    }
}

/// How much room a node has: the free share of its processors and of its memory together, from 0 to 2.
fn room(node: &NodeInfo) -> f64 {
    let share = |free: f64, all: f64| {
        if all > 0.0 {
            (free / all).clamp(0.0, 1.0)
        } else {
            0.0
        }
    };
    let cpus = f64::from(node.cpus);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ranking needs no single bytes"
    )]
    let memory = share(node.memory_free as f64, node.memory as f64);
    share(cpus - f64::from(node.load), cpus) + memory
}

impl Tables {
    fn send(&mut self, session: &SessionId, event: Event) {
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

    /// Tells the owners of what ran on a node that it is gone.
    fn lose_containers(&mut self, node: &NodeId) {
        let lost: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(_, placement)| placement.node == *node)
            .map(|(id, _)| id.clone())
            .collect();
        for container in lost {
            let exit = Exit::Lost("its node has gone".to_owned());
            let event = Event::ContainerEnded(container.clone(), exit);
            self.notify_owner(node, &container, event);
            self.containers.remove(&container);
        }
    }

    fn broadcast(&mut self, event: &Event) {
        for session in self.sessions.keys().cloned().collect::<Vec<_>>() {
            self.send(&session, event.clone());
        }
    }

    fn notify_owner(&mut self, node: &NodeId, container: &ContainerId, event: Event) {
        if let Some(placement) = self
            .containers
            .get(container)
            .filter(|placement| placement.node == *node)
        {
            let session = placement.session.clone();
            self.send(&session, event);
        }
    }
}

impl Session {
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// Starts a container on `node`, or on the node with most room.
    pub(crate) async fn spawn(
        &self,
        container: ContainerId,
        node: Option<NodeId>,
        image: Digest,
        spec: ContainerSpec,
    ) -> Result<Spawned, Fault> {
        let (image, held) = self.broker.images.take(&self.user, image).await?;
        let (node, link) = self.place(&container, node, &image, held)?;
        match call_node(
            &link,
            &Create {
                container: container.clone(),
                image,
                spec,
            },
        )
        .await
        {
            Ok(started) => Ok(Spawned { node, started }),
            Err(fault) => {
                self.broker.tables().containers.remove(&container);
                Err(fault)
            }
        }
    }

    /// Chooses a node and records the placement, so that the container is found and freed from now on.
    fn place(
        &self,
        container: &ContainerId,
        node: Option<NodeId>,
        image: &Description,
        held: Held,
    ) -> Result<(NodeId, Link), Fault> {
        let none = || Fault::new(FaultCode::NoNode, "the location has no such node");
        let node = match node {
            Some(node) => node,
            None => {
                self.broker
                    .ranked_nodes()
                    .into_iter()
                    .next()
                    .ok_or_else(none)?
                    .id
            }
        };
        let mut tables = self.broker.tables();
        let link = tables.nodes.get(&node).ok_or_else(none)?.link.clone();
        if tables.containers.contains_key(container) {
            return Err(Fault::new(
                FaultCode::Malformed,
                format!("there is a container {container} already"),
            ));
        }
        let placement = Placement {
            session: self.id.clone(),
            user: self.user.clone(),
            node: node.clone(),
            image: image.id,
            since: now(),
            layers: image.layers.iter().map(|layer| layer.digest).collect(),
            _held: held,
        };
        tables.containers.insert(container.clone(), placement);
        Ok((node, link))
    }

    /// The node that runs this session's container. Other sessions' containers look like ones that do not exist.
    pub(crate) fn node_of(&self, container: &ContainerId) -> Result<Link, Fault> {
        let tables = self.broker.tables();
        tables
            .containers
            .get(container)
            .filter(|placement| placement.session == self.id)
            .and_then(|placement| tables.nodes.get(&placement.node))
            .map(|node| node.link.clone())
            .ok_or_else(|| {
                Fault::new(
                    FaultCode::NotFound,
                    format!("there is no container {container}"),
                )
            })
    }

    /// Destroys a container of this session.
    pub(crate) async fn destroy(&self, container: ContainerId) -> Result<(), Fault> {
        let node = self.node_of(&container)?;
        call_node(
            &node,
            &Destroy {
                container: container.clone(),
            },
        )
        .await?;
        self.broker.tables().containers.remove(&container);
        Ok(())
    }

    /// The user's containers, of all sessions, the oldest first.
    pub(crate) fn containers(&self) -> Vec<ContainerInfo> {
        let tables = self.broker.tables();
        let mut containers: Vec<ContainerInfo> = tables
            .containers
            .iter()
            .filter(|(_, placement)| placement.user == self.user)
            .map(|(id, placement)| ContainerInfo {
                id: id.clone(),
                image: placement.image,
                image_name: None,
                node: placement.node.clone(),
                hostname: tables
                    .nodes
                    .get(&placement.node)
                    .map(|node| node.info.hostname.clone())
                    .unwrap_or_default(),
                session: placement.session.clone(),
                since: placement.since,
            })
            .collect();
        containers.sort_by(|a, b| a.since.cmp(&b.since).then_with(|| a.id.cmp(&b.id)));
        containers
    }

    /// Ends the user's container whose name begins with `prefix`, of whichever session. Its owner hears of it as of any
    /// other end.
    pub(crate) async fn stop(&self, prefix: &str) -> Result<ContainerId, Fault> {
        let (id, link) = {
            let tables = self.broker.tables();
            let mut matching = tables.containers.iter().filter(|(id, placement)| {
                placement.user == self.user && id.as_str().starts_with(prefix)
            });
            let (id, placement) = matching.next().ok_or_else(|| {
                Fault::new(
                    FaultCode::NotFound,
                    format!("there is no container `{prefix}`: `tf ps` shows those there are"),
                )
            })?;
            if matching.next().is_some() {
                let text = format!(
                    "`{prefix}` is the start of more than one container's name: give more of it"
                );
                return Err(Fault::new(FaultCode::Malformed, text));
            }
            let node = tables.nodes.get(&placement.node);
            let node =
                node.ok_or_else(|| Fault::new(FaultCode::NoNode, "the container's node has gone"))?;
            (id.clone(), node.link.clone())
        };
        let kill = Signal {
            container: id.clone(),
            process: None,
            signal: SIGKILL,
        };
        call_node(&link, &kill).await?;
        Ok(id)
    }

    /// Ends the session and destroys all it owns. Returns when that is done, or a node fails to do it in time.
    pub(crate) async fn end(&self) {
        let mut destroying = JoinSet::new();
        {
            let mut tables = self.broker.tables();
            tables.sessions.remove(&self.id);
            let owned: Vec<(ContainerId, NodeId)> = tables
                .containers
                .iter()
                .filter(|(_, placement)| placement.session == self.id)
                .map(|(id, placement)| (id.clone(), placement.node.clone()))
                .collect();
            for (container, node) in owned {
                if let Some(node) = tables.nodes.get(&node) {
                    let (link, message) = (
                        node.link.clone(),
                        Destroy {
                            container: container.clone(),
                        },
                    );
                    destroying.spawn(async move {
                        (message.container.clone(), call_node(&link, &message).await)
                    });
                } else {
                    tables.containers.remove(&container);
                }
            }
        }
        let all = async {
            while let Some(destroyed) = destroying.join_next().await {
                let Ok((container, result)) = destroyed else {
                    continue;
                };
                if let Err(fault) = result {
                    tracing::warn!("container {container} of a session that has ended: {fault}");
                }
                self.broker.tables().containers.remove(&container);
            }
        };
        if tokio::time::timeout(DESTROY_TIMEOUT, all).await.is_err() {
            tracing::warn!(
                "a node takes longer than {DESTROY_TIMEOUT:?} to destroy the containers of a session"
            );
        }
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
