//! Tests on the real machine: root, namespaces, Docker. Each says what it needs and skips without it; with `CI=true`
//! nothing may skip.

mod common;

#[cfg(target_os = "linux")]
mod system {
    mod docker;
    mod engine;
    mod hello;
    mod network;
    mod registry;
    mod unpack;
}
