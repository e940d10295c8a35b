//! Calls: from 1, those of clients and of the location to its nodes; from 201, those of administrators.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Call;
use super::replies::{
    AccountInfo, CachedImage, ContainerInfo, Invited, MissingLayers, NodeInfo, Removed,
    SessionInfo, ShownOut, Spawned,
};
use crate::ids::{ContainerId, Digest, NodeId, ProcessId, SessionId};
use crate::protocol::container::{ContainerSpec, ProcessSpec, Started, WindowSize};
use crate::protocol::control::{from_cbor, to_cbor};
use crate::protocol::image::Description;
use crate::protocol::limits::{LimitChanges, LimitsInfo};

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

calls! {
    /// Client to location: which nodes are there?
    1 ListNodes -> Vec<NodeInfo> {}

    /// Client to location: I am going to run or cache this image; which layers do you lack?
    ///
    /// The description is kept for the user once all layers are there. Upload the missing ones with [`StreamHeader::Upload`](super::StreamHeader::Upload).
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
