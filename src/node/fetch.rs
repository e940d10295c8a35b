//! Layers on their way from the location to the engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::engine::Engine;
use super::fault;
use crate::ids::{ContainerId, Digest};
use crate::link::{Link, chunks};
use crate::protocol::image::Layer;
use crate::protocol::messages::{Fault, FaultCode, StreamHeader, UnpackProgress};

/// Layers that are fetched and unpacked at the same time.
const PARALLEL: usize = 3;

/// Reports of progress are this far apart, in bytes of the uncompressed tar.
const PROGRESS_STEP: u64 = 4 * 1024 * 1024;

/// Brings every layer that the engine lacks from the location.
pub(crate) async fn layers(
    link: &Link,
    engine: &dyn Engine,
    container: &ContainerId,
    layers: &[Layer],
) -> Result<(), Fault> {
    let missing: BTreeSet<Digest> = layers
        .iter()
        .map(|layer| layer.digest)
        .filter(|layer| !engine.has_layer(layer))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (progress, mut reports) = mpsc::channel(16);
    let fetching = async move {
        let progress = &progress;
        stream::iter(missing)
            .map(|layer| one(link, engine, layer, progress.clone()))
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await
    };
    let reporting = async {
        while let Some((layer, done)) = reports.recv().await {
            let report = UnpackProgress {
                container: container.clone(),
                layer,
                done,
            };
            if link.notify(&report).await.is_err() {
                return;
            }
        }
    };
    let (fetched, ()) = tokio::join!(fetching, reporting);
    fetched
}

async fn one(
    link: &Link,
    engine: &dyn Engine,
    layer: Digest,
    progress: mpsc::Sender<(Digest, u64)>,
) -> Result<(), Fault> {
    let gone = |closed| {
        Fault::new(
            FaultCode::NoNode,
            format!("the location has gone: {closed}"),
        )
    };
    let stream = link
        .open(&StreamHeader::Fetch { layer })
        .await
        .map_err(gone)?;
    let reported = Arc::new(AtomicU64::new(0));
    let report = move |done: u64| {
        if done >= reported.load(Ordering::Relaxed) + PROGRESS_STEP {
            reported.store(done, Ordering::Relaxed);
            // Nobody misses a report that finds no room.
            let _ = progress.try_send((layer, done));
        }
    };
    engine
        .add_layer(layer, Box::new(chunks::reader(stream)), Box::new(report))
        .await
        .map_err(|error| fault(&error))
}
