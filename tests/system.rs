//! Tests on the real machine: root, namespaces, Docker. Each says what it needs and skips without it; with `CI=true`
//! nothing may skip.

#[cfg(target_os = "linux")]
#[path = "system/engine.rs"]
mod engine;
#[cfg(target_os = "linux")]
#[path = "system/network.rs"]
mod network;
#[cfg(target_os = "linux")]
#[path = "system/unpack.rs"]
mod unpack;
