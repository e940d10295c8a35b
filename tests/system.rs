//! Tests on the real machine: root, namespaces, Docker. Each says what it needs and skips without it; with `CI=true`
//! nothing may skip.

mod common;

#[cfg(target_os = "linux")]
mod system {
    mod docker;
    mod hello;
    mod registry;
}
