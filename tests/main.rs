//! Tests that need neither root, nor Docker, nor a network: one binary, so that it links once.

mod cut;
mod handshake;
mod link;
mod pair;
mod resume;
mod wire;
