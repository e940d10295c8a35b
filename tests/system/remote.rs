//! A location on a server, a laptop and a second node, which work together.

use std::io::Read as _;
use std::process::{ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tfnz::ids::Digest;

use super::office::{Machines, Office, able, parsed, serve_node};
use crate::common::docker::daemon;
use crate::common::images::{Compression, layer, saved};
use crate::common::server::{Logged, location};
use crate::common::{PATIENCE, Program, eventually, tf, tfcache};
use crate::system::fixture::can_run;

/// How long the link stays cut: longer than it takes to notice.
const CUT: Duration = Duration::from_secs(14);

/// The last number of the long output that is downloaded.
const LAST: u32 = 6_000_000;

/// How much of a download has come when the link is cut.
const BEGUN: usize = 1 << 20;

#[test]
fn a_laptop_works_with_a_server_and_its_nodes() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let mut office = Office::open(&machines);
    let (ann, bob) = (office.user("ann@example"), office.user("bob@example"));

    // The laptop has Docker, and nobody else.
    let Some(docker) = daemon() else { return };
    let nginx = docker.nginx();
    let cache = tfcache().args([nginx]).env("TF_HOME", ann.home.path());
    let cache = cache.env("DOCKER_HOST", docker.host());
    machines.laptop.run(move || cache.run()).code(0);
    let run = ann.program(&["--offset", "8000", nginx]);
    let mut run = ann.start_program(run.env("DOCKER_HOST", docker.host()));
    run.says("http://localhost:8080");
    let page = machines.laptop.run(|| {
        Program::new("curl")
            .args(["-s", "http://localhost:8080"])
            .run()
    });
    assert_eq!(page.code(0).stdout, "hello from nginx\n");
    // All was sent before.
    assert!(!run.log().contains("sent"), "{}", run.log());
    let containers = ann.list("ps");
    assert_eq!(containers.len(), 1, "{containers:#?}");
    let id = containers[0]["id"].as_str().expect("an id").to_owned();
    let name = containers[0]["image_name"].as_str().expect("a name");
    assert!(name.ends_with(nginx), "{name}");
    let nodes = ann.list("resources");
    assert_eq!(nodes.len(), 1, "{nodes:#?}");
    assert_eq!(nodes[0]["id"], containers[0]["node"]);

    // Another user sees none of it and cannot end it.
    assert!(bob.list("ps").is_empty());
    bob.tf(&["stop", &id]).code(1).says(&["no container"]);
    assert_eq!(ann.list("ps").len(), 1);
    ann.tf(&["stop", &id[..6]]).code(0);
    run.ends_with(137);

    let invitation = office.invite(&["--node", "rack1", "--address", "203.0.113.1"]);
    let node_state = tempfile::tempdir().expect("a directory");
    let mut node = serve_node(&machines, node_state.path(), &["--join", &invitation]);
    node.says("connected to the location office");
    eventually(PATIENCE, || {
        (ann.list("resources").len() == 2).then_some(())
    });
    node.stop();
    eventually(PATIENCE, || {
        (ann.list("resources").len() == 1).then_some(())
    });
    let mut node = serve_node(&machines, node_state.path(), &[]);
    node.says("connected to the location office");
    eventually(PATIENCE, || {
        (ann.list("resources").len() == 2).then_some(())
    });

    // The location still waits for the link of one that was killed when it comes again.
    node.kill();
    let mut node = serve_node(&machines, node_state.path(), &[]);
    node.says("connected to the location office");
    // Once of the one that was asked to stop, and once of the one that was killed.
    eventually(PATIENCE, || {
        let gone = office.server.log().matches("has gone").count();
        (gone == 2).then_some(())
    });
    assert_eq!(ann.list("resources").len(), 2);

    let mut run = ann.start(&["--offset", "8000", "hello"]);
    run.says("http://localhost:8080");
    office.administer(&["revoke", "ann@example"]).code(0);
    run.ends_with(125);
    ann.tf(&["ps"]).code(1);
    let sessions = office.administer(&["sessions", "--json"]);
    assert!(parsed(&sessions.code(0)).is_empty());

    office.server.stop();
    node.says("cannot be reached");
    node.stop();
}

#[test]
fn a_download_outlives_a_cut_of_the_link() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let office = Office::open(&machines);
    let ann = office.user("ann@example");
    let archive = ann.home.path().join("image.tar");
    let busybox = std::fs::read("/bin/busybox").expect("busybox");
    let layers = [layer(&[("bin/busybox", &busybox)])];
    let image = saved(&layers, Compression::Plain, "linux/amd64", "box:1");
    std::fs::write(&archive, image.to_tar()).expect("it is writable");

    let last = LAST.to_string();
    let mut program = ann.program(&[
        "run",
        &archive.display().to_string(),
        "/bin/busybox",
        "seq",
        &last,
    ]);
    program
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut run = machines.laptop.run(move || Logged::start(program));
    let output = run.running().child().stdout.take().expect("it is piped");
    let mut output = output;
    let mut received = vec![0; BEGUN];
    output.read_exact(&mut received).expect("it has begun");

    // What is on its way when nobody reads is bounded, so most of it is still to come.
    machines.server.shell("ip link set laptop down");
    let reading = thread::spawn(move || rest(output, received));
    run.says("link down");
    thread::sleep(CUT);
    assert!(!reading.is_finished(), "{}", run.log());
    machines.server.shell("ip link set laptop up");
    run.says("link up again");
    let received = reading.join().expect("it reads to the end");
    run.ends_with(0);

    let expected: Vec<u8> = (1..=LAST)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect();
    assert_eq!(received.len(), expected.len());
    assert_eq!(Digest::of(&received), Digest::of(&expected));
}

#[test]
fn a_node_serves_the_location_that_it_joined_last() {
    if !can_run() {
        return;
    }
    let state = tempfile::tempdir().expect("a directory");
    let serve = |arguments: &[&str]| {
        let node = tf().args(["node", "serve"]).args(arguments);
        Logged::start(node.env("TF_STATE", state.path()))
    };
    let mut locations = Vec::new();
    for name in ["first", "second"] {
        let home = tempfile::tempdir().expect("a directory");
        let arguments = ["--no-node", "--listen", "127.0.0.1:0", "--name", name];
        let (server, _) = location(home.path(), &arguments);
        let invite = tf().args(["location", "invite", "--node"]);
        let invited = invite.env("TF_STATE", home.path()).run().code(0);
        let mut node = serve(&["--join", invited.stdout.trim()]);
        node.says(&format!("a node of {name}"));
        node.running().signal(Signal::SIGTERM);
        node.running().ended();
        locations.push((home, server));
    }
    let mut node = serve(&[]);
    node.says("a node of second");
    node.running().signal(Signal::SIGTERM);
    node.running().ended();
}

fn rest(mut output: ChildStdout, mut received: Vec<u8>) -> Vec<u8> {
    output.read_to_end(&mut received).expect("it is a pipe");
    received
}
