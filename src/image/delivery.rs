//! Hands layers from a thread that reads them to a sink, with the sink setting the pace.

use std::io::{self, Read};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::stream::{LayerWriter, layer_channel};
use super::{LayerReader, LayerSink};
use crate::ids::Digest;
use crate::protocol::messages::MissingLayer;

/// Layers that are on their way at a time, for sources that allow it.
pub(super) const MAX_LAYERS: usize = 4;

struct Delivery {
    wanted: MissingLayer,
    tar: LayerReader,
}

/// A thread's way to the sink.
pub(super) struct Deliveries {
    sender: mpsc::Sender<Delivery>,
}

impl Deliveries {
    /// Hands over a layer from its offset on and returns when all of it has been taken. Errors of `tar` go to the sink.
    ///
    /// Must not be called on a thread of the runtime.
    ///
    /// # Errors
    ///
    /// When the sink takes no further layers.
    pub(super) fn deliver(
        &self,
        wanted: &MissingLayer,
        tar: io::Result<impl Read>,
    ) -> io::Result<()> {
        self.begin(wanted)?.copy(tar, wanted.offset);
        Ok(())
    }

    /// Hands over a layer of which `tar` is only what follows the offset.
    ///
    /// # Errors
    ///
    /// When the sink takes no further layers.
    pub(super) fn deliver_rest(
        &self,
        wanted: &MissingLayer,
        tar: io::Result<impl Read>,
    ) -> io::Result<()> {
        self.begin(wanted)?.copy(tar, 0);
        Ok(())
    }

    fn begin(&self, wanted: &MissingLayer) -> io::Result<LayerWriter> {
        let (writer, tar) = layer_channel();
        let wanted = wanted.clone();
        self.sender
            .blocking_send(Delivery { wanted, tar })
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "no further layer is wanted"))?;
        Ok(writer)
    }
}

/// Runs `read` on a thread of its own and passes what it delivers to `sink`.
///
/// When the sink fails, this returns at once; the thread ends by itself when it notices.
///
/// # Errors
///
/// The first error of the sink, else that of `read`.
pub(super) async fn deliver_to<T: Send + 'static>(
    sink: &dyn LayerSink,
    read: impl FnOnce(&Deliveries) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, mut receiver) = mpsc::channel(1);
    let thread = tokio::task::spawn_blocking(move || read(&Deliveries { sender }));
    // The thread writes one layer after another, so what piles up here are layers that have been read whole and
    // wait for the other side's word.
    let mut on_their_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            delivery = receiver.recv(), if on_their_way.len() < MAX_LAYERS => match delivery {
                Some(delivery) => on_their_way.push(pass_on(sink, delivery)),
                None => break,
            },
            Some(result) = on_their_way.next() => result?,
        }
    }
    while let Some(result) = on_their_way.next().await {
        result?;
    }
    thread.await.map_err(|error| {
        io::Error::other(format!("the thread that reads layers failed: {error}"))
    })?
}

/// The error of a source that is asked for a layer of another image.
pub(super) fn no_such_layer(layer: &Digest) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("the image has no layer {layer}"),
    )
}

async fn pass_on(sink: &dyn LayerSink, delivery: Delivery) -> io::Result<()> {
    sink.layer(&delivery.wanted, delivery.tar).await
}
