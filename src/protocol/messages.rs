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

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::container::{ContainerSpec, Exit, ProcessSpec, Started, StdioStream, WindowSize};
use super::control::{from_cbor, to_cbor};
use super::image::{Description, Layer};
use super::limits::{LimitChanges, LimitsInfo};
use crate::ids::{ContainerId, Digest, NodeId, ProcessId, SessionId, UserId};

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

/// Why a call failed, in a form that travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What a program can act on.
    pub code: FaultCode,
    /// What a person reads: what went wrong and, where there is something to do, what.
    pub message: String,
}

impl Fault {
    /// A fault of this kind with this text.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Kinds of faults, by what the caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The peer does not know this message: it is older, or newer.
    UnknownMessage,
    /// The message could not be read, or asks for something that makes no sense.
    Malformed,
    /// What it names does not exist, or belongs to somebody else.
    NotFound,
    /// What it names is in use.
    InUse,
    /// The caller may not do this.
    Forbidden,
    /// A limit of the user or the machine is reached.
    LimitReached,
    /// There is no node that can do it.
    NoNode,
    /// The machine lacks something: a kernel feature, a privilege, disk space.
    Unsupported,
    /// The image or what was asked of it cannot run: program missing, user unknown, layer broken.
    BadImage,
    /// It took too long.
    TimedOut,
    /// The peer made a mistake that the caller can do nothing about.
    Internal,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $kind:literal $name:ident -> $reply:ty { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type),* }

            impl Call for $name {
                const KIND: u16 = $kind;
                type Reply = $reply;
            }
        )*

        /// Number and name of every call.
        pub const CALLS: &[(u16, &str)] = &[$(($kind, stringify!($name))),*];

        /// Reads a call of any number, and writes it again; none if there is no such call. For tests with any bytes.
        pub fn rewrite_call(kind: u16, body: &[u8]) -> Option<Result<Bytes, String>> {
            match kind {
                $($kind => Some(from_cbor::<$name>(body).map(|call| to_cbor(&call))),)*
                _ => None,
            }
        }

        /// The same for what answers the call of this number.
        pub fn rewrite_reply(kind: u16, body: &[u8]) -> Option<Result<Bytes, String>> {
            match kind {
                $($kind => Some(from_cbor::<$reply>(body).map(|reply| to_cbor(&reply))),)*
                _ => None,
            }
        }
    };
}

macro_rules! notices {
    ($($(#[$doc:meta])* $kind:literal $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type),* }

            impl Notice for $name {
                const KIND: u16 = $kind;
            }
        )*

        /// Number and name of every notice.
        pub const NOTICES: &[(u16, &str)] = &[$(($kind, stringify!($name))),*];

        /// Reads a notice of any number, and writes it again; none if there is no such notice. For tests with any bytes.
        pub fn rewrite_notice(kind: u16, body: &[u8]) -> Option<Result<Bytes, String>> {
            match kind {
                $($kind => Some(from_cbor::<$name>(body).map(|notice| to_cbor(&notice))),)*
                _ => None,
            }
        }
    };
}

calls! {
    /// Client to location: which nodes are there?
    1 ListNodes -> Vec<NodeInfo> {}

    /// Client to location: I am going to run or cache this image; which layers do you lack?
    ///
    /// The description is kept for the user once all layers are there. Upload the missing ones with [`StreamHeader::Upload`].
    2 EnsureImage -> MissingLayers {
        /// The image.
        description: Description,
        /// Names that `DescribeImage` finds it under from now on, in canonical form.
        names: Vec<String>,
        /// Keep it for the user after the session (`tf cache`), rather than as long as there is room.
        #[serde(default)]
        keep: bool,
    }

    /// Client to location: the description of an image that was uploaded before.
    3 DescribeImage -> Option<Description> {
        /// A name, or an id or the start of one.
        name: String,
    }

    /// Client to location: the images that are kept for this user.
    4 ListImages -> Vec<CachedImage> {}

    /// Client to location: forget an image, and free its layers unless something else needs them.
    5 RemoveImage -> Removed {
        /// A name, or an id or the start of one.
        name: String,
    }

    /// Client to location: start a container.
    6 Spawn -> Spawned {
        /// The container's name, chosen by the client.
        container: ContainerId,
        /// Where; the location chooses if it is not given.
        #[serde(default)]
        node: Option<NodeId>,
        /// Id of an image that [`EnsureImage`] found complete.
        image: Digest,
        /// How it differs from the image.
        spec: ContainerSpec,
    }

    /// Location to node: start a container.
    7 Create -> Started {
        /// The container's name.
        container: ContainerId,
        /// Its image.
        image: Description,
        /// How it differs from the image.
        spec: ContainerSpec,
    }

    /// Run the first process of a container that was spawned asleep.
    8 Wake -> () {
        /// The container.
        container: ContainerId,
    }

    /// End a container and free all it has. Answered when nothing of it runs any more.
    9 Destroy -> () {
        /// The container.
        container: ContainerId,
    }

    /// Start a further process in a container.
    10 Exec -> () {
        /// The container.
        container: ContainerId,
        /// The process's name, chosen by the client.
        process: ProcessId,
        /// What to run.
        spec: ProcessSpec,
    }

    /// Send a signal to a process.
    11 Signal -> () {
        /// The container.
        container: ContainerId,
        /// The process, the container's first one if not given.
        #[serde(default)]
        process: Option<ProcessId>,
        /// Number of the signal, as Linux numbers them on x86.
        signal: u8,
    }

    /// Change the size of a process's terminal.
    12 Resize -> () {
        /// The container.
        container: ContainerId,
        /// The process, the container's first one if not given.
        #[serde(default)]
        process: Option<ProcessId>,
        /// The new size.
        size: WindowSize,
    }

    /// Wait until something in the container accepts TCP connections on a port.
    13 WaitTcp -> () {
        /// The container.
        container: ContainerId,
        /// The port.
        port: u16,
        /// How long to wait at most.
        timeout: Duration,
    }

    /// Location to node: forget the unpacked form of these layers, unless they are in use.
    14 DropLayers -> () {
        /// The layers.
        layers: Vec<Digest>,
    }

    /// Client to location: the user's containers, of all sessions.
    15 ListContainers -> Vec<ContainerInfo> {}

    /// Client to location: end a container of the user, of whichever session.
    16 Stop -> ContainerId {
        /// The container's name, or the start of it.
        container: String,
    }

    /// Client to location: go on with a session of mine whose link is gone for good, because the location was started anew.
    /// All that it owned belongs to the session of this link from now on.
    17 Continue -> Vec<ContainerId> {
        /// The session: what the former link was called.
        session: SessionId,
    }

    /// Administrator to location: a new invitation.
    201 Invite -> Invited {
        /// For a node, rather than a user.
        node: bool,
        /// Whom it is for: an e-mail address, the name of a machine.
        name: String,
        /// How long it can be used.
        expires: Duration,
    }

    /// Administrator to location: who has joined.
    202 ListAccounts -> Vec<AccountInfo> {
        /// Nodes, rather than users.
        nodes: bool,
    }

    /// Administrator to location: who is connected as a client.
    203 ListSessions -> Vec<SessionInfo> {}

    /// Administrator to location: forget a user or a node, end its sessions, and its invitations. Answers how many
    /// accounts that was.
    204 Revoke -> u32 {
        /// Id or name of the account.
        who: String,
    }

    /// Administrator to location: change the limits of a user. Answers how many users that was.
    205 SetLimits -> u32 {
        /// Id or name of the user; without, it is the limits of all users without their own.
        #[serde(default)]
        who: Option<String>,
        /// What changes.
        limits: LimitChanges,
    }

    /// Administrator to location: what may users take, and what do they take? The default limits come first.
    206 ListLimits -> Vec<LimitsInfo> {}

    /// The same as [`Revoke`], which says less.
    207 ShowOut -> ShownOut {
        /// Id or name of the account.
        who: String,
    }
}

notices! {
    /// Location to client: a node has come, or has changed.
    101 NodeChanged {
        /// The node as it is now.
        node: NodeInfo,
    }

    /// Location to client: a node has gone.
    102 NodeLeft {
        /// The node.
        node: NodeId,
    }

    /// To the container's owner: its first process has ended, and so everything in it.
    103 ContainerEnded {
        /// The container.
        container: ContainerId,
        /// How it ended.
        exit: Exit,
    }

    /// To the container's owner: a further process has ended.
    104 ProcessEnded {
        /// The container.
        container: ContainerId,
        /// The process.
        process: ProcessId,
        /// How it ended.
        exit: Exit,
    }

    /// To the container's owner: how far the node is with unpacking a layer for it.
    105 UnpackProgress {
        /// The container.
        container: ContainerId,
        /// The layer.
        layer: Digest,
        /// Bytes of the uncompressed tar that are done.
        done: u64,
    }

    /// Node to location: what the node is and has to offer, now. The location puts in the id that it knows the node by.
    106 Capacity {
        /// The node.
        node: NodeInfo,
    }

    /// Node to location, first on each link and before [`Capacity`]: the containers that run on it from before. A node that
    /// says nothing has none.
    #[derive(Default)]
    107 Holding {
        /// The containers.
        containers: Vec<ContainerId>,
        /// The node's agent was started anew: it does not know further processes of theirs, which have ended.
        #[serde(default)]
        adopted: bool,
    }

    /// To the container's owner: the container's node, which was away, is back, and so its streams can be opened again.
    108 ContainerBack {
        /// The container.
        container: ContainerId,
        /// Its further processes have ended with their node's agent.
        #[serde(default)]
        processes_ended: bool,
    }
}

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

/// Reply to [`Invite`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// What lets the bearer in, once.
    pub token: String,
}

/// Reply to [`ShowOut`].
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

/// Reply to [`EnsureImage`].
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

/// Reply to [`RemoveImage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The image.
    pub id: Digest,
    /// Space freed, in bytes.
    pub freed: u64,
}

/// Reply to [`Spawn`].
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
    pub platform: super::image::Platform,
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

/// First frame on every byte stream: what the bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamHeader {
    /// A connection to a TCP port of a container, both ways. Reset if the container refuses it.
    Tunnel {
        /// The container.
        container: ContainerId,
        /// The port inside it.
        port: u16,
    },
    /// A standard stream of a process, one way.
    Stdio {
        /// The container.
        container: ContainerId,
        /// The process, the container's first one if not given.
        process: Option<ProcessId>,
        /// Which one.
        stream: StdioStream,
    },
    /// Client to location: a layer, as chunks (`protocol::chunks`); the location answers with one [`LayerResult`] frame.
    Upload {
        /// The layer.
        layer: Digest,
        /// Where in the uncompressed tar the first chunk begins: what `MissingLayer::offset` said.
        offset: u64,
    },
    /// Node to location: send me this layer, as chunks. Reset if it is not there.
    Fetch {
        /// The layer.
        layer: Digest,
    },
}

/// End of an upload, from the location.
pub type LayerResult = Result<(), Fault>;
