//! What a location that was killed finds of itself when it is started again, and how clients and nodes come back to it.
//!
//! ```text
//! ledger ── recover ──▶ orphans ──┬── reconcile (their node is back, and says what it still has)
//!                                 ├── take_over (their client is back, on a link of its own)
//!                                 └── free_orphans (nobody came in time)
//! ```
//!
//! Links do not survive, and what was on its way in a tunnelled connection is lost. Containers do, and sessions, by their names.
//! So do standard streams, for which client and node keep what the other has not acknowledged; the location knows nothing of that.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, Event, Placement, Session, Tables, Unheard};
use super::db::DbError;
use crate::ids::{ContainerId, NodeId, SessionId, UserId};
use crate::protocol::container::Exit;
use crate::protocol::messages::{Fault, FaultCode, Holding};

/// Where what a node has differs from what is placed on it.
pub(super) struct Differences {
    /// Placed there, and gone.
    pub(super) missing: Vec<ContainerId>,
    /// There, and nobody's.
    pub(super) surplus: Vec<ContainerId>,
}

impl Unheard {
    /// Keeps what a client has to hear of when it comes back.
    pub(super) fn note(&mut self, event: Event) {
        match event {
            Event::ContainerEnded(_, exit) => self.exit = self.exit.take().or(Some(exit)),
            Event::ContainerBack(_, processes_ended) => self.processes_ended |= processes_ended,
            // Further processes are known to their client alone, which asks for streams that are not there.
            _ => {}
        }
    }
}

impl Tables {
    /// Compares what is placed on a node with what it says it has. Tells the owners of what is gone, and those of what is
    /// back.
    pub(super) fn reconcile(&mut self, node: &NodeId, holding: &Holding) -> Differences {
        let held: HashSet<&ContainerId> = holding.containers.iter().collect();
        let placed = self.select(|placement| placement.node == *node);
        let (back, missing): (Vec<_>, Vec<_>) =
            placed.into_iter().partition(|id| held.contains(id));
        for container in &missing {
            let exit = Exit::Lost("its node has gone".to_owned());
            let event = Event::ContainerEnded(container.clone(), exit);
            self.notify_owner(node, container, event);
            // The owner of an orphan has still to hear of it.
            if self
                .containers
                .get(container)
                .is_some_and(|found| !found.orphan)
            {
                self.containers.remove(container);
            }
        }
        for container in &back {
            let event = Event::ContainerBack(container.clone(), holding.adopted);
            self.notify_owner(node, container, event);
        }
        let back: HashSet<&ContainerId> = back.iter().collect();
        let surplus = holding.containers.iter();
        let surplus = surplus.filter(|id| !back.contains(id)).cloned().collect();
        Differences { missing, surplus }
    }
}

impl Broker {
    /// Finds the containers of a location that was killed. They wait for their clients and nodes.
    ///
    /// # Errors
    ///
    /// When what is written down cannot be read.
    pub(super) async fn recover(&self) -> Result<usize, DbError> {
        let records = self.ledger.records().await?;
        let count = records.len();
        for record in records {
            // Without its layers it can run on, and not be moved or started again, which nobody does.
            let taken = self.images().take(&record.user, record.image).await.ok();
            let (layers, held) = match taken {
                Some((image, held)) => {
                    let layers = image.layers.iter().map(|layer| layer.digest);
                    (layers.collect(), Some(held))
                }
                None => (BTreeSet::new(), None),
            };
            let container = record.container.clone();
            let limits = self.images().limits();
            let room = limits.recovered(&record.user, record.memory);
            let placement = Placement::orphan(record, layers, held, room);
            self.tables().containers.insert(container, placement);
        }
        Ok(count)
    }

    /// Waits for as long as clients may be away, or until the location is to end, and destroys the orphans that nobody has
    /// come for.
    pub(super) async fn free_orphans(&self, linger: Duration, ending: &CancellationToken) {
        let _ = timeout(linger, ending.cancelled()).await;
        let (orphans, lost) = {
            let mut tables = self.tables();
            let orphans = tables.select(|placement| placement.orphan);
            let nodes: HashSet<NodeId> = tables.nodes.keys().cloned().collect();
            // Their client is back, and their node is not.
            let absent: BTreeSet<NodeId> = tables
                .containers
                .values()
                .map(|placement| placement.node.clone())
                .filter(|node| !nodes.contains(node))
                .collect();
            let mut lost = Vec::new();
            for node in absent {
                lost.extend(tables.reconcile(&node, &Holding::default()).missing);
            }
            (orphans, lost)
        };
        if !orphans.is_empty() {
            tracing::info!(
                "containers are freed, whose clients did not come back: {}",
                orphans.len()
            );
        }
        self.strike(lost);
        self.destroy_all(orphans).await;
    }

    /// Destroys the orphans of a user who is not one any more.
    pub(super) async fn free_orphans_of(&self, user: &UserId) {
        let orphans = self
            .tables()
            .select(|placement| placement.orphan && placement.user == *user);
        self.destroy_all(orphans).await;
    }
}

impl Session {
    /// Takes over what a session of the same user owned before the location was started. Tells the client what it has
    /// missed, and answers what there is.
    pub(crate) async fn take_over(&self, former: SessionId) -> Result<Vec<ContainerId>, Fault> {
        let taken = {
            let mut tables = self.broker().tables();
            let taken = tables.select(|placement| {
                placement.orphan && placement.session == former && placement.user == *self.user()
            });
            for container in &taken {
                let Some(placement) = tables.containers.get_mut(container) else {
                    continue;
                };
                placement.orphan = false;
                placement.session = self.id().clone();
                let (node, unheard) = (
                    placement.node.clone(),
                    std::mem::take(&mut placement.unheard),
                );
                if unheard.processes_ended {
                    let event = Event::ContainerBack(container.clone(), true);
                    tables.notify_owner(&node, container, event);
                }
                if let Some(exit) = unheard.exit {
                    let event = Event::ContainerEnded(container.clone(), exit);
                    tables.notify_owner(&node, container, event);
                }
            }
            taken
        };
        if taken.is_empty() {
            let text = format!("there is no session {former} to go on with");
            return Err(Fault::new(FaultCode::NotFound, text));
        }
        let ledger = &self.broker().ledger;
        if let Err(error) = ledger.hand_over(former, self.id().clone()).await {
            // They run. Only if the location is killed once more is nobody found for them, and they are freed.
            tracing::warn!("a session that goes on is written down as it was: {error}");
        }
        Ok(taken)
    }
}
