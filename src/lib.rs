//! Run a container image somewhere else as if it were here.
//!
//! (map of the crate: to be written when its parts stand)

pub mod ids;
pub mod image;
pub mod link;
pub mod location;
mod lock;
pub mod node;
pub mod progress;
pub mod protocol;
