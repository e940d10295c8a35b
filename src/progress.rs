//! Progress values: what long operations report, for whoever wants to draw it.

use crate::ids::Digest;

/// Takes reports of progress. Called from many tasks at once, so it must not block.
pub trait Progress: Send + Sync {
    /// Something has moved on.
    fn report(&self, step: Step);
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A layer's transfer begins, or goes on at `offset`.
    LayerStarted {
        /// The layer.
        layer: Digest,
        /// Length of its uncompressed tar in bytes, if known.
        size: Option<u64>,
        /// Where the transfer begins, in bytes of the uncompressed tar.
        offset: u64,
    },
    /// This much of the layer has been read and sent, in bytes of the uncompressed tar.
    LayerSent {
        /// The layer.
        layer: Digest,
        /// Bytes done, from the start of the layer.
        done: u64,
    },
    /// The other side has the whole layer and has verified it.
    LayerDone {
        /// The layer.
        layer: Digest,
    },
    /// The node has unpacked this much of a layer, in bytes of the uncompressed tar.
    LayerUnpacked {
        /// The layer.
        layer: Digest,
        /// Bytes done.
        done: u64,
    },
    /// All transfers are done.
    Uploaded {
        /// Bytes that went over the link.
        sent: u64,
        /// Bytes of layers that were at the location already, where their size is known.
        saved: u64,
    },
}

/// Ignores all reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _step: Step) {}
}
