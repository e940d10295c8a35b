//! Notices, from 101.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Notice;
use super::replies::NodeInfo;
use crate::ids::{ContainerId, Digest, NodeId, ProcessId};
use crate::protocol::container::Exit;
use crate::protocol::control::{from_cbor, to_cbor};

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
