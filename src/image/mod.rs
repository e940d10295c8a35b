//! Where images come from: descriptions and layers of images on this machine and in registries.
//!
//! A source yields a [`Description`] at once and the tars of single layers when asked; it never holds a layer in memory
//! and knows nothing of locations or nodes.

pub mod archive;
mod compression;
mod delivery;
pub mod docker;
pub mod hello;
mod manifest;
mod platform;
pub mod reference;
pub mod registry;
pub mod resolve;
mod stream;
mod tarball;
mod tls;
mod verified;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::AsyncRead;

pub use self::docker::{last_image, local_names};
pub use self::platform::WrongPlatform;
pub use self::resolve::{KnownImages, Options, ResolveError, resolve};
pub use self::verified::WrongContent;
pub use crate::protocol::image::{Description, ImageConfig, Layer, Platform, Port, Transport};
use crate::protocol::messages::MissingLayer;

/// A layer's uncompressed tar as it arrives.
pub type LayerReader = Box<dyn AsyncRead + Send + Unpin>;

/// Takes the layers that a source reads.
pub trait LayerSink: Send + Sync {
    /// Takes one layer, whose `tar` begins at `wanted.offset`, and returns when it has arrived where it should.
    ///
    /// # Errors
    ///
    /// When the reader fails or the layer does not arrive.
    fn layer<'a>(
        &'a self,
        wanted: &'a MissingLayer,
        tar: LayerReader,
    ) -> BoxFuture<'a, std::io::Result<()>>;
}

/// Something that can read the layers of one image.
pub trait Source: Send + Sync {
    /// Reads the wanted layers into `sink`, several at a time where the source allows it, in any order.
    ///
    /// # Errors
    ///
    /// When the source fails, lacks one of them, or `sink` fails.
    fn read<'a>(
        &'a self,
        wanted: &'a [MissingLayer],
        sink: &'a dyn LayerSink,
    ) -> BoxFuture<'a, std::io::Result<()>>;
}

/// An image that was found: what it is, what it is called, and where its layers are read.
#[derive(Clone)]
pub struct Image {
    /// What it is.
    pub description: Description,
    /// Canonical names that it was found under (`docker.io/library/nginx:latest`), for the location to find it again.
    pub names: Vec<String>,
    /// Where its layers are read; none for an image of which only the location has the layers.
    pub source: Option<Arc<dyn Source>>,
}
