//! Tests on the real machine: root, namespaces, Docker. Each says what it needs and skips without it; with `CI=true`
//! nothing may skip.
#![cfg(target_os = "linux")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that skips or measures says so"
)]

mod common;

mod system {
    mod booted;
    mod cache;
    mod comeback;
    mod docker;
    mod ending;
    mod endurance;
    mod engine;
    mod fixture;
    mod forms;
    mod hello;
    mod lasting;
    mod leftovers;
    mod machine;
    mod misbehaving;
    mod network;
    mod office;
    mod readme;
    mod registry;
    mod remote;
    mod run;
    mod sdk;
    mod session;
    mod storage;
    mod systemd;
    mod tunnels;
    mod typist;
    mod unpack;
}
