//! A container that outlives its engine: what is written down of it, and how the next engine goes on with it.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, oneshot};

use super::super::cgroups;
use super::super::client::Shim;
use super::super::control::{Problem, Status};
use super::super::custody::Keep;
use super::super::explain::explain;
use super::super::ids::Ranges;
use super::super::layers::Store;
use super::super::process::{LinuxProcess, MemoryLimit};
use super::{Inner, LinuxContainer, Traces, Workshop, network_namespace};
use crate::ids::{ContainerId, Digest};
use crate::node::engine::{Adopted, EngineError, Program};

/// What the next engine needs to know of a container. See [`VERSION`](super::super::custody::VERSION).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Record {
    /// Its name.
    pub(in super::super) id: ContainerId,
    /// What its first process is started with.
    pub(in super::super) program: Program,
    /// Its layers, the lowest first.
    pub(in super::super) layers: Vec<Digest>,
    /// First of its user and group ids.
    pub(in super::super) first_id: u32,
    /// Its address.
    pub(in super::super) ip: Ipv4Addr,
    /// The number of its network interface.
    pub(in super::super) interface: u32,
    /// Whether its memory is limited.
    pub(in super::super) memory_limited: bool,
}

/// A container that a shim has kept, to be made one of ours.
pub(in super::super) struct Restoring {
    /// What is known of it.
    pub(in super::super) record: Record,
    /// How its first process ended, if it had when it was handed over.
    pub(in super::super) status: Option<Status>,
    /// How that ends, else.
    pub(in super::super) ended: oneshot::Receiver<Status>,
    /// What its first process is connected to.
    pub(in super::super) kept: Vec<Option<OwnedFd>>,
}

impl LinuxContainer {
    /// Goes on with a container of an engine that has died.
    pub(in super::super) fn restore(
        workshop: &Arc<Workshop>,
        restoring: Restoring,
        store: &Store,
        ranges: &Arc<Ranges>,
    ) -> Result<Adopted, EngineError> {
        let Restoring {
            record,
            status,
            ended,
            kept,
        } = restoring;
        let name = record.id.as_str().to_owned();
        let cgroup = cgroups::container(workshop.slot, &name);
        let ids = ranges.take_again(record.first_id).ok_or_else(|| {
            EngineError::InUse(format!("the range of user ids from {}", record.first_id))
        })?;
        // The shim holds them, too, so they are there.
        let layers = store.hold(&record.layers)?;
        let limit = record.memory_limited.then(|| MemoryLimit {
            hierarchies: Arc::clone(&workshop.hierarchies),
            cgroup: cgroup.clone(),
        });
        // Of one that runs, a process that was killed before was not the first.
        let counted = limit.clone().map(|limit| match status {
            Some(_) => (0, limit),
            None => (limit.kills(), limit),
        });
        let closing = |place| workshop.shim.closing(&name, place);
        let first = LinuxProcess::restore(kept, ended, counted, closing)
            .map_err(|problem| explain(problem, &workshop.state))?;
        // One that has ended has no network any more, nor needs it.
        let attachment = match network_namespace(first.pidfd()) {
            Ok(netns) if status.is_none() => {
                let (ip, interface) = (record.ip, record.interface);
                Some(workshop.network.reattach(ip, interface, netns)?)
            }
            _ => None,
        };
        let container = Self(Arc::new(Inner {
            workshop: Arc::clone(workshop),
            first,
            ip: record.ip,
            cgroup: cgroup.clone(),
            limit,
            attachment: Mutex::new(attachment.map(Arc::new)),
            traces: Mutex::new(Some(Traces {
                name,
                cgroup,
                _resources: Some((ids, layers)),
            })),
            destroyed: OnceCell::new(),
        }));
        Ok(Adopted {
            id: record.id,
            program: record.program,
            container: Box::new(container),
        })
    }
}

/// Has a lasting shim keep something for the next engine.
pub(in super::super) async fn keep(
    shim: &Shim,
    name: &str,
    process: Option<i32>,
    layers: Vec<PathBuf>,
    record: &impl Serialize,
    descriptors: Vec<Option<OwnedFd>>,
) -> Result<(), Problem> {
    let mut bytes = Vec::new();
    ciborium::into_writer(record, &mut bytes)
        .map_err(|error| Problem::Other(format!("cannot write a record: {error}")))?;
    let keep = Keep {
        name: name.to_owned(),
        process,
        layers,
        present: descriptors.iter().map(Option::is_some).collect(),
        record: bytes.into(),
    };
    let descriptors: Vec<_> = descriptors.into_iter().flatten().collect();
    shim.keep(keep, &descriptors).await
}
