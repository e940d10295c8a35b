//! Run a container image somewhere else as if it were here.
//!
//! (map of the crate: to be written when its parts stand)

pub mod ids;
pub mod image;
pub mod node;
pub mod progress;
pub mod protocol;

/// Becomes what this program was executed for, and does not return, if that is to be a part of an engine.
///
/// Every program that runs an engine in its own process calls this first thing in `main`, before it starts a thread: the
/// engine makes containers with a copy of the program.
pub fn init_if_asked() {
    #[cfg(target_os = "linux")]
    node::engine::linux::init_if_asked();
}
