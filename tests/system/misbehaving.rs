//! Connections through the location of another machine that misbehave: others go on, and memory stays bounded.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::fixture::Fixture;
use super::office::{Machines, Office, able};
use crate::common::Program;
use crate::common::server::Logged;

/// Most bytes that a connection takes for somebody who does not read: the windows of the tunnel, and the buffers of sockets.
const TAKEN: usize = 64 << 20;

/// Most memory that twenty connections which misbehave may cost at either end, in kilobytes.
const GROWTH: u64 = 64 << 10;

/// Resident memory of a program, in kilobytes.
fn resident(program: &mut Logged) -> u64 {
    let id = program.running().child().id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.expect("Linux says it")
}

#[test]
fn connections_that_misbehave_leave_the_others_alone() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let mut office = Office::open(&machines);
    let ann = office.user("ann@example");
    let image = Fixture::busybox()
        .file("bin/flood", 0o755, b"#!/bin/sh\nexec yes\n")
        .file("bin/deaf", 0o755, b"#!/bin/sh\nexec sleep 1000\n")
        .file("srv/page", 0o644, b"a page\n")
        .config(
            "Cmd",
            json!([
                "sh",
                "-c",
                "nc -ll -p 81 -e flood & nc -ll -p 82 -e deaf & httpd -f -p 80 -h /srv"
            ]),
        )
        .save();
    let ports = ["-p", "8080:80", "-p", "8081:81", "-p", "8082:82"];
    let mut run = ann.start(&[&ports[..], &[image.path()]].concat());
    for port in ["80", "81", "82"] {
        run.says(&format!(" -> {port}/tcp"));
    }
    let page = || {
        let get = || {
            let words = ["-s", "--max-time", "60", "http://localhost:8080/page"];
            Program::new("curl").args(words).run()
        };
        assert_eq!(machines.laptop.run(get).code(0).stdout, "a page\n");
    };
    page();
    let before = (resident(&mut run), resident(&mut office.server));

    let dial = |port: u16| {
        let connect = move || TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        machines.laptop.run(connect)
    };
    let mut misbehaving = Vec::new();
    for number in 0..10 {
        // Nobody reads on; some have nothing more to say, either.
        let mut stalled = dial(8081);
        stalled.read_exact(&mut [0; 2]).expect("it has begun");
        if number % 2 == 0 {
            stalled.shutdown(Shutdown::Write).expect("it is open");
        }
        misbehaving.push(stalled);
        // Given up with much of it unread, which resets it.
        dial(8081).read_exact(&mut [0; 2]).expect("it has begun");
        // Sends more and more to somebody who does not listen.
        let mut flooding = dial(8082);
        flooding
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("not zero");
        let mut taken = 0;
        while let Ok(length) = flooding.write(&[7; 1 << 14]) {
            taken += length;
            assert!(taken < TAKEN, "{taken} bytes for nobody");
        }
        misbehaving.push(flooding);
        page();
    }
    let after = (resident(&mut run), resident(&mut office.server));
    println!("memory in kB, of tf and the location: {before:?}, then {after:?}");
    assert!(
        after.0 < before.0 + GROWTH && after.1 < before.1 + GROWTH,
        "{before:?} {after:?}"
    );
    drop(misbehaving);
    page();
    run.running().signal(Signal::SIGINT);
    run.running().ended();
}
