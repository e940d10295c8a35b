//! Layers on their way to the location.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::error::Error;
use super::session::Shared;
use crate::image::{Description, Image, LayerReader, LayerSink};
use crate::link::{Link, chunks, read_value};
use crate::progress::{Progress, Step};
use crate::protocol::messages::{EnsureImage, LayerResult, MissingLayer, StreamHeader};

/// How long the location may take to say why it does not want the rest of a layer.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Sends the layers of an image that the location lacks, and says what that came to. Goes on where it was when the location
/// is started anew in the middle.
pub(super) async fn upload(
    shared: &Shared,
    image: &Image,
    keep: bool,
    progress: &dyn Progress,
) -> Result<Step, Error> {
    let ensure = |keep| EnsureImage {
        description: image.description.clone(),
        names: image.names.clone(),
        keep,
    };
    loop {
        let link = shared.link().await?;
        let upload = Upload::new(&link, progress);
        let sending = async {
            let missing = link.call(&ensure(false)).await?.missing;
            upload.run(image, &missing).await?;
            if keep {
                // The location knows only now how much it takes, and whether that is more than it keeps.
                link.call(&ensure(true)).await?;
            }
            Ok(upload.summary(&image.description, &missing))
        };
        match sending.await {
            Err(_) if link.ended().is_some() => shared.left(&link).await,
            sent => return sent,
        }
    }
}

/// Sends layers, and counts.
struct Upload<'a> {
    link: &'a Link,
    progress: &'a dyn Progress,
    spare: chunks::Spare,
    sent: AtomicU64,
}

impl<'a> Upload<'a> {
    fn new(link: &'a Link, progress: &'a dyn Progress) -> Self {
        Self {
            link,
            progress,
            spare: chunks::Spare::default(),
            sent: AtomicU64::new(0),
        }
    }

    /// Sends the missing layers of an image.
    async fn run(&self, image: &Image, missing: &[MissingLayer]) -> Result<(), Error> {
        if missing.is_empty() {
            return Ok(());
        }
        let Some(source) = &image.source else {
            let text = "the location has only a part of it, and nothing here has the rest";
            return Err(Error::Upload(io::Error::new(io::ErrorKind::NotFound, text)));
        };
        source.read(missing, self).await.map_err(Error::Upload)
    }

    /// What it came to.
    fn summary(&self, description: &Description, missing: &[MissingLayer]) -> Step {
        let missing: BTreeSet<_> = missing.iter().map(|missing| missing.layer.digest).collect();
        let saved = description
            .layers
            .iter()
            .filter(|layer| !missing.contains(&layer.digest));
        Step::Uploaded {
            sent: self.sent.load(Ordering::Relaxed),
            saved: saved.filter_map(|layer| layer.size).sum(),
        }
    }

    async fn send(&self, wanted: &MissingLayer, tar: LayerReader) -> io::Result<()> {
        let (layer, offset) = (wanted.layer.digest, wanted.offset);
        self.progress.report(Step::LayerStarted {
            layer,
            size: wanted.layer.size,
            offset,
        });
        let stream = self
            .link
            .open(&StreamHeader::Upload { layer, offset })
            .await?;
        let (mut answer, mut stream) = tokio::io::split(stream);
        let sending = async {
            let progress = |done| {
                self.progress.report(Step::LayerSent {
                    layer,
                    done: offset + done,
                });
            };
            let sent = chunks::send(tar, &mut stream, &self.spare, progress).await?;
            self.sent.fetch_add(sent.wire, Ordering::Relaxed);
            stream.shutdown().await
        };
        // The answer may come first: the location has the layer from somebody else meanwhile, or its disk is full.
        tokio::pin!(sending);
        let answer = async { read_value::<LayerResult>(&mut answer).await };
        tokio::pin!(answer);
        let result = tokio::select! {
            result = &mut answer => result?,
            sent = &mut sending => match sent {
                Ok(()) => answer.await?,
                // Why the location stopped listening is in its answer; if it was the source that failed, none will come.
                Err(error) => match timeout(LAST_WORD, answer).await {
                    Ok(Ok(result)) => result,
                    _ => return Err(error),
                },
            },
        };
        result.map_err(io::Error::other)?;
        self.progress.report(Step::LayerDone { layer });
        Ok(())
    }
}

impl LayerSink for Upload<'_> {
    fn layer<'a>(
        &'a self,
        wanted: &'a MissingLayer,
        tar: LayerReader,
    ) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.send(wanted, tar))
    }
}
