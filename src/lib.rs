//! Run a container image somewhere else as if it were here.
//!
//! The crate is the program `tf` and, for programs of one's own, the [SDK](sdk). It holds every role in one binary:
//!
//! ```text
//!  bin ─▶ cli ─▶ sdk ─▶ image          where images come from
//!                 │
//!                 └───▶ link ─▶ protocol    how client, location and node talk
//!                        ▲
//!  location ─────────────┤                  the server: sessions, images, placement
//!  node ─▶ node::engine ─┘                  a machine's agent, and what runs containers on it
//!
//!  embedded = location + node in this process, reached through memory
//!  serve = location, node or both, for as long as the process runs
//! ```
//!
//! Arrows go one way: a part names what it points to and nothing else (`tests/layering.rs` holds that). In particular
//! `protocol` knows neither sockets nor clocks, `link` not what a message means, `sdk` not whether its location is in this
//! process, and `location` not how containers are run.

#[doc(hidden)]
pub mod cli;
pub mod config;
pub mod embedded;
pub mod ids;
pub mod image;
pub mod invitation;
pub mod keyring;
pub mod keys;
pub mod link;
pub mod location;
mod lock;
pub mod node;
pub mod progress;
pub mod protocol;
pub mod sdk;
pub mod serve;
pub mod shutdown;
mod size;
mod tcp;

pub use embedded::dialler;

/// Does what this process was started for, if it was started by this crate rather than by a user, and does not return
/// then. To be called first in `main`, before any thread is started, by every program that uses an embedded location.
///
/// Containers are made by processes of their own that run the same executable, and the image `hello` is the executable
/// too; a first argument that no user gives tells which.
pub fn init_if_asked() {
    #[cfg(target_os = "linux")]
    node::engine::linux::init_if_asked();
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == image::hello::VERB)
    {
        let served = image::hello::serve();
        #[expect(
            clippy::exit,
            reason = "this is a program of its own, of which nothing follows"
        )]
        std::process::exit(i32::from(served.is_err()));
    }
}

/// Has the README's program compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
