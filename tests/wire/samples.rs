//! A value of every message there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tfnz::ids::{ContainerId, Digest, NodeId, ProcessId, SessionId, UserId};
use tfnz::protocol::container::{
    ContainerSpec, Exit, Limits, PrebootFile, ProcessSpec, Started, Stdio, StdioStream, WindowSize,
};
use tfnz::protocol::control::{from_cbor, to_cbor};
use tfnz::protocol::image::{Description, ImageConfig, Layer, Platform, Port};
use tfnz::protocol::limits::{Limit, LimitChanges, LimitInfo, LimitsInfo};
use tfnz::protocol::messages::*;

/// An image with something in every field.
pub(crate) fn description() -> Description {
    Description {
        id: Digest::of(b"image"),
        platform: Platform {
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            variant: Some("v8".to_owned()),
        },
        layers: vec![Layer {
            digest: Digest::of(b"layer"),
            size: Some(1000),
        }],
        config: ImageConfig {
            env: vec!["A=1".to_owned()],
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["cmd".to_owned()],
            working_dir: "/work".to_owned(),
            user: "1:2".to_owned(),
            exposed_ports: BTreeSet::from([Port::tcp(80)]),
            volumes: BTreeSet::from(["/data".to_owned()]),
            stop_signal: "SIGTERM".to_owned(),
            labels: BTreeMap::from([("l".to_owned(), "v".to_owned())]),
        },
    }
}

/// One message or reply: its name, its value in CBOR, and a way to read it.
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) body: Bytes,
    pub(super) reads: fn(&[u8]) -> Result<(), String>,
}

#[derive(Default)]
pub(super) struct Samples(pub(super) Vec<Sample>);

impl Samples {
    /// Adds a value that must survive its bytes.
    pub(super) fn add<T: Serialize + DeserializeOwned + PartialEq + Debug>(
        &mut self,
        name: String,
        value: &T,
    ) {
        let body = to_cbor(value);
        assert_eq!(from_cbor::<T>(&body).as_ref(), Ok(value), "{name}");
        let reads = |bytes: &[u8]| from_cbor::<T>(bytes).map(drop);
        self.0.push(Sample { name, body, reads });
    }

    fn call<C: Call + PartialEq + Debug>(&mut self, call: &C, reply: &C::Reply)
    where
        C::Reply: PartialEq + Debug,
    {
        let name = name_of(CALLS, C::KIND);
        self.add(format!("{} {name}", C::KIND), call);
        self.add(format!("{} {name} reply", C::KIND), reply);
    }

    fn notice<N: Notice + PartialEq + Debug>(&mut self, notice: &N) {
        let name = name_of(NOTICES, N::KIND);
        self.add(format!("{} {name}", N::KIND), notice);
    }
}

fn name_of(table: &[(u16, &'static str)], kind: u16) -> &'static str {
    let row = table.iter().find(|(number, _)| *number == kind);
    row.expect("each message is in its table").1
}

/// A value of every message, with something in every field.
#[allow(clippy::too_many_lines, reason = "a list")]
pub(super) fn samples() -> Vec<Sample> {
    let mut samples = Samples::default();
    let id = "0123456789ABCDEFGHIJKL".to_owned();
    let container = ContainerId::try_from(id.clone()).expect("valid");
    let process = ProcessId::try_from(id.clone()).expect("valid");
    let node = NodeId::try_from(id).expect("valid");
    let layer = Digest::of(b"layer");
    let second = Duration::new(1, 2);
    let size = WindowSize {
        rows: 24,
        columns: 80,
    };
    let stdio = Stdio {
        stdin: true,
        output: true,
        terminal: Some(size),
    };
    let started = Started {
        ip: [10, 0, 0, 2].into(),
        unpack: second,
        start: second,
        resumable: true,
    };
    let info = NodeInfo {
        id: node.clone(),
        hostname: "host".to_owned(),
        platform: description().platform,
        cpus: 2,
        load: 0.5,
        memory: 1 << 33,
        memory_free: 1 << 32,
        disk_free: 1 << 40,
        containers: 3,
        mean_start: second,
    };
    let spec = ContainerSpec {
        env: vec!["A=1".to_owned()],
        entrypoint: Some(vec!["/entry".to_owned()]),
        command: Some(vec!["cmd".to_owned()]),
        user: Some("root".to_owned()),
        working_dir: Some("/".to_owned()),
        files: vec![PrebootFile {
            path: "/f".to_owned(),
            mode: 0o644,
            content: vec![1, 2],
        }],
        sleep: true,
        limits: Limits {
            memory: Some(1),
            millicpus: Some(2),
            pids: Some(3),
        },
        stdio,
    };
    let name = "name".to_owned();
    samples.call(&ListNodes {}, &vec![info.clone()]);
    samples.call(
        &EnsureImage {
            description: description(),
            names: vec![name.clone()],
            keep: true,
        },
        &MissingLayers {
            missing: vec![MissingLayer {
                layer: description().layers[0].clone(),
                offset: 5,
            }],
        },
    );
    samples.call(&DescribeImage { name: name.clone() }, &Some(description()));
    samples.call(
        &ListImages {},
        &vec![CachedImage {
            description: description(),
            names: vec![name.clone()],
            size: 1,
            unique: 2,
            stored: vec![4],
            kept: true,
            last_used: 3,
        }],
    );
    samples.call(
        &RemoveImage { name },
        &Removed {
            id: layer,
            freed: 7,
        },
    );
    samples.call(
        &Spawn {
            container: container.clone(),
            node: Some(node.clone()),
            image: layer,
            spec: spec.clone(),
        },
        &Spawned {
            node: node.clone(),
            started: started.clone(),
        },
    );
    let image = description();
    samples.call(
        &Create {
            container: container.clone(),
            image,
            spec,
        },
        &started,
    );
    samples.call(
        &Wake {
            container: container.clone(),
        },
        &(),
    );
    samples.call(
        &Destroy {
            container: container.clone(),
        },
        &(),
    );
    samples.call(
        &Exec {
            container: container.clone(),
            process: process.clone(),
            spec: ProcessSpec {
                args: vec!["sh".to_owned()],
                env: vec!["A=1".to_owned()],
                user: Some("root".to_owned()),
                working_dir: Some("/".to_owned()),
                stdio,
            },
        },
        &(),
    );
    let some = Some(process.clone());
    samples.call(
        &Signal {
            container: container.clone(),
            process: some.clone(),
            signal: 15,
        },
        &(),
    );
    samples.call(
        &Resize {
            container: container.clone(),
            process: some.clone(),
            size,
        },
        &(),
    );
    samples.call(
        &WaitTcp {
            container: container.clone(),
            port: 80,
            timeout: second,
        },
        &(),
    );
    samples.call(
        &DropLayers {
            layers: vec![layer],
        },
        &(),
    );
    let session = SessionId::try_from(node.to_string()).expect("valid");
    samples.call(
        &ListContainers {},
        &vec![ContainerInfo {
            id: container.clone(),
            image: layer,
            image_name: Some("name".to_owned()),
            node: node.clone(),
            hostname: "host".to_owned(),
            session: session.clone(),
            since: 1,
        }],
    );
    samples.call(
        &Stop {
            container: "0123".to_owned(),
        },
        &container,
    );
    samples.call(
        &Invite {
            node: true,
            name: "name".to_owned(),
            expires: second,
        },
        &Invited {
            token: "token".to_owned(),
        },
    );
    samples.call(
        &ListAccounts { nodes: true },
        &vec![AccountInfo {
            id: node.to_string(),
            key: "key".to_owned(),
            name: "name".to_owned(),
            joined: 1,
        }],
    );
    samples.call(
        &ListSessions {},
        &vec![SessionInfo {
            id: session.clone(),
            user: UserId::try_from(node.to_string()).expect("valid"),
            agent: "agent".to_owned(),
            since: 1,
            containers: 2,
        }],
    );
    samples.call(&Continue { session }, &vec![container.clone()]);
    samples.call(
        &Revoke {
            who: "name".to_owned(),
        },
        &1,
    );
    samples.call(
        &SetLimits {
            who: Some("name".to_owned()),
            limits: LimitChanges {
                containers: Some(Limit::AtMost(1)),
                memory: Some(Limit::Unlimited),
                stored: Some(Limit::Default),
                sessions: Some(Limit::AtMost(2)),
            },
        },
        &1,
    );
    samples.call(
        &ShowOut {
            who: "name".to_owned(),
        },
        &ShownOut {
            accounts: 1,
            invitations: 2,
        },
    );
    let limit = LimitInfo {
        limit: Some(3),
        own: true,
        used: 2,
    };
    samples.call(
        &ListLimits {},
        &vec![LimitsInfo {
            id: Some("id".to_owned()),
            name: Some("name".to_owned()),
            containers: limit,
            memory: limit,
            stored: limit,
            sessions: limit,
        }],
    );
    samples.notice(&NodeChanged { node: info.clone() });
    samples.notice(&NodeLeft { node });
    samples.notice(&ContainerEnded {
        container: container.clone(),
        exit: Exit::Code(1),
    });
    samples.notice(&ProcessEnded {
        container: container.clone(),
        process,
        exit: Exit::Signal(9),
    });
    samples.notice(&UnpackProgress {
        container: container.clone(),
        layer,
        done: 1,
    });
    samples.notice(&Capacity { node: info });
    samples.notice(&Holding {
        containers: vec![container.clone()],
        adopted: true,
    });
    samples.notice(&ContainerBack {
        container: container.clone(),
        processes_ended: true,
    });
    for exit in [
        Exit::Code(0),
        Exit::Signal(9),
        Exit::OutOfMemory,
        Exit::NotFound("sh".to_owned()),
        Exit::NotExecutable("sh".to_owned()),
        Exit::Lost("why".to_owned()),
    ] {
        samples.add(variant("exit", &exit), &exit);
    }
    for header in [
        StreamHeader::Tunnel {
            container: container.clone(),
            port: 80,
        },
        StreamHeader::Stdio {
            container,
            process: some,
            stream: StdioStream::Stdout,
            position: Some(7),
        },
        StreamHeader::Upload { layer, offset: 1 },
        StreamHeader::Fetch { layer },
    ] {
        samples.add(variant("stream", &header), &header);
    }
    samples.0
}

/// Name of the sample of one variant of an enum.
fn variant(prefix: &str, value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|char: char| !char.is_alphanumeric());
    format!("{prefix} {}", &text[..end.unwrap_or(text.len())])
}
