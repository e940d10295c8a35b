//! The engine that makes containers of Linux namespaces.

pub mod layers;
pub mod unpack;
