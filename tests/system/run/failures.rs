//! What cannot work, and what is said about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::{installed, tf};
use crate::system::fixture::{Fixture, busybox, can_run, noise};
use crate::system::session::{run, tf_as_nobody};

#[test]
fn an_unknown_image_is_looked_for_everywhere_and_said_to_be_unknown() {
    if !can_run() {
        return;
    }
    // Nobody listens there, so that nothing is asked of the network.
    let ended = run(tf().args(["127.0.0.1:1/no/such:image"])).code(125);
    ended.said(&[
        "error: ",
        "`127.0.0.1:1/no/such:image` was not found",
        "no-docker.sock",
    ]);
    let ended = run(tf().args(["No Such Image"])).code(125);
    ended.said(&["No Such Image"]);
}

#[test]
fn an_image_for_another_processor_is_refused_before_it_is_sent() {
    if !can_run() {
        return;
    }
    let image = Fixture::busybox().architecture("s390x").save();
    let mut program = tf().args([image.path()]);
    let home = program.take_home();
    let ended = run(program).code(125).said(&["error: ", "s390x"]);
    assert!(
        ended
            .stderr
            .contains(&tfnz::image::Platform::host().architecture),
        "{ended:?}"
    );
    assert_eq!(layers_in(&home.path().join("state")), 0);
}

#[test]
fn who_is_not_root_is_told_so() {
    if !can_run() || !installed("setpriv") {
        return;
    }
    let directory = TempDir::new().expect("temporary directory");
    let ended = run(tf_as_nobody(&directory).args(["--offset", "8000", "hello"]));
    ended.code(125).said(&["error: ", "not root", "sudo"]);
}

/// A file system of its own, unmounted when this is dropped.
struct Mounted(TempDir);

impl Mounted {
    fn new(arguments: &[&str]) -> Self {
        let directory = TempDir::new().expect("temporary directory");
        let status = Command::new("mount")
            .args(arguments)
            .arg(directory.path())
            .status();
        assert!(status.expect("mount runs").success());
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // At once if it can be: that it cannot is one of the things the tests are about.
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_said_to_be_full_and_nothing_half_is_left() {
    if !can_run() || !installed("mkfs.ext4") {
        return;
    }
    let file = TempDir::new().expect("temporary directory");
    let disk = file.path().join("disk");
    let shown = disk.to_str().expect("a plain path");
    fs::File::create(&disk)
        .and_then(|file| file.set_len(48 << 20))
        .expect("a sparse file");
    let made = Command::new("mkfs.ext4").args(["-q", shown]).status();
    assert!(made.expect("mkfs runs").success());
    let mounted = Mounted::new(&["-o", "loop", shown]);
    let state = mounted.path().join("state");
    let with_state = |arguments: &[&str]| tf().env("TF_STATE", &state).args(arguments);

    // A small image fits, and goes on to work whatever happens to others.
    run(with_state(&[busybox(), "echo", "fits"]))
        .code(0)
        .printed("fits\n");
    let before = used(mounted.path());
    let large = Fixture::busybox()
        .file("large", 0o644, &noise(5, 64 << 20))
        .save();
    for (arguments, code) in [(&[large.path()][..], 125), (&["cache", large.path()], 1)] {
        let ended = run(with_state(arguments)).code(code);
        ended.said(&["error: ", "no space left", "disk"]);
        assert!(
            used(mounted.path()) <= before + (1 << 20),
            "{} bytes are used, {before} were",
            used(mounted.path())
        );
    }
    run(with_state(&[busybox(), "echo", "fits"]))
        .code(0)
        .printed("fits\n");
    // What a container writes is its own matter, and gone with it.
    let fill = "dd if=/dev/zero of=/fill bs=1M 2>&1 | grep -o 'No space'; ls -s /fill >/dev/null";
    run(with_state(&[busybox(), "sh", "-c", fill]))
        .code(0)
        .printed("No space\n");
    assert!(used(mounted.path()) <= before + (1 << 20));
    run(with_state(&[busybox(), "echo", "fits"]))
        .code(0)
        .printed("fits\n");
}

/// Whether a tmpfs can show files with other owners, as it can since Linux 6.3.
fn tmpfs_has_idmapped_mounts() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
    let version = (number().expect("a version"), number().unwrap_or(0));
    version >= (6, 3)
}

#[test]
fn state_on_a_tmpfs_works_or_is_an_error_that_says_so() {
    if !can_run() {
        return;
    }
    let mounted = Mounted::new(&["-t", "tmpfs", "tmpfs"]);
    let program = tf().env("TF_STATE", mounted.path().join("state"));
    let ended = run(program.args([busybox(), "echo", "works"]));
    if tmpfs_has_idmapped_mounts() {
        ended.code(0).printed("works\n");
    } else {
        ended.code(125).said(&["idmapped mounts", "TF_STATE"]);
    }
}

#[test]
fn state_on_an_overlay_works_or_is_an_error_that_says_so() {
    if !can_run() {
        return;
    }
    // Overlays do not go above each other, so this one is on a tmpfs.
    let base = Mounted::new(&["-t", "tmpfs", "tmpfs"]);
    let directory = |name: &str| -> PathBuf {
        let path = base.path().join(name);
        fs::create_dir(&path).expect("it is ours");
        path
    };
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        directory("lower").display(),
        directory("upper").display(),
        directory("work").display()
    );
    let mounted = Mounted::new(&["-t", "overlay", "overlay", "-o", &options]);
    let state = mounted.path().join("state");
    let ended = run(tf()
        .env("TF_STATE", &state)
        .args([busybox(), "echo", "works"]));
    if ended.status.success() {
        ended.printed("works\n");
    } else {
        ended.code(125).said(&["overlay file system", "TF_STATE"]);
    }
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    if !can_run() {
        return;
    }
    let program = tf();
    let file = program.file("file", "");
    let state = file.join("state");
    let ended = run(program.env("TF_STATE", &state).args([busybox()])).code(125);
    ended.said(&["error: ", state.to_str().expect("a plain path")]);
}

/// How many whole layers there are.
fn layers_in(state: &Path) -> usize {
    fs::read_dir(state.join("layers")).map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| entry.file_name().len() >= 64)
            .count()
    })
}

/// Space that is used on a file system, in bytes.
fn used(path: &Path) -> u64 {
    let found = nix::sys::statvfs::statvfs(path).expect("it is mounted");
    (found.blocks() - found.blocks_free()) * found.fragment_size()
}
