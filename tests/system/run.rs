//! `tf IMAGE` with the real binary and real containers.

mod browser;
mod failures;
mod options;
mod ports;
mod state_file;
mod status;
mod streams;
mod terminal;
