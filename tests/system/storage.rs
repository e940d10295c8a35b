//! What a location that serves others keeps when an upload comes to a bad end: nothing half, and it says so.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::docker::needs;
use crate::common::inside::write_image;
use crate::common::server::{Logged, location};
use crate::common::{Done, PATIENCE, Program, eventually, tf};

const MIB: usize = 1 << 20;

/// A file system with this little room.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = format!("size={size}");
        let mount = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        let mounted = Command::new("mount")
            .args(mount)
            .arg(directory.path())
            .status();
        assert!(mounted.expect("mount is there").success());
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A location without a node, and somebody who has joined it.
struct Office {
    state: PathBuf,
    server: Logged,
    address: SocketAddr,
    user: TempDir,
}

impl Office {
    fn open(state: &Path) -> Self {
        let (server, address) = location(state, &["--no-node", "--listen", "127.0.0.1:0"]);
        let invited = tf()
            .args(["location", "invite", "ann"])
            .env("TF_STATE", state)
            .run();
        let office = Self {
            state: state.to_owned(),
            server,
            address,
            user: tempfile::tempdir().expect("a directory"),
        };
        let join = office.tf(&["account", "join", "-"]);
        join.input(invited.code(0).stdout.as_bytes()).run().code(0);
        office
    }

    fn tf(&self, arguments: &[&str]) -> Program {
        tf().args(arguments).env("TF_HOME", self.user.path())
    }

    /// Kills the location as a power cut would.
    fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again where it was.
    fn restart(&mut self) {
        let address = self.address.to_string();
        self.server = location(&self.state, &["--no-node", "--listen", &address]).0;
    }

    /// Files in the store: whole layers, and parts of layers with their sizes.
    fn stored(&self) -> (usize, Vec<u64>) {
        let (mut whole, mut parts) = (0, Vec::new());
        for entry in fs::read_dir(self.state.join("location/layers")).expect("it is there") {
            let entry = entry.expect("an entry");
            // One that is renamed meanwhile is looked at the next time.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if entry.path().extension().is_some_and(|end| end == "part") {
                parts.push(metadata.len());
            } else {
                whole += 1;
            }
        }
        (whole, parts)
    }

    fn kept(&self) -> Vec<Value> {
        let listed: Done = self.tf(&["cache", "ls", "--json"]).run().code(0);
        serde_json::from_str(&listed.stdout).expect("JSON")
    }

    /// Begins to send an image, and kills the location in the middle of it.
    fn kill_in_the_middle_of(&mut self, arguments: &[&str]) -> Logged {
        let mut program = self.tf(arguments);
        program.command().stdin(Stdio::null()).stdout(Stdio::null());
        let client = Logged::start(program);
        eventually(PATIENCE, || {
            let (_, parts) = self.stored();
            parts.iter().any(|part| *part > MIB as u64).then_some(())
        });
        self.kill();
        let (whole, parts) = self.stored();
        assert_eq!((whole, parts.len()), (0, 1), "it was not in the middle");
        client
    }
}

/// An archive with an image of one layer of this size.
fn archive(directory: &TempDir, seed: u64, size: usize) -> String {
    let path = directory.path().join(format!("{seed}.tar"));
    write_image(&path, &[(seed, size)]);
    path.to_str().expect("text").to_owned()
}

#[test]
fn a_full_disk_keeps_no_half_layer_of_anybodys() {
    if !needs(nix::unistd::geteuid().is_root(), "root") {
        return;
    }
    let disk = SmallDisk::mount("24m");
    let office = Office::open(&disk.0.path().join("state"));
    let images = tempfile::tempdir().expect("a directory");
    let (small, large) = (archive(&images, 1, 4 * MIB), archive(&images, 2, 40 * MIB));
    office.tf(&["cache", &small]).run().code(0);
    let full = office.tf(&["cache", &large]).run().code(1);
    full.says(&["error: ", "no space left on the location's disk"]);
    assert_eq!(office.stored(), (1, vec![]));
    let log = office.server.log();
    assert!(
        log.contains("no space left on the location's disk"),
        "{log}"
    );
    // What was there is whole, and there is room for what fits.
    assert_eq!(office.kept().len(), 1);
    let other = archive(&images, 3, 4 * MIB);
    office.tf(&["cache", &other]).run().code(0);
    assert_eq!(office.stored(), (2, vec![]));
}

#[test]
fn a_location_that_is_killed_keeps_no_half_layer() {
    let state = tempfile::tempdir().expect("a directory");
    let mut office = Office::open(state.path());
    let images = tempfile::tempdir().expect("a directory");
    let image = archive(&images, 1, 120 * MIB);
    // The client does not wait for another connection, and says so.
    let mut client = office.kill_in_the_middle_of(&["--linger", "0", "cache", &image]);
    client.ends_with(1);
    assert!(client.log().contains("error: "), "{}", client.log());
    office.restart();
    assert_eq!(office.kept(), [] as [Value; 0]);
    assert_eq!(office.stored().0, 0);

    // Another attempt makes it whole.
    office.tf(&["cache", &image]).run().code(0);
    assert_eq!(office.stored(), (1, vec![]));
    assert_eq!(office.kept().len(), 1);
}

#[test]
fn an_upload_goes_on_when_the_location_is_started_again() {
    let state = tempfile::tempdir().expect("a directory");
    let mut office = Office::open(state.path());
    let images = tempfile::tempdir().expect("a directory");
    let image = archive(&images, 1, 120 * MIB);
    let mut client = office.kill_in_the_middle_of(&["cache", &image]);
    office.restart();
    let ended = eventually(PATIENCE, || {
        client.running().child().try_wait().expect("a child")
    });
    assert_eq!(ended.code(), Some(0), "{}", client.log());
    assert_eq!(office.stored(), (1, vec![]));
    assert_eq!(office.kept().len(), 1);
}

#[test]
fn who_gives_up_without_a_connection_need_not_wait() {
    let state = tempfile::tempdir().expect("a directory");
    let mut office = Office::open(state.path());
    let images = tempfile::tempdir().expect("a directory");
    let image = archive(&images, 1, 120 * MIB);
    let mut client = office.kill_in_the_middle_of(&["cache", &image]);
    client.running().signal(Signal::SIGINT);
    // Waiting for the location would take longer.
    let ended = eventually(PATIENCE, || {
        client.running().child().try_wait().expect("a child")
    });
    assert_eq!(ended.signal(), Some(2), "{}", client.log());
}
