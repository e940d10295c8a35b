//! What an engine does with the containers of the one before: makes those its own that were whole, and clears away the rest.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::client::Shim;
use super::container::{self, LinuxContainer, Record, Restoring, Traces, Workshop};
use super::control::Status;
use super::custody::{ENGINE, Kept};
use super::explain::explain;
use super::network::{Legacy, Network};
use super::takeover::{Heritage, end};
use super::{LinuxEngine, cgroups, instance, locked, network};
use crate::node::engine::{Adopted, EngineError};

impl LinuxEngine {
    /// Goes on with what an engine has left that has died. Of a failure no process is left.
    pub(super) async fn resume(&self, heritage: Heritage) -> Result<Arc<Workshop>, EngineError> {
        let mut unfinished = Unfinished {
            shim: Some(Arc::clone(&heritage.pidfd)),
            workshop: None,
        };
        let resumed = self.try_resume(heritage, &mut unfinished).await;
        match &resumed {
            Ok(_) => unfinished.shim = None,
            Err(_) => {
                // The only error is that the runtime ends, and the process with it.
                let _ = tokio::task::spawn_blocking(move || drop(unfinished)).await;
            }
        }
        resumed
    }

    async fn try_resume(
        &self,
        heritage: Heritage,
        unfinished: &mut Unfinished,
    ) -> Result<Arc<Workshop>, EngineError> {
        let (engine, containers): (Vec<_>, Vec<_>) = heritage
            .items
            .into_iter()
            .partition(|(kept, _)| kept.name == ENGINE);
        let (kept, descriptors) = engine.into_iter().next().ok_or_else(incomplete)?;
        let legacy: Legacy = read(&kept)?;
        let mut descriptors = descriptors.into_iter();
        let netns = descriptors.next().flatten().ok_or_else(incomplete)?;
        let filter = descriptors.next().flatten();
        let network = Network::resume(heritage.slot, &legacy, netns, filter)?;

        let living: Vec<_> = containers
            .iter()
            .filter(|(kept, _)| kept.status.is_none())
            .filter_map(|(kept, _)| kept.process)
            .collect();
        let (shim, ends) = Shim::resume(heritage.socket, heritage.pidfd, &living)
            .map_err(|problem| explain(problem, &self.state))?;
        if let Some(lease) = self.lease {
            shim.set_lease(lease)
                .await
                .map_err(|problem| explain(problem, &self.state))?;
        }
        let rooms = self.rooms().map_err(|source| self.set_up_failed(source))?;
        let workshop = self.furnish(shim, network, rooms)?;
        unfinished.workshop = Some(Arc::clone(&workshop));

        let mut ends = ends.into_iter();
        let mut names = BTreeSet::new();
        let mut interfaces = Vec::new();
        let mut adopted = Vec::new();
        for (kept, descriptors) in containers {
            let ended = match kept.status {
                Some(status) => already(status),
                None => ends.next().ok_or_else(incomplete)?,
            };
            match self.restore(&workshop, &kept, descriptors, ended) {
                Ok((container, interface)) => {
                    names.insert(kept.name);
                    interfaces.extend(interface);
                    adopted.push(container);
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        container = kept.name,
                        "a container that an earlier process has left is ended"
                    );
                }
            }
        }
        workshop.network.retain(interfaces).await?;
        clear_others(&workshop, &names).await;
        *locked(&self.adopted) = adopted;
        Ok(workshop)
    }

    /// Makes a container one of ours. Returns it with the number of its network interface, if it still has one.
    fn restore(
        &self,
        workshop: &Arc<Workshop>,
        kept: &Kept,
        descriptors: Vec<Option<OwnedFd>>,
        ended: oneshot::Receiver<Status>,
    ) -> Result<(Adopted, Option<u32>), EngineError> {
        let record: Record = read(kept)?;
        let interface = record.interface;
        let restoring = Restoring {
            record,
            status: kept.status,
            ended,
            kept: descriptors,
        };
        let adopted = LinuxContainer::restore(workshop, restoring, &self.store, &self.ranges)?;
        Ok((adopted, kept.status.is_none().then_some(interface)))
    }

    /// Removes what was in our place, whose processes have ended, so that it can be set up anew.
    pub(super) async fn sweep_own(&self) -> Result<(), EngineError> {
        let instance = Arc::clone(&self.instance);
        let swept = tokio::task::spawn_blocking(move || {
            instance.clear_containers()?;
            network::sweep(instance.slot())?;
            instance.make_directory()
        });
        swept.await.unwrap_or_else(|error| {
            Err(EngineError::Failed {
                step: "sweep what an earlier process has left".to_owned(),
                source: io::Error::other(error),
            })
        })
    }
}

/// Ends a shim, and waits for that, when whoever takes it over gives up in the middle: its place is needed, and nobody else
/// would get it whole. Blocks.
struct Unfinished {
    /// Stands for it, until that is no longer needed.
    shim: Option<Arc<OwnedFd>>,
    /// What works with it already. Containers that are being dropped have it, too, for a little longer.
    workshop: Option<Arc<Workshop>>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(shim) = &self.shim else { return };
        end(shim);
        if let Some(workshop) = &self.workshop {
            workshop.network.end();
        }
    }
}

fn incomplete() -> EngineError {
    EngineError::Failed {
        step: "understand what was kept".to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "a part of it is missing"),
    }
}

fn read<T: DeserializeOwned>(kept: &Kept) -> Result<T, EngineError> {
    ciborium::from_reader(kept.record.as_slice()).map_err(|error| EngineError::Failed {
        step: format!("read the record of {}", kept.name),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

/// An end that has happened.
fn already(status: Status) -> oneshot::Receiver<Status> {
    let (end, ended) = oneshot::channel();
    // The receiver is there.
    let _ = end.send(status);
    ended
}

/// Clears away what there is of containers other than these: such as were only half made, or half removed.
async fn clear_others(workshop: &Arc<Workshop>, names: &BTreeSet<String>) {
    let (slot, instance) = (workshop.slot, cgroups::instance(workshop.slot));
    let mut others = workshop.hierarchies.below(&instance);
    others.extend(instance::names(&workshop.containers));
    for name in others.difference(names) {
        container::clear(workshop, Traces::of_another(slot, name.clone())).await;
        // It is not kept, or not any more.
        let _ = workshop.shim.forget(name.clone()).await;
    }
    for name in instance::names(&workshop.trash) {
        let (workshop, path) = (Arc::clone(workshop), workshop.trash.join(name));
        let removals = workshop.removals.clone();
        removals.spawn_blocking(move || {
            if let Err(error) = fs::remove_dir_all(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, directory = %path.display(), "cannot remove a container's directory");
            }
            drop(workshop);
        });
    }
}

#[cfg(test)]
mod tests;
