//! What stands at the start and the end of byte streams.

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::ids::{ContainerId, Digest, ProcessId};
use crate::protocol::container::StdioStream;

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
    /// A standard stream of a process, one way. The receiver says the other way how much of it has arrived, if `position` is
    /// there: as big-endian numbers of 64 bits, and once at the start if it is the node. A stream that broke can then be opened
    /// again, and goes on where it was.
    Stdio {
        /// The container.
        container: ContainerId,
        /// The process, the container's first one if not given.
        process: Option<ProcessId>,
        /// Which one.
        stream: StdioStream,
        /// How many bytes of it the client has received, or sent, until now. A node that was there from the start goes on from
        /// what the client has received or it has received itself, another one from here.
        #[serde(default)]
        position: Option<u64>,
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
