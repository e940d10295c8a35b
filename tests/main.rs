//! Tests that need neither root, nor Docker, nor a network: one binary, so that it links once.

mod cli;
mod common;
mod cut;
mod far;
mod fuzz;
mod generated;
mod handshake;
#[cfg(unix)]
mod hostile;
mod images;
mod layering;
mod limits;
mod link;
mod pair;
#[cfg(unix)]
mod processes;
mod restart;
mod resume;
mod splice;
mod storage;
#[cfg(unix)]
mod units;
mod wire;
