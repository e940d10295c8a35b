//! The engine that makes containers of Linux namespaces.

pub mod network;
