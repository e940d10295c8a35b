//! What replies consist of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ContainerId, Digest, NodeId, SessionId, UserId};
use crate::protocol::container::Started;
use crate::protocol::image::{Description, Layer, Platform};

/// A container in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// The container.
    pub id: ContainerId,
    /// Id of its image.
    pub image: Digest,
    /// A name that its image is found under, if it has one.
    pub image_name: Option<String>,
    /// Where it runs.
    pub node: NodeId,
    /// Name of that machine.
    pub hostname: String,
    /// Session that owns it.
    pub session: SessionId,
    /// When it was started, in seconds since the epoch.
    pub since: u64,
}

/// Reply to [`Invite`](super::Invite).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// What lets the bearer in, once.
    pub token: String,
}

/// Reply to [`ShowOut`](super::ShowOut).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownOut {
    /// Accounts that are forgotten.
    pub accounts: u32,
    /// Invitations that are void.
    pub invitations: u32,
}

/// Somebody who has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// Name that the location gave: a user's or a node's.
    pub id: String,
    /// Public key, in base64.
    pub key: String,
    /// What the invitation was made out to.
    pub name: String,
    /// When it joined, in seconds since the epoch.
    pub joined: u64,
}

/// A client that is connected, or has been a moment ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// The session.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// Name and version of the client's program, as it says itself.
    pub agent: String,
    /// When it began, in seconds since the epoch.
    pub since: u64,
    /// Containers that it owns.
    pub containers: u32,
}

/// Reply to [`EnsureImage`](super::EnsureImage).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingLayers {
    /// What is to be uploaded; nothing if the image is complete.
    pub missing: Vec<MissingLayer>,
}

/// A layer that the location lacks, or has only the start of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingLayer {
    /// The layer.
    pub layer: Layer,
    /// How much of the uncompressed tar an interrupted upload has left, in bytes: where to go on.
    pub offset: u64,
}

/// An image that a location keeps for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedImage {
    /// Its description.
    pub description: Description,
    /// Names it is found under.
    pub names: Vec<String>,
    /// Space that its layers take at the location, in bytes.
    pub size: u64,
    /// The part of `size` that no other image shares, in bytes: what removing it frees.
    pub unique: u64,
    /// Space that each layer takes at the location, in bytes, in the order of the description.
    #[serde(default)]
    pub stored: Vec<u64>,
    /// Asked to be kept (`tf cache`).
    pub kept: bool,
    /// Last use, in seconds since the epoch.
    pub last_used: u64,
}

/// Reply to [`RemoveImage`](super::RemoveImage).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The image.
    pub id: Digest,
    /// Space freed, in bytes.
    pub freed: u64,
}

/// Reply to [`Spawn`](super::Spawn).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawned {
    /// Where it runs.
    pub node: NodeId,
    /// What it got there.
    pub started: Started,
}

/// A node as its location's clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub id: NodeId,
    /// Name of the machine.
    pub hostname: String,
    /// What it runs.
    pub platform: Platform,
    /// Number of processors.
    pub cpus: u32,
    /// Processors' worth of work that waits or runs, averaged over a minute.
    pub load: f32,
    /// Memory, in bytes.
    pub memory: u64,
    /// Memory that is free for containers, in bytes.
    pub memory_free: u64,
    /// Free disk space for layers and containers, in bytes.
    pub disk_free: u64,
    /// Containers that run on it.
    pub containers: u32,
    /// Mean time that its last containers took to start, 0 before the first.
    pub mean_start: Duration,
}
