//! Tests that need neither root, nor Docker, nor a network: one binary, so that it links once.

mod cli;
mod common;
mod generated;
mod images;
mod layering;
mod link;
mod pair;
#[cfg(unix)]
mod services;
