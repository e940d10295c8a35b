//! Every message there is, with its number.
//!
//! A *call* is answered by exactly one reply, a *notice* by none. Numbers stay with their message for good: one that is
//! no longer used is marked as removed, never given to another. A new field is optional (`#[serde(default)]`), so that
//! both an older and a newer peer read the message.
//!
//! ```text
//! client ── Spawn, Exec, EnsureImage … ──▶ location ── the same, with `Create` for `Spawn` ──▶ node
//! client ◀── ContainerEnded, NodeChanged … ── location ◀── ContainerEnded, Capacity … ── node
//! ```

mod calls;
mod fault;
mod notices;
mod replies;
mod streams;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::calls::*;
pub use self::fault::{Fault, FaultCode};
pub use self::notices::*;
pub use self::replies::{
    AccountInfo, CachedImage, ContainerInfo, Invited, MissingLayer, MissingLayers, NodeInfo,
    Removed, SessionInfo, ShownOut, Spawned,
};
pub use self::streams::{LayerResult, StreamHeader};

/// A request that is answered.
pub trait Call: Serialize + DeserializeOwned + Send + 'static {
    /// Number of the message.
    const KIND: u16;
    /// What answers it.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// A message that is not answered.
pub trait Notice: Serialize + DeserializeOwned + Send + 'static {
    /// Number of the message.
    const KIND: u16;
}
