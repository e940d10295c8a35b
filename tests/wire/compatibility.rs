//! What one release writes, all later ones must read.
//!
//! `tests/data/messages.txt` has every message as it has ever been written; lines are added and never changed. `tests/data/schema.txt`
//! has every field. With `TF_BLESS=1` both take in what is new, and what was there must still hold.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ciborium::Value;
use tfnz::protocol::control::{from_cbor, to_cbor};
use tfnz::protocol::messages::{CALLS, Fault, FaultCode, NOTICES};

use super::samples::{Sample, samples};
use super::{hex, to_hex};

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
    use proptest::prelude::*;
    use tfnz::protocol::container::{ContainerSpec, Limits, PrebootFile};
    use tfnz::protocol::handshake::{Answer, Begin, Hello};
    use tfnz::protocol::record::Record;

    use super::super::samples::Samples;
    use super::*;

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
