//! What is said between processes of different versions.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;

use super::super::control::{Create, Exec, Progress, Report, Request, Start};
use super::super::custody::{Handover, Keep, Place, VERSION};
use super::*;
use crate::ids::{ContainerId, Digest};
use crate::node::engine::Program;
use crate::protocol::container::{Limits, PrebootFile, WindowSize};

/// Adds what a value is as a message to the rest.
fn add(bytes: &mut Vec<u8>, value: &impl Serialize) {
    ciborium::into_writer(value, bytes).expect("written to memory");
}

fn start() -> Start {
    let terminal = WindowSize {
        rows: 1,
        columns: 2,
    };
    Start::new(Program::default(), Some(terminal), [true, false, true])
}

fn requests(bytes: &mut Vec<u8>) {
    let create = Create {
        name: "name".to_owned(),
        hostname: "host".to_owned(),
        cgroup: "/cgroup".to_owned(),
        first_id: 1,
        layers: vec!["layer".into()],
        files: vec![PrebootFile {
            path: "/path".to_owned(),
            content: vec![1],
            mode: 0o644,
        }],
        resolv_conf: "resolv".to_owned(),
        limits: Limits::default(),
        start: start(),
    };
    let exec = Exec {
        cgroup: "/cgroup".to_owned(),
        start: start(),
    };
    let keep = Keep {
        name: "name".to_owned(),
        process: Some(2),
        layers: vec!["layer".into()],
        present: vec![true, false],
        record: vec![3].into(),
    };
    let (request, name) = (4, "name".to_owned());
    let (create, exec, keep) = (Box::new(create), Box::new(exec), Box::new(keep));
    add(bytes, &Request::Create { request, create });
    add(bytes, &Request::Exec { request, exec });
    add(bytes, &Request::Keep { request, keep });
    add(bytes, &Request::Lease(Duration::from_secs(5)));
    for place in [
        Place::Process,
        Place::Progress,
        Place::Go,
        Place::Stdin,
        Place::Stdout,
        Place::Stderr,
        Place::Terminal,
    ] {
        bytes.push(place as u8);
        let name = name.clone();
        add(bytes, &Request::LetGo { name, place });
    }
    add(bytes, &Request::Forget { request, name });
}

fn answers(bytes: &mut Vec<u8>) {
    add(bytes, &Progress::Network);
    add(bytes, &Progress::Terminal);
    let kept = Kept {
        name: "name".to_owned(),
        process: Some(2),
        status: Some(Status::Signal(9)),
        present: vec![true, false],
        record: vec![3].into(),
    };
    let (request, process, status) = (4, 5, Status::Code(6));
    add(bytes, &Handover::Kept(kept));
    add(bytes, &Handover::End);
    add(bytes, &Report::Made { request, process });
    add(bytes, &Report::Done { request });
    add(bytes, &Report::HelperEnded { request });
    add(bytes, &Report::Ended { process, status });
    let problem = super::super::control::Problem::BadSpec("bad".to_owned());
    add(bytes, &Report::Failed { request, problem });
}

fn records(bytes: &mut Vec<u8>) {
    let id = "0".repeat(22);
    add(
        bytes,
        &Record {
            id: ContainerId::try_from(id).expect("an id"),
            program: Program::default(),
            layers: vec![Digest::new([1; 32])],
            first_id: 2,
            ip: Ipv4Addr::LOCALHOST,
            interface: 3,
            memory_limited: true,
        },
    );
    add(bytes, &Legacy::sample());
}

#[test]
fn what_is_said_changes_with_the_version_only() {
    let mut bytes = Vec::new();
    requests(&mut bytes);
    answers(&mut bytes);
    records(&mut bytes);
    let fingerprint = &Digest::of(&bytes).hex()[..16];
    assert_eq!(
        (VERSION, fingerprint),
        (2, "51eefe870744b36b"),
        "if an engine and a shim from before and after this change would misunderstand each other, raise VERSION; then \
         put the new fingerprint here"
    );
}
