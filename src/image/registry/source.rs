//! Reads layers from a registry.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use oci_client::client::BlobResponse;

use super::{RegistryError, Repository};
use crate::ids::Digest;
use crate::image::delivery::{MAX_LAYERS, deliver_to, no_such_layer};
use crate::image::manifest::Descriptor;
use crate::image::stream::{Feeder, feed};
use crate::image::verified::layer_tar;
use crate::image::{LayerSink, Source};
use crate::protocol::messages::MissingLayer;

/// How often a download of a layer is taken up again.
const MAX_RETRIES: u32 = 4;

/// Pause before the first retry; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The layers of one image of a registry.
pub(super) struct Layers {
    repository: Arc<Repository>,
    /// Digests of the uncompressed tars, and what holds them.
    layers: Vec<(Digest, Descriptor)>,
}

impl Layers {
    pub(super) fn new(repository: Arc<Repository>, layers: Vec<(Digest, Descriptor)>) -> Self {
        Self { repository, layers }
    }

    fn find(&self, wanted: &[MissingLayer]) -> io::Result<Vec<(Descriptor, MissingLayer)>> {
        let mut found: Vec<(Descriptor, MissingLayer)> = Vec::new();
        for wanted in wanted {
            let digest = wanted.layer.digest;
            if found.iter().any(|(_, other)| other.layer.digest == digest) {
                continue;
            }
            let layer = self.layers.iter().find(|(layer, _)| *layer == digest);
            let (_, blob) = layer.ok_or_else(|| no_such_layer(&digest))?;
            found.push((blob.clone(), wanted.clone()));
        }
        Ok(found)
    }

    async fn layer(
        &self,
        blob: Descriptor,
        wanted: MissingLayer,
        sink: &dyn LayerSink,
    ) -> io::Result<()> {
        let (feeder, reader) = feed();
        let digest = wanted.layer.digest;
        // Of a layer that is not compressed, the part that is there already need not be downloaded. Its digest can then
        // only be verified by whoever has the first part, who does so.
        let start = if blob.digest == digest {
            wanted.offset.min(blob.size)
        } else {
            0
        };
        let download = Download {
            repository: &self.repository,
            blob: &blob,
            position: start,
        };
        let blob_digest = blob.digest;
        let read = deliver_to(sink, move |deliveries| {
            if start > 0 {
                deliveries.deliver_rest(&wanted, Ok(reader))
            } else {
                deliveries.deliver(&wanted, layer_tar(reader, Some(blob_digest), digest))
            }
        });
        let (read, download) = (pin!(read), pin!(download.run(feeder)));
        match select(read, download).await {
            Either::Left((result, _)) => result,
            Either::Right(((), read)) => read.await,
        }
    }
}

impl Source for Layers {
    fn read<'a>(
        &'a self,
        wanted: &'a [MissingLayer],
        sink: &'a dyn LayerSink,
    ) -> BoxFuture<'a, io::Result<()>> {
        async move {
            stream::iter(self.find(wanted)?)
                .map(|(blob, wanted)| self.layer(blob, wanted, sink))
                .buffer_unordered(MAX_LAYERS)
                .try_collect()
                .await
        }
        .boxed()
    }
}

/// The download of one blob, taken up again where it breaks off.
struct Download<'a> {
    repository: &'a Repository,
    blob: &'a Descriptor,
    /// Bytes of the blob that have been passed on.
    position: u64,
}

/// Why a download is over.
enum Stop {
    /// All of it has been passed on.
    Done,
    /// Nobody wants the rest.
    Unwanted,
}

impl Download<'_> {
    async fn run(mut self, feeder: Feeder) {
        let mut pause = FIRST_PAUSE;
        let mut retries = 0;
        let result = loop {
            match self.attempt(&feeder).await {
                Ok(Stop::Done) => break Ok(()),
                Ok(Stop::Unwanted) => return,
                Err(error) if retries == MAX_RETRIES || !may_pass(&error) => {
                    break Err(io::Error::other(error));
                }
                Err(error) => {
                    tracing::info!(
                        "the download of {} is taken up again: {error}",
                        self.blob.digest
                    );
                    retries += 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    // The token may have expired; if there is none to be had, the next attempt says why.
                    let _ = self.repository.authorize().await;
                }
            }
        };
        feeder.finish(result).await;
    }

    /// Downloads from the current position to the end.
    async fn attempt(&mut self, feeder: &Feeder) -> Result<Stop, RegistryError> {
        let size = self.blob.size;
        if self.position >= size {
            return Ok(Stop::Done);
        }
        let digest = self.blob.digest.to_string();
        let client = &self.repository.client;
        let response = client
            .pull_blob_stream_partial(
                &self.repository.reference,
                digest.as_str(),
                self.position,
                None,
            )
            .await
            .map_err(|error| self.repository.error(error))?;
        let (mut chunks, mut behind) = match response {
            BlobResponse::Partial(stream) => (stream, 0),
            // The registry does not serve parts: what has been passed on comes again.
            BlobResponse::Full(stream) => (stream, self.position),
        };
        while let Some(chunk) = chunks.next().await {
            let mut chunk: Bytes = chunk.map_err(|error| self.broken_off(&error))?;
            let known = usize::try_from(behind)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            behind -= known as u64;
            // What goes beyond the announced size is not wanted; the digest tells that something was wrong.
            let rest = usize::try_from(size - self.position).unwrap_or(usize::MAX);
            chunk = chunk.slice(known..);
            chunk.truncate(rest);
            if chunk.is_empty() {
                continue;
            }
            self.position += chunk.len() as u64;
            if !feeder.send(chunk).await {
                return Ok(Stop::Unwanted);
            }
            if self.position == size {
                return Ok(Stop::Done);
            }
        }
        Err(self.broken_off(&io::ErrorKind::UnexpectedEof.into()))
    }

    fn broken_off(&self, error: &io::Error) -> RegistryError {
        RegistryError::Interrupted {
            registry: self.repository.registry.clone(),
            reason: crate::image::docker::root_cause(error),
        }
    }
}

/// Whether an error may be gone at the next attempt.
fn may_pass(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Interrupted { .. }
            | RegistryError::Unreachable { .. }
            | RegistryError::Unauthorized { .. }
            | RegistryError::TooManyRequests { .. }
            | RegistryError::Failed { .. }
    )
}
