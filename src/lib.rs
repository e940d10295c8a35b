//! Run a container image somewhere else as if it were here.
//!
//! (map of the crate: to be written when its parts stand)

#[doc(hidden)]
pub mod cli;
pub mod config;
pub mod embedded;
pub mod ids;
pub mod image;
pub mod keys;
pub mod link;
pub mod location;
pub mod node;
pub mod progress;
pub mod protocol;
pub mod sdk;
pub mod shutdown;
