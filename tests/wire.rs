//! The protocol byte by byte: what one release writes, all later ones must read.
//!
//! `tests/data/messages.txt` has every message as it has ever been written; lines are added and never changed. `tests/data/schema.txt`
//! has every field. With `TF_BLESS=1` both take in what is new, and what was there must still hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tfnz::ids::{ContainerId, Digest, NodeId, ProcessId, SessionId, UserId};
use tfnz::protocol::container::{
    ContainerSpec, Exit, Limits, PrebootFile, ProcessSpec, Started, Stdio, StdioStream, WindowSize,
};
use tfnz::protocol::control::{Message, NO_ID, REPLY, from_cbor, to_cbor};
use tfnz::protocol::frame::{Frame, StreamId};
use tfnz::protocol::handshake::{Answer, Begin, Hello, Refusal, Role, Ticket, Welcome};
use tfnz::protocol::image::{Description, ImageConfig, Layer, Platform, Port};
use tfnz::protocol::messages::*;
use tfnz::protocol::record::Record;

/// Bytes out of hexadecimal digits; spaces divide groups, and what follows `#` in a line explains them.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::chars)
        .filter(|char| !char.is_whitespace())
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn records() {
    for (record, bytes) in [
        (
            Record::Data(Bytes::from_static(b"frames")),
            "00                    # DATA
             66 72 61 6d 65 73     # frames",
        ),
        (
            Record::Ack(0x0102),
            "01                    # ACK
             00 00 00 00 00 00 01 02  # records received",
        ),
        (
            Record::Ping(3),
            "02                    # PING
             00 00 00 00 00 00 00 03  # records received",
        ),
        (
            Record::Pong(4),
            "03                    # PONG
             00 00 00 00 00 00 00 04  # records received",
        ),
        (Record::Close, "04        # CLOSE"),
    ] {
        let bytes = hex(bytes);
        assert_eq!(to_hex(&record.encode()), to_hex(&bytes), "{record:?}");
        assert_eq!(Record::decode(bytes.into()), Ok(record));
    }
}

#[test]
fn frames() {
    for (stream, frame, bytes) in [
        (
            7,
            Frame::Data(Bytes::from_static(b"abc")),
            "00 000003 00000007    # DATA, 3 bytes, stream 7
             61 62 63              # the bytes",
        ),
        (
            7,
            Frame::Window(65536),
            "01 000004 00000007    # WINDOW, 4 bytes, stream 7
             00010000              # credit",
        ),
        (
            0x0102_0304,
            Frame::Open(Bytes::from_static(&[0x18, 0x2a])),
            "02 000002 01020304    # OPEN, 2 bytes, stream
             18 2a                 # header: 42 in CBOR",
        ),
        (7, Frame::Fin, "03 000000 00000007     # FIN, stream 7"),
        (7, Frame::Reset, "04 000000 00000007   # RESET, stream 7"),
        (7, Frame::Stop, "05 000000 00000007    # STOP, stream 7"),
        (7, Frame::Blocked, "06 000000 00000007 # BLOCKED, stream 7"),
    ] {
        let bytes = hex(bytes);
        let (header, payload) = frame.encode(StreamId(stream));
        let encoded = [&header[..], &payload].concat();
        assert_eq!(to_hex(&encoded), to_hex(&bytes), "{frame:?}");
        assert_eq!(
            Frame::decode(&mut bytes.into()),
            Ok((StreamId(stream), frame))
        );
    }
}

#[test]
fn messages_on_the_control_stream() {
    for (message, bytes) in [
        (
            Message {
                kind: ListNodes::KIND,
                id: 9,
                body: to_cbor(&ListNodes {}),
            },
            "00000001              # length of the body
             0001                  # kind: ListNodes
             00000009              # id
             a0                    # no fields",
        ),
        (
            Message {
                kind: REPLY,
                id: 9,
                body: to_cbor::<[NodeInfo]>(&[]),
            },
            "00000001 0000 00000009  # a reply to the call with id 9
             80                    # no nodes",
        ),
        (
            Message {
                kind: 65535,
                id: 9,
                body: to_cbor(&Fault::new(FaultCode::NoNode, "none")),
            },
            "0000001b ffff 00000009  # a fault in answer to the call with id 9
             a2                    # 2 fields
             64 636f6465           # code
             67 6e6f5f6e6f6465     # no_node
             67 6d657373616765     # message
             64 6e6f6e65           # none",
        ),
        (
            Message {
                kind: NodeLeft::KIND,
                id: NO_ID,
                body: Bytes::new(),
            },
            "00000000 0066 00000000  # a notice: no id",
        ),
    ] {
        assert_eq!(
            to_hex(&message.encode()),
            to_hex(&hex(bytes)),
            "{message:?}"
        );
    }
}

/// A value and its bytes as the handshake has them.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, bytes: &str) {
    let bytes = hex(bytes);
    assert_eq!(to_hex(&to_cbor(value)), to_hex(&bytes), "{value:?}");
    assert_eq!(from_cbor::<T>(&bytes).as_ref(), Ok(value));
}

#[test]
fn the_handshake() {
    let mut hello = Hello {
        version: 1,
        role: Role::Client,
        token: None,
    };
    check(
        &hello,
        "a2                        # 2 fields
         67 76657273696f6e 01      # version: 1
         64 726f6c65 66 636c69656e74  # role: client",
    );
    hello.token = Some("t".to_owned());
    hello.role = Role::Node;
    check(
        &hello,
        "a3                        # 3 fields
         67 76657273696f6e 01      # version: 1
         64 726f6c65 64 6e6f6465   # role: node
         65 746f6b656e 61 74       # token: t",
    );
    check(
        &Welcome { version: 1 },
        "a1 67 76657273696f6e 01   # version: 1",
    );
    check(
        &Begin::New {
            agent: "tf".to_owned(),
        },
        "a1 63 6e6577              # new
         a1 65 6167656e74 62 7466  # agent: tf",
    );
    let session: SessionId = "0123456789ABCDEFGHIJKL".parse().expect("valid");
    let secret = [7; 16];
    check(
        &Begin::Resume {
            session: session.clone(),
            ticket: Ticket { secret, attempt: 2 },
            received: 3,
        },
        "a1 66 726573756d65        # resume
         a3                        # 3 fields
         67 73657373696f6e 76 303132333435363738394142434445464748494a4b4c  # session
         66 7469636b6574 a2        # ticket
            66 736563726574 50 07070707070707070707070707070707  # secret
            67 617474656d7074 02   # attempt: 2
         68 7265636569766564 03    # received: 3",
    );
    check(
        &Answer::Started {
            session,
            secret,
            linger: 120,
        },
        "a1 67 73746172746564      # started
         a3                        # 3 fields
         67 73657373696f6e 76 303132333435363738394142434445464748494a4b4c  # session
         66 736563726574 50 07070707070707070707070707070707  # secret
         66 6c696e676572 18 78     # linger: 120",
    );
    check(
        &Answer::Resumed { received: 3 },
        "a1 67 726573756d6564 a1 68 7265636569766564 03  # resumed, received: 3",
    );
    check(
        &Answer::Refused(Refusal::SessionGone),
        "a1 67 72656675736564 6c 73657373696f6e5f676f6e65  # refused: session_gone",
    );
    check(
        &Answer::Refused(Refusal::BadTicket),
        "a1 67 72656675736564 6a 6261645f7469636b6574  # refused: bad_ticket",
    );
    check(
        &Answer::Refused(Refusal::OutOfStep),
        "a1 67 72656675736564 6b 6f75745f6f665f73746570  # refused: out_of_step",
    );
    // What a later version may say.
    let newer = hex("a1 67 72656675736564 63 6e6577");
    assert_eq!(from_cbor(&newer), Ok(Answer::Refused(Refusal::Unknown)));
    let newer = to_cbor(&Value::Map(vec![
        (Value::from("version"), Value::from(9)),
        (Value::from("news"), Value::from(true)),
    ]));
    assert_eq!(from_cbor(&newer), Ok(Welcome { version: 9 }));
}

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
struct Sample {
    name: String,
    body: Bytes,
    reads: fn(&[u8]) -> Result<(), String>,
}

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn add<T: Serialize + DeserializeOwned + PartialEq + Debug>(
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
fn samples() -> Vec<Sample> {
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
            id: session,
            user: UserId::try_from(node.to_string()).expect("valid"),
            agent: "agent".to_owned(),
            since: 1,
            containers: 2,
        }],
    );
    samples.call(
        &Revoke {
            who: "name".to_owned(),
        },
        &1,
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

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// Compares lines with those of a file, to which `TF_BLESS=1` adds new ones. Returns the lines that the file had.
fn bless(name: &str, lines: &BTreeSet<String>) -> BTreeSet<String> {
    let old = std::fs::read_to_string(data(name)).unwrap_or_default();
    let old: BTreeSet<String> = old.lines().map(str::to_owned).collect();
    let new: Vec<_> = lines.difference(&old).collect();
    if std::env::var_os("TF_BLESS").is_some() {
        let all: Vec<_> = old.union(lines).map(String::as_str).collect();
        std::fs::write(data(name), all.join("\n") + "\n").expect("the file can be written");
    } else {
        assert!(
            new.is_empty(),
            "not in {name}, TF_BLESS=1 adds them: {new:#?}"
        );
    }
    old
}

#[test]
fn every_message_is_read_as_it_was_ever_written() {
    let samples = samples();
    for (kind, name) in CALLS.iter().chain(NOTICES) {
        let title = format!("{kind} {name}");
        assert!(samples.iter().any(|sample| sample.name == title), "{title}");
    }
    let lines = samples
        .iter()
        .map(|sample| format!("{}: {}", sample.name, to_hex(&sample.body)));
    let old = bless("messages.txt", &lines.collect());
    for line in old {
        let (name, bytes) = line.split_once(": ").expect("a name, a colon, bytes");
        let Some(sample) = samples.iter().find(|sample| sample.name == name) else {
            panic!("{name} has disappeared: mark it as removed and keep its number")
        };
        assert_eq!((sample.reads)(&hex(bytes)), Ok(()), "{name}");
    }
}

/// Adds a line for each field in `value`, with a question mark behind those that a message may lack.
fn fields(path: &str, value: &Value, sample: &Sample, whole: &Value, lines: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Integer(_) => "integer",
        Value::Bytes(_) => "bytes",
        Value::Float(_) => "float",
        Value::Text(_) => "text",
        Value::Bool(_) => "bool",
        Value::Array(items) => {
            for item in items.iter().take(1) {
                fields(&format!("{path}[]"), item, sample, whole, lines);
            }
            "array"
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                let key = key.as_text().expect("fields have names");
                let mark = if reads_without(sample, whole, path, key) {
                    "?"
                } else {
                    ""
                };
                fields(&format!("{path}.{key}{mark}"), value, sample, whole, lines);
            }
            "map"
        }
        _ => "null",
    };
    lines.insert(format!("{path}: {kind}"));
}

/// Whether the message is still read when the field `key` of the map at `path` is taken out.
fn reads_without(sample: &Sample, whole: &Value, path: &str, key: &str) -> bool {
    let mut value = whole.clone();
    let mut at = &mut value;
    for step in path[sample.name.len()..]
        .replace("[]", ".[]")
        .split('.')
        .skip(1)
    {
        at = match at {
            Value::Array(items) => &mut items[0],
            Value::Map(entries) => {
                let name = step.trim_end_matches('?');
                let entry = entries
                    .iter_mut()
                    .find(|(key, _)| key.as_text() == Some(name));
                &mut entry.expect("it was found before").1
            }
            _ => unreachable!("only these have parts"),
        };
    }
    let Value::Map(entries) = at else {
        unreachable!("only maps have fields");
    };
    entries.retain(|(name, _)| name.as_text() != Some(key));
    (sample.reads)(&to_cbor(&value)).is_ok()
}

#[test]
fn fields_are_added_and_never_changed() {
    let mut lines = BTreeSet::new();
    for sample in samples() {
        let value: Value = from_cbor(&sample.body).expect("it was just written");
        fields(&sample.name, &value, &sample, &value, &mut lines);
    }
    let old = bless("schema.txt", &lines);
    let gone: Vec<_> = old.difference(&lines).collect();
    assert!(gone.is_empty(), "older peers rely on {gone:#?}");
    let known = |line: &str| {
        let message = line.split(['.', ':', '[']).next();
        old.iter()
            .any(|old| old.split(['.', ':', '[']).next() == message)
    };
    for line in lines.difference(&old).filter(|line| known(line)) {
        assert!(line.contains('?'), "older peers do not send {line}");
    }
}

#[test]
fn newer_messages_are_read() {
    for sample in samples() {
        let Ok(Value::Map(mut entries)) = from_cbor(&sample.body) else {
            continue;
        };
        if sample.name.starts_with(|char: char| char.is_ascii_digit()) {
            let lines = sample.name.contains("reply");
            entries.push((Value::from("news"), Value::from(lines)));
            let bytes = to_cbor(&Value::Map(entries));
            assert_eq!((sample.reads)(&bytes), Ok(()), "{}", sample.name);
        }
    }
    let newer = to_cbor(&Value::Map(vec![
        (Value::from("code"), Value::from("too_tired")),
        (Value::from("message"), Value::from("try again")),
    ]));
    let fault: Fault = from_cbor(&newer).expect("an unknown code is read as such");
    assert_eq!(fault.code, FaultCode::Unknown);
}

#[test]
fn broken_messages_are_errors_and_nothing_worse() {
    for sample in samples() {
        let body = sample.body.to_vec();
        for end in 0..body.len() {
            assert!(
                (sample.reads)(&body[..end]).is_err(),
                "{} to {end}",
                sample.name
            );
        }
        for at in 0..body.len() {
            for bit in 0..8 {
                let mut flipped = body.clone();
                flipped[at] ^= 1 << bit;
                // Many flips make another valid message; none may panic.
                let _ = (sample.reads)(&flipped);
            }
        }
    }
}

mod random {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_are_never_worse_than_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for sample in samples() {
                let _ = (sample.reads)(&bytes);
            }
            let _ = from_cbor::<Hello>(&bytes);
            let _ = from_cbor::<Begin>(&bytes);
            let _ = from_cbor::<Answer>(&bytes);
            let _ = Record::decode(bytes.into());
        }

        #[test]
        fn messages_survive(
            path in ".*",
            content in proptest::collection::vec(any::<u8>(), 0..1000),
            memory in any::<Option<u64>>(),
            sleep in any::<bool>(),
            env in proptest::collection::vec(".*", 0..5),
        ) {
            let mut samples = Samples::default();
            samples.add(String::new(), &ContainerSpec {
                env,
                files: vec![PrebootFile { path, mode: 0o600, content }],
                sleep,
                limits: Limits { memory, ..Limits::default() },
                ..ContainerSpec::default()
            });
        }
    }
}
