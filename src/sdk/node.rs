//! A machine of a location.

use std::sync::Arc;

use super::session::Shared;
use super::spawn::SpawnBuilder;
use crate::ids::NodeId;
use crate::image::Image;
use crate::protocol::messages::NodeInfo;

/// A node as it was when it was asked for.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    info: NodeInfo,
}

impl Node {
    pub(super) fn new(shared: Arc<Shared>, info: NodeInfo) -> Self {
        Self { shared, info }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.info.id
    }

    /// What it is and what it had to offer.
    #[must_use]
    pub fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// A container of the image on this node, to be described further and then started.
    pub fn spawn(&self, image: &Image) -> SpawnBuilder {
        SpawnBuilder::new(
            Arc::clone(&self.shared),
            self.info.id.clone(),
            image.clone(),
        )
    }
}
