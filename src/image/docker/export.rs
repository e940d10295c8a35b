//! Layers out of a daemon's export, which is one tar of the whole image.
//!
//! A layer must be known by its digest before its bytes are passed on. How it is told depends on who wrote the export:
//!
//! - Docker since 25 without containerd's store, and Podman: the name of the entry is the digest.
//! - Docker before 25: [`v1_id`](super::v1_id) finds it by what goes before it.
//! - Docker with containerd's store, where blobs are compressed, and all others: only `manifest.json` tells, and it
//!   comes last. The export is then read a second time, with the names known.
//!
//! So one pass is enough for a daemon that keeps its own images, whatever is wanted of them, and two are needed with
//! containerd's store, whose exports cost the daemon little. Memory is that of a few chunks in either case. What is read
//! is not verified here, since whoever takes a layer verifies it.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use futures_util::{FutureExt as _, StreamExt as _};

use super::{Daemon, v1_id};
use crate::ids::Digest;
use crate::image::compression::Decoder;
use crate::image::delivery::{Deliveries, deliver_to, no_such_layer};
use crate::image::manifest::{MAX_DOCUMENT, saved_images};
use crate::image::stream::{Feeder, feed};
use crate::image::tarball::{Entries, Kind, Streamed, TarError, normal_path};
use crate::image::{Description, LayerSink, Source};
use crate::protocol::messages::MissingLayer;

/// How long an export may take to begin: a daemon before Docker 25 writes the whole image to its disk first.
const EXPORT_TIMEOUT: Duration = Duration::from_mins(30);

/// Longest description of a layer in an export before Docker 25, in bytes.
const MAX_LAYER_JSON: u64 = 1024 * 1024;

/// The layers of one image of a daemon.
pub(super) struct Export {
    daemon: Daemon,
    image: Digest,
    layers: Vec<Digest>,
}

impl Export {
    pub(super) fn new(daemon: Daemon, description: &Description) -> Self {
        Self {
            daemon,
            image: description.id,
            layers: description
                .layers
                .iter()
                .map(|layer| layer.digest)
                .collect(),
        }
    }

    /// Reads the export once, as far as needed.
    async fn pass(&self, reading: Reading, sink: &dyn LayerSink) -> io::Result<Reading> {
        let (feeder, reader) = feed();
        let read = deliver_to(sink, move |deliveries| reading.run(reader, deliveries));
        let (read, download) = (pin!(read), pin!(self.download(feeder)));
        // The download ends first unless the reader has seen enough, and then nobody needs its rest.
        match select(read, download).await {
            Either::Left((result, _)) => result,
            Either::Right(((), read)) => read.await,
        }
    }

    async fn download(&self, feeder: Feeder) {
        let client = self.daemon.client.clone().with_timeout(EXPORT_TIMEOUT);
        let image = self.image.to_string();
        let mut chunks = pin!(client.export_image(&image));
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => {
                    if !feeder.send(chunk).await {
                        return;
                    }
                }
                Err(error) => {
                    let error = self.daemon.error(error, &image);
                    return feeder.finish(Err(io::Error::other(error))).await;
                }
            }
        }
        feeder.finish(Ok(())).await;
    }
}

impl Source for Export {
    fn read<'a>(
        &'a self,
        wanted: &'a [MissingLayer],
        sink: &'a dyn LayerSink,
    ) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let mut reading = Reading::new(&self.layers, wanted)?;
            if reading.wanted.is_empty() {
                return Ok(());
            }
            reading = self.pass(reading, sink).await?;
            if !reading.wanted.is_empty() && reading.learn()? {
                reading = self.pass(reading, sink).await?;
            }
            match reading.wanted.keys().next() {
                None => Ok(()),
                Some(layer) => Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!(
                        "the export of the Docker daemon at {} lacks the layer {layer}; pull or build the image again",
                        self.daemon.address
                    ),
                )),
            }
        }
        .boxed()
    }
}

/// What is read from an export, and what is known of it.
struct Reading {
    layers: Vec<Digest>,
    chain: Vec<Digest>,
    /// Layers that are still to be found.
    wanted: HashMap<Digest, MissingLayer>,
    /// Layers by the paths of their entries, as far as they are known.
    known: HashMap<String, Digest>,
    /// Links between entries, of those that may be layers.
    links: HashMap<String, String>,
    /// The export's `manifest.json`.
    manifest: Option<Vec<u8>>,
}

impl Reading {
    fn new(layers: &[Digest], wanted: &[MissingLayer]) -> io::Result<Self> {
        let own: BTreeSet<_> = layers.iter().collect();
        let wanted = wanted
            .iter()
            .map(|wanted| {
                let layer = wanted.layer.digest;
                if own.contains(&layer) {
                    Ok((layer, wanted.clone()))
                } else {
                    Err(no_such_layer(&layer))
                }
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            layers: layers.to_vec(),
            chain: v1_id::chain_ids(layers),
            wanted,
            known: HashMap::new(),
            links: HashMap::new(),
            manifest: None,
        })
    }

    /// Goes through an export and delivers the wanted layers that can be told.
    fn run(mut self, export: impl Read, deliveries: &Deliveries) -> io::Result<Self> {
        let mut entries = Entries::new(Streamed(export));
        while !self.wanted.is_empty() {
            let Some(entry) = entries.next().map_err(unreadable)? else {
                break;
            };
            let Some(path) = normal_path(&entry.path) else {
                continue;
            };
            match &entry.kind {
                Kind::File => {}
                Kind::Symlink(target) => {
                    self.note_link(path, target);
                    continue;
                }
                Kind::HardLink(_) | Kind::Other => continue,
            }
            if path == "manifest.json" {
                self.manifest = Some(entries.read_all(MAX_DOCUMENT).map_err(unreadable)?);
            } else if let Some(id) = path.strip_suffix("/json") {
                if entry.size <= MAX_LAYER_JSON {
                    let json = entries.read_all(MAX_LAYER_JSON).map_err(unreadable)?;
                    self.note_directory(id, &json);
                }
            } else if let Some(layer) = self.tell(&path)
                && let Some(wanted) = self.wanted.remove(&layer)
            {
                deliveries.deliver(&wanted, Decoder::new(entries.content()))?;
            }
        }
        Ok(self)
    }

    /// Which layer the entry is, if that can be told yet.
    fn tell(&self, path: &str) -> Option<Digest> {
        if let Some(layer) = self.known.get(path) {
            return Some(*layer);
        }
        let name = path
            .strip_prefix("blobs/sha256/")
            .or_else(|| path.strip_suffix(".tar"))?;
        let digest = name.parse().ok()?;
        self.layers.contains(&digest).then_some(digest)
    }

    fn note_directory(&mut self, id: &str, json: &[u8]) {
        if let Some(index) = v1_id::find_layer(id, json, &self.chain) {
            self.known
                .insert(format!("{id}/layer.tar"), self.layers[index]);
        }
    }

    fn note_link(&mut self, path: String, target: &str) {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        if let Some(target) = normal_path(&format!("{directory}/{target}")) {
            self.links.insert(path, target);
        }
    }

    /// Takes the names of layers from the `manifest.json` at the end of the export; false if that tells nothing new.
    fn learn(&mut self) -> io::Result<bool> {
        let Some(json) = self.manifest.take() else {
            return Ok(false);
        };
        let images = saved_images(&json).map_err(|reason| {
            unreadable(TarError::Malformed(format!("manifest.json: {reason}")))
        })?;
        let before = self.known.len();
        // An export by id is of one image; one of several platforms may list more, of which ours has as many layers.
        for image in images
            .iter()
            .filter(|image| image.layers.len() == self.layers.len())
        {
            for (name, layer) in image.layers.iter().zip(&self.layers) {
                let Some(path) = normal_path(name) else {
                    continue;
                };
                let path = self.links.get(&path).cloned().unwrap_or(path);
                self.known.entry(path).or_insert(*layer);
            }
        }
        Ok(self.known.len() > before)
    }
}

fn unreadable(error: TarError) -> io::Error {
    match error {
        TarError::Io(error) => error,
        TarError::Malformed(reason) => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the export of the Docker daemon is malformed: {reason}"),
        ),
    }
}
