//! The server that clients connect to.

pub mod layers;
