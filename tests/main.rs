//! Tests that need neither root, nor Docker, nor a network: one binary, so that it links once.

mod common;
mod images;
#[cfg(unix)]
mod services;
