//! Tests of a location on a server, a laptop and a second node: network namespaces of this machine, and programs of their
//! own.
//!
//! ```text
//!   laptop 198.51.100.2 ──── 198.51.100.1 server 203.0.113.1 ──── 203.0.113.2 second
//! ```

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use super::network::lab::Netns;
use crate::common::docker::{in_path, needs};
use crate::common::server::{Logged, location};
use crate::common::{Done, Program, tf};

/// Three machines, as far as their networks are concerned.
pub(crate) struct Machines {
    pub(crate) laptop: Netns,
    pub(crate) server: Netns,
    pub(crate) second: Netns,
}

impl Machines {
    pub(crate) fn new() -> Self {
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
pub(crate) struct User<'a> {
    pub(crate) machines: &'a Machines,
    pub(crate) home: TempDir,
}

impl<'a> User<'a> {
    pub(crate) fn new(machines: &'a Machines) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { machines, home }
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> Program {
        tf().args(arguments).env("TF_HOME", self.home.path())
    }

    /// Runs `tf` to its end.
    pub(crate) fn tf(&self, arguments: &[&str]) -> Done {
        let program = self.program(arguments);
        self.machines.laptop.run(move || program.run())
    }

    /// Starts `tf` in the background.
    pub(crate) fn start(&self, arguments: &[&str]) -> Logged {
        self.start_program(self.program(arguments))
    }

    /// Starts what [`User::program`] has made, in the background.
    pub(crate) fn start_program(&self, mut program: Program) -> Logged {
        program.command().stdin(Stdio::null()).stdout(Stdio::null());
        self.machines.laptop.run(move || Logged::start(program))
    }

    /// What a verb prints with `--json`.
    pub(crate) fn list(&self, verb: &str) -> Vec<Value> {
        parsed(&self.tf(&[verb, "--json"]).code(0))
    }
}

pub(crate) fn parsed(done: &Done) -> Vec<Value> {
    serde_json::from_str(&done.stdout).expect("JSON")
}

/// A location on the server, with a node in it.
pub(crate) struct Office<'a> {
    pub(crate) machines: &'a Machines,
    pub(crate) state: TempDir,
    arguments: Vec<&'static str>,
    pub(crate) server: Logged,
}

impl<'a> Office<'a> {
    pub(crate) fn open(machines: &'a Machines) -> Self {
        Self::with(machines, &[])
    }

    /// One that is started with these further arguments.
    pub(crate) fn with(machines: &'a Machines, arguments: &[&'static str]) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let arguments = [&["--listen", "0.0.0.0:5555", "--name", "office"], arguments].concat();
        let server = serve(machines, state.path(), &arguments);
        Self {
            machines,
            state,
            arguments,
            server,
        }
    }

    /// Kills the location, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again, as it was started before.
    pub(crate) fn start_again(&mut self) {
        self.server = serve(self.machines, self.state.path(), &self.arguments);
    }

    pub(crate) fn administer(&self, arguments: &[&str]) -> Done {
        let program = tf()
            .args(["location"])
            .args(arguments)
            .env("TF_STATE", self.state.path());
        self.machines.server.run(move || program.run())
    }

    pub(crate) fn invite(&self, arguments: &[&str]) -> String {
        let invited = self.administer(&[&["invite"], arguments].concat());
        invited.code(0).stdout
    }

    pub(crate) fn user(&self, name: &str) -> User<'a> {
        let user = User::new(self.machines);
        let invitation = self.invite(&[name, "--address", "198.51.100.1"]);
        user.tf(&["account", "join", &invitation]).code(0);
        user
    }
}

fn serve(machines: &Machines, state: &Path, arguments: &[&'static str]) -> Logged {
    let (state, arguments) = (state.to_owned(), arguments.to_vec());
    machines.server.run(move || location(&state, &arguments)).0
}

pub(crate) fn able() -> bool {
    needs(nix::unistd::geteuid().is_root(), "root")
        && ["ip", "curl", "nft", "busybox"]
            .iter()
            .all(|program| needs(in_path(program), &format!("the program {program}")))
}

pub(crate) fn serve_node(machines: &Machines, state: &Path, arguments: &[&str]) -> Logged {
    let program = tf()
        .args(["node", "serve"])
        .args(arguments)
        .env("TF_STATE", state);
    machines.second.run(move || Logged::start(program))
}
