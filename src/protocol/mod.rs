//! The client protocol: what is said between clients, locations and nodes, and how it looks on the wire.
//!
//! Nothing here opens a socket, asks for the time or starts a task; time is an argument where it matters. `link` carries
//! this protocol over real connections.

pub mod backlog;
pub mod chunks;
pub mod container;
pub mod control;
pub mod frame;
pub mod handshake;
pub mod image;
pub mod limits;
pub mod messages;
pub mod mux;
pub mod record;
pub mod replay;
