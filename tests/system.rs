//! Tests on the real machine: root, namespaces, Docker. Each says what it needs and skips without it; with `CI=true`
//! nothing may skip.
#![cfg(target_os = "linux")]

mod common;

mod system {
    mod docker;
    mod ending;
    mod engine;
    mod fixture;
    mod hello;
    mod leftovers;
    mod machine;
    mod network;
    mod registry;
    mod run;
    mod session;
    mod typist;
    mod unpack;
}
