//! Tests on the real machine: root, namespaces, Docker. Each says what it needs and skips without it; with `CI=true`
//! nothing may skip.
#![cfg(target_os = "linux")]

mod common;

mod system {
    mod docker;
    mod engine;
    mod fixture;
    mod hello;
    mod leftovers;
    mod network;
    mod registry;
    mod run;
    mod session;
    mod unpack;
}
