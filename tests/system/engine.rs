//! The Linux engine, with real containers of a busybox image.

pub(crate) mod bench;
mod confinement;
mod ending;
mod files;
mod limits;
mod processes;
mod streams;
mod system_calls;
pub(crate) mod traces;
