//! The protocol over real connections.

pub mod chunks;
