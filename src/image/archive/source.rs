//! Reads layers out of an archive.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::contents::StoredLayer;
use super::storage::Storage;
use crate::image::delivery::{Deliveries, MAX_LAYERS, deliver_to, no_such_layer};
use crate::image::tarball::Skip as _;
use crate::image::verified::layer_tar;
use crate::image::{LayerSink, Source};
use crate::protocol::messages::MissingLayer;

/// The layers of one image of an archive.
pub(super) struct Archive {
    storage: Arc<Storage>,
    layers: Vec<StoredLayer>,
}

impl Archive {
    pub(super) fn new(storage: Storage, layers: Vec<StoredLayer>) -> Self {
        Self {
            storage: Arc::new(storage),
            layers,
        }
    }

    /// The wanted layers with their places, each of them once.
    fn find(&self, wanted: &[MissingLayer]) -> io::Result<Vec<(StoredLayer, MissingLayer)>> {
        let mut found: Vec<(StoredLayer, MissingLayer)> = Vec::new();
        for wanted in wanted {
            let digest = wanted.layer.digest;
            if found.iter().any(|(stored, _)| stored.digest == digest) {
                continue;
            }
            let stored = self.layers.iter().find(|stored| stored.digest == digest);
            let stored = stored.ok_or_else(|| no_such_layer(&digest))?;
            found.push((stored.clone(), wanted.clone()));
        }
        Ok(found)
    }
}

impl Source for Archive {
    fn read<'a>(
        &'a self,
        wanted: &'a [MissingLayer],
        sink: &'a dyn LayerSink,
    ) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let found = self.find(wanted)?;
            if self.storage.is_sequential() {
                let storage = self.storage.clone();
                return deliver_to(sink, move |deliveries| {
                    in_order(&storage, found, deliveries)
                })
                .await;
            }
            stream::iter(found)
                .map(|(stored, wanted)| {
                    let storage = self.storage.clone();
                    deliver_to(sink, move |deliveries| {
                        let tar = storage
                            .read(&stored.part)
                            .and_then(|content| layer_tar(content, stored.blob, stored.digest));
                        deliveries.deliver(&wanted, tar)
                    })
                })
                .buffer_unordered(MAX_LAYERS)
                .try_collect()
                .await
        }
        .boxed()
    }
}

/// Reads a compressed archive from its start to the last wanted layer.
fn in_order(
    storage: &Storage,
    mut found: Vec<(StoredLayer, MissingLayer)>,
    deliveries: &Deliveries,
) -> io::Result<()> {
    found.sort_by_key(|(stored, _)| stored.part.offset);
    let mut tar = storage.sequential()?;
    let mut position = 0;
    for (stored, wanted) in found {
        let part = &stored.part;
        if part.offset < position {
            // Two layers share one part, so it has gone by.
            let content = storage.read(part)?;
            deliveries.deliver(&wanted, layer_tar(content, stored.blob, stored.digest))?;
            continue;
        }
        tar.skip(part.offset - position)?;
        let mut content = io::Read::take(&mut tar, part.size);
        deliveries.deliver(&wanted, layer_tar(&mut content, stored.blob, stored.digest))?;
        let rest = content.limit();
        tar.skip(rest)?;
        position = part.offset + part.size;
    }
    Ok(())
}
