//! What an image is, apart from its layers' content: the part that travels in messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// An image without its content: which layers, made for which machine, started how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Digest of the image's configuration: what Docker shows as the image id.
    pub id: Digest,
    /// The machine that it was made for.
    pub platform: Platform,
    /// Layers, the lowest first.
    pub layers: Vec<Layer>,
    /// How a container of it starts unless told otherwise.
    pub config: ImageConfig,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the uncompressed tar.
    pub digest: Digest,
    /// Length of the uncompressed tar in bytes, where the source knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Operating system and processor, in the names that the OCI specification takes from Go (`linux/amd64`, `linux/arm64/v8`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, for all images that a node can run.
    pub os: String,
    /// `amd64`, `arm64`, `386`, ...
    pub architecture: String,
    /// Finer than the architecture, as in `arm/v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on the processor that this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    /// Whether a machine of platform `self` runs what was made for `image`.
    #[must_use]
    pub fn runs(&self, image: &Platform) -> bool {
        self.os == image.os
            && (self.architecture == image.architecture
                || (self.architecture == "amd64" && image.architecture == "386"))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// The part of an image's configuration that matters to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Environment, `NAME=value` each.
    pub env: Vec<String>,
    /// Start of the command line, before `cmd` or what the user gives in place of it.
    pub entrypoint: Vec<String>,
    /// The rest of the command line, which the user can replace.
    pub cmd: Vec<String>,
    /// Working directory; empty means `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    pub user: String,
    /// Ports that the image's author says it listens on.
    pub exposed_ports: BTreeSet<Port>,
    /// Directories that the image's author wants kept outside the root file system.
    pub volumes: BTreeSet<String>,
    /// Signal that asks the first process to end; empty means `SIGTERM`.
    pub stop_signal: String,
    /// Free text about the image.
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// Numbers of the exposed TCP ports, in ascending order.
    pub fn exposed_tcp(&self) -> impl Iterator<Item = u16> + '_ {
        self.exposed_ports
            .iter()
            .filter(|port| port.transport == Transport::Tcp)
            .map(|port| port.number)
    }
}

/// A port of a container, written `80/tcp` or `53/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Port {
    /// The number, never 0.
    pub number: u16,
    /// What is spoken on it.
    pub transport: Transport,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Text that is not a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a port: expected a number from 1 to 65535, then `/tcp`, `/udp` or nothing")]
pub struct InvalidPort(String);

impl Port {
    /// TCP port `number`.
    #[must_use]
    pub const fn tcp(number: u16) -> Self {
        Self {
            number,
            transport: Transport::Tcp,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        };
        write!(f, "{}/{transport}", self.number)
    }
}

impl FromStr for Port {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let invalid = || InvalidPort(text.to_owned());
        let (number, transport) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Transport::Tcp),
            Some((number, "udp")) => (number, Transport::Udp),
            Some((number, "sctp")) => (number, Transport::Sctp),
            Some(_) => return Err(invalid()),
        };
        match number.parse() {
            Ok(0) | Err(_) => Err(invalid()),
            Ok(number) => Ok(Self { number, transport }),
        }
    }
}

impl TryFrom<String> for Port {
    type Error = InvalidPort;

    fn try_from(text: String) -> Result<Self, InvalidPort> {
        text.parse()
    }
}

impl From<Port> for String {
    fn from(port: Port) -> Self {
        port.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_parse_as_docker_writes_them() {
        assert_eq!("80/tcp".parse(), Ok(Port::tcp(80)));
        assert_eq!("80".parse(), Ok(Port::tcp(80)));
        assert_eq!(
            "53/udp".parse(),
            Ok(Port {
                number: 53,
                transport: Transport::Udp
            })
        );
        for text in ["", "0", "65536", "80/xyz", "/tcp", "-1", "80/tcp/tcp"] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_64_bit_pc_runs_32_bit_images_and_no_others() {
        let platform = |architecture: &str| Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        };
        assert!(platform("amd64").runs(&platform("386")));
        assert!(!platform("386").runs(&platform("amd64")));
        assert!(!platform("amd64").runs(&platform("arm64")));
    }
}
