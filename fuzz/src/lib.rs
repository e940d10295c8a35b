//! What is done with any bytes. Each module has a function that must not panic, whatever it is given: `cargo fuzz` looks for
//! bytes that make it, and `tests/fuzz.rs` tries some each time.

pub mod frames;
#[cfg(target_os = "linux")]
pub mod images;
#[cfg(target_os = "linux")]
pub mod layers;
pub mod messages;
