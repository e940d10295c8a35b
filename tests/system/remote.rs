//! A location on a server, a laptop and a second node: network namespaces of this machine, and programs of their own.
//!
//! ```text
//!   laptop 198.51.100.2 ──── 198.51.100.1 server 203.0.113.1 ──── 203.0.113.2 second
//! ```

use std::io::Read as _;
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tfnz::ids::Digest;

use super::network::lab::Netns;
use crate::common::docker::{in_path, needs};
use crate::common::images::{Compression, layer, saved};
use crate::common::server::{Logged, location};
use crate::common::{Done, Program, eventually, tf};

/// How long the machine may take for something, with others at work on it.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long the link stays cut: longer than it takes to notice.
const CUT: Duration = Duration::from_secs(14);

/// The last number of the long output that is downloaded.
const LAST: u32 = 6_000_000;

/// How much of a download has come when the link is cut.
const BEGUN: usize = 1 << 20;

/// Three machines, as far as their networks are concerned.
struct Machines {
    laptop: Netns,
    server: Netns,
    second: Netns,
}

impl Machines {
    fn new() -> Self {
        let (laptop, server, second) = (Netns::new(), Netns::new(), Netns::new());
        for (other, link, here, there) in [
            (&laptop, "laptop", "198.51.100.1", "198.51.100.2"),
            (&second, "second", "203.0.113.1", "203.0.113.2"),
        ] {
            server.shell(&format!(
                "ip link add {link} type veth peer name eth0 netns {}
                 ip address add {here}/24 dev {link}
                 ip link set {link} up",
                other.path().display()
            ));
            other.shell(&format!(
                "ip link set lo up
                 ip address add {there}/24 dev eth0
                 ip link set eth0 up
                 ip route add default via {here}"
            ));
        }
        server.shell("ip link set lo up; ip route add default via 198.51.100.2");
        Self {
            laptop,
            server,
            second,
        }
    }
}

/// Somebody at the laptop.
struct User<'a> {
    machines: &'a Machines,
    home: TempDir,
}

impl<'a> User<'a> {
    fn new(machines: &'a Machines) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { machines, home }
    }

    fn program(&self, arguments: &[&str]) -> Program {
        tf().args(arguments).env("TF_HOME", self.home.path())
    }

    /// Runs `tf` to its end.
    fn tf(&self, arguments: &[&str]) -> Done {
        let program = self.program(arguments);
        self.machines.laptop.run(move || program.run())
    }

    /// Starts `tf` in the background.
    fn start(&self, arguments: &[&str]) -> Logged {
        let mut program = self.program(arguments);
        program.command().stdin(Stdio::null()).stdout(Stdio::null());
        self.machines.laptop.run(move || Logged::start(program))
    }

    /// What a verb prints with `--json`.
    fn list(&self, verb: &str) -> Vec<Value> {
        parsed(&self.tf(&[verb, "--json"]).code(0))
    }
}

fn parsed(done: &Done) -> Vec<Value> {
    serde_json::from_str(&done.stdout).expect("JSON")
}

/// A location on the server, with a node in it.
struct Office<'a> {
    machines: &'a Machines,
    state: TempDir,
    server: Logged,
}

impl<'a> Office<'a> {
    fn open(machines: &'a Machines) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let path = state.path().to_owned();
        let (server, _) = machines
            .server
            .run(move || location(&path, &["--listen", "0.0.0.0:5555", "--name", "office"]));
        Self {
            machines,
            state,
            server,
        }
    }

    fn administer(&self, arguments: &[&str]) -> Done {
        let program = tf()
            .args(["location"])
            .args(arguments)
            .env("TF_STATE", self.state.path());
        self.machines.server.run(move || program.run())
    }

    fn invite(&self, arguments: &[&str]) -> String {
        let invited = self.administer(&[&["invite"], arguments].concat());
        invited.code(0).stdout
    }

    fn user(&self, name: &str) -> User<'a> {
        let user = User::new(self.machines);
        let invitation = self.invite(&[name, "--address", "198.51.100.1"]);
        user.tf(&["account", "join", &invitation]).code(0);
        user
    }
}

fn able() -> bool {
    needs(nix::unistd::geteuid().is_root(), "root")
        && ["ip", "curl", "nft", "busybox"]
            .iter()
            .all(|program| needs(in_path(program), &format!("the program {program}")))
}

#[test]
fn a_laptop_works_with_a_server_and_its_nodes() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let mut office = Office::open(&machines);
    let (ann, bob) = (office.user("ann@example"), office.user("bob@example"));

    ann.tf(&["cache", "hello"]).code(0);
    let mut run = ann.start(&["--offset", "8000", "hello"]);
    run.says("http://localhost:8080");
    let page = machines.laptop.run(|| {
        Program::new("curl")
            .args(["-s", "http://localhost:8080"])
            .run()
    });
    assert!(page.code(0).stdout.contains("Started in"));
    let containers = ann.list("ps");
    assert_eq!(containers.len(), 1, "{containers:#?}");
    let id = containers[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(containers[0]["image_name"], "hello");
    let nodes = ann.list("resources");
    assert_eq!(nodes.len(), 1, "{nodes:#?}");
    assert_eq!(nodes[0]["id"], containers[0]["node"]);

    // Another user sees none of it and cannot end it.
    assert!(bob.list("ps").is_empty());
    bob.tf(&["stop", &id]).code(1).says(&["no container"]);
    assert_eq!(ann.list("ps").len(), 1);
    ann.tf(&["stop", &id[..6]]).code(0);
    assert_eq!(run.running().ended().code(), Some(137), "{}", run.log());

    let invitation = office.invite(&["--node", "rack1", "--address", "203.0.113.1"]);
    let node_state = tempfile::tempdir().expect("a directory");
    let mut node = serve_node(&machines, node_state.path(), &["--join", &invitation]);
    node.says("connected to the location office");
    eventually(PATIENCE, || {
        (ann.list("resources").len() == 2).then_some(())
    });
    node.running().signal(Signal::SIGTERM);
    assert_eq!(node.running().ended().code(), Some(0), "{}", node.log());
    eventually(PATIENCE, || {
        (ann.list("resources").len() == 1).then_some(())
    });
    let mut node = serve_node(&machines, node_state.path(), &[]);
    node.says("connected to the location office");
    eventually(PATIENCE, || {
        (ann.list("resources").len() == 2).then_some(())
    });

    // The location still waits for the link of one that was killed when it comes again.
    node.running().signal(Signal::SIGKILL);
    node.running().ended();
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
    assert_eq!(run.running().ended().code(), Some(125), "{}", run.log());
    ann.tf(&["ps"]).code(1);
    let sessions = office.administer(&["sessions", "--json"]);
    assert!(parsed(&sessions.code(0)).is_empty());

    office.server.running().signal(Signal::SIGTERM);
    let ended = office.server.running().ended();
    assert_eq!(ended.code(), Some(0), "{}", office.server.log());
    node.says("cannot reach the location");
    node.running().signal(Signal::SIGTERM);
    assert_eq!(node.running().ended().code(), Some(0), "{}", node.log());
}

fn serve_node(machines: &Machines, state: &Path, arguments: &[&str]) -> Logged {
    let program = tf()
        .args(["node", "serve"])
        .args(arguments)
        .env("TF_STATE", state);
    machines.second.run(move || Logged::start(program))
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
    assert_eq!(run.running().ended().code(), Some(0), "{}", run.log());

    let expected: Vec<u8> = (1..=LAST)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect();
    assert_eq!(received.len(), expected.len());
    assert_eq!(Digest::of(&received), Digest::of(&expected));
}

fn rest(mut output: ChildStdout, mut received: Vec<u8>) -> Vec<u8> {
    output.read_to_end(&mut received).expect("it is a pipe");
    received
}
