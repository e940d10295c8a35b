//! A client's stay at the location: what it starts, reaches and ends.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Broker, Placement, Unheard, call_node};
use crate::ids::{ContainerId, Digest, NodeId, SessionId, UserId};
use crate::link::Link;
use crate::location::cache::Pins;
use crate::location::layers::Held;
use crate::location::ledger::Record;
use crate::location::limits::Room;
use crate::location::now;
use crate::protocol::container::ContainerSpec;
use crate::protocol::image::Description;
use crate::protocol::messages::{
    ContainerInfo, Create, Destroy, Fault, FaultCode, Signal, Spawned,
};

/// How long a call waits for a node that is expected back.
const RETURN_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of the signal that nothing survives.
const SIGKILL: u8 = 9;

/// A client's stay at the location. What it owns lives until [`Session::end`].
pub(crate) struct Session {
    id: SessionId,
    user: UserId,
    broker: Broker,
    /// Images that it is about to use.
    pins: Pins,
}

impl Session {
    pub(super) fn new(id: SessionId, user: UserId, broker: Broker) -> Self {
        let pins = broker.images.pinned().of(&user);
        Self {
            id,
            user,
            broker,
            pins,
        }
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
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
        let memory = spec.limits.memory;
        let room = self
            .broker
            .images
            .limits()
            .container(&self.user, memory)
            .await?;
        let (node, link) = self.place(&container, node, &image, held, room)?;
        self.pins.unpin(image.id);
        let created = async {
            self.write_down(&container, &node, image.id, memory).await?;
            let create = Create {
                container: container.clone(),
                image,
                spec,
            };
            call_node(&link, &create).await
        };
        match created.await {
            Ok(started) => Ok(Spawned { node, started }),
            Err(fault) => {
                self.broker.tables().containers.remove(&container);
                self.broker.ledger.strike(vec![container]).await;
                Err(fault)
            }
        }
    }

    /// Writes a container down, before there is one.
    async fn write_down(
        &self,
        container: &ContainerId,
        node: &NodeId,
        image: Digest,
        memory: Option<u64>,
    ) -> Result<(), Fault> {
        let record = Record {
            container: container.clone(),
            session: self.id.clone(),
            user: self.user.clone(),
            node: node.clone(),
            image,
            since: now(),
            memory: memory.unwrap_or(0),
        };
        Ok(self.broker.ledger.enter(record).await?)
    }

    /// Chooses a node and records the placement, so that the container is found and freed from now on.
    fn place(
        &self,
        container: &ContainerId,
        node: Option<NodeId>,
        image: &Description,
        held: Held,
        room: Room,
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
        let found = tables.nodes.get(&node).ok_or_else(none)?;
        if found.is_away() {
            let text = "the connection to that node is lost at the moment";
            return Err(Fault::new(FaultCode::NoNode, text));
        }
        let link = found.link.clone();
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
            _held: Some(held),
            _room: room,
            orphan: false,
            unheard: Unheard::default(),
        };
        tables.containers.insert(container.clone(), placement);
        Ok((node, link))
    }

    /// The node that runs this session's container; waits for one that is expected back. Other sessions' containers look
    /// like ones that do not exist.
    pub(crate) async fn node_of(&self, container: &ContainerId) -> Result<Link, Fault> {
        let mut arrivals = self.broker.node_count();
        let deadline = Instant::now() + RETURN_TIMEOUT;
        loop {
            {
                let tables = self.broker.tables();
                let placement = tables.containers.get(container);
                let placement = placement.filter(|placement| placement.session == self.id);
                let placement = placement.ok_or_else(|| {
                    Fault::new(
                        FaultCode::NotFound,
                        format!("there is no container {container}"),
                    )
                })?;
                if let Some(node) = tables.nodes.get(&placement.node) {
                    return Ok(node.link.clone());
                }
            }
            // The sender is part of the broker, which this session has.
            if timeout_at(deadline, arrivals.changed()).await.is_err() {
                let text = "the container's node is not connected";
                return Err(Fault::new(FaultCode::NoNode, text));
            }
        }
    }

    /// Destroys a container of this session.
    pub(crate) async fn destroy(&self, container: ContainerId) -> Result<(), Fault> {
        let node = self.node_of(&container).await?;
        call_node(
            &node,
            &Destroy {
                container: container.clone(),
            },
        )
        .await?;
        self.broker.tables().containers.remove(&container);
        self.broker.ledger.strike(vec![container]).await;
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
    /// other end. Nothing is the beginning of every name, and is not taken for one: it is what a script has in a variable that
    /// it did not set.
    pub(crate) async fn stop(&self, prefix: &str) -> Result<ContainerId, Fault> {
        if prefix.is_empty() {
            let text = "an empty id names no container: `tf ps` shows those there are";
            return Err(Fault::new(FaultCode::Malformed, text));
        }
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
            let node = node.filter(|node| !node.is_away());
            let node = node.ok_or_else(|| {
                let text = "the container's node is not connected: if it does not come back in time, the container ends with it";
                Fault::new(FaultCode::NoNode, text)
            })?;
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
        let owned = {
            let mut tables = self.broker.tables();
            tables.sessions.remove(&self.id);
            tables.select(|placement| placement.session == self.id)
        };
        self.broker.destroy_all(owned).await;
    }
}
