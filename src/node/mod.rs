//! The agent of one machine: it runs containers for its location.

pub mod engine;
