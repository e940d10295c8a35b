//! `tf service`, with a `systemctl` that only writes down what it is told, and a real sshd.
#![allow(clippy::print_stderr, reason = "a test that skips says so")]

mod desk;
mod local;
mod remote;
mod server;
