//! Images in every form that they come in, run by the real binary.

use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::common::docker::{Daemon, daemon};
use crate::common::{PATIENCE, eventually, free_port, installed, tf};
use crate::system::fixture::{Fixture, Saved, can_run};
use crate::system::session::{run, tf_as_nobody};

/// An image that says a word of its own.
fn speaker(name: &str) -> Saved {
    Fixture::busybox()
        .config("Cmd", json!(["echo", name]))
        .name(name)
        .save()
}

fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .args(arguments)
        .output()
        .expect("skopeo runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[test]
fn layouts_and_archives_run() {
    if !can_run() || !installed("skopeo") {
        return;
    }
    let directory = TempDir::new().expect("temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let image = speaker("spoken:1");
    let source = format!("docker-archive:{}", image.path());
    run(tf().args([image.path()])).code(0).printed("spoken:1\n");
    for (form, name) in [
        ("oci", "layout"),
        ("oci-archive", "archive.tar"),
        ("docker-archive", "saved.tar"),
    ] {
        let target = format!("{form}:{}:spoken:1", path(name));
        skopeo(&[&source, &target]);
        run(tf().args([path(name)])).code(0).printed("spoken:1\n");
        let chosen = format!("{form}:{}:spoken:1", path(name));
        run(tf().args([chosen])).code(0).printed("spoken:1\n");
    }
    let gzip = Command::new("gzip").args(["--keep", image.path()]).status();
    assert!(gzip.expect("gzip runs").success());
    run(tf().args([format!("{}.gz", image.path())]))
        .code(0)
        .printed("spoken:1\n");
}

#[test]
fn an_image_of_a_registry_runs() {
    if !can_run() || !installed("skopeo") || !installed("docker-registry") {
        return;
    }
    let directory = TempDir::new().expect("temporary directory");
    let address = format!("127.0.0.1:{}", free_port());
    let settings = json!({
        "version": "0.1", "log": {"level": "error"}, "http": {"addr": address},
        "storage": {"filesystem": {"rootdirectory": directory.path().join("data")}},
    });
    let file = directory.path().join("settings.yml");
    std::fs::write(&file, settings.to_string()).expect("write");
    let mut registry = Command::new("docker-registry");
    let registry = registry.arg("serve").arg(&file);
    let mut registry = Killed(registry.spawn().expect("it starts"));
    eventually(PATIENCE, || {
        assert!(
            registry.0.try_wait().expect("ours").is_none(),
            "the registry has ended"
        );
        std::net::TcpStream::connect(&address).ok()
    });
    let image = speaker("spoken:1");
    let name = format!("{address}/team/spoken:1");
    let source = format!("docker-archive:{}", image.path());
    skopeo(&[
        "--dest-tls-verify=false",
        &source,
        &format!("docker://{name}"),
    ]);
    run(tf().args([&name])).code(0).printed("spoken:1\n");
    let ended = run(tf().args([format!("{address}/team/spoken:2")])).code(125);
    ended.said(&["error: ", "spoken:2", "was not found"]);
}

/// A program that ends when this is dropped.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_last_image_is_what_was_built_loaded_or_tagged_last() {
    if !can_run() {
        return;
    }
    let Some(daemon) = Daemon::start(&[]) else {
        return;
    };
    let tf = || tf().env("DOCKER_HOST", daemon.host());
    let last = || tf().args(["last-image"]).run();
    last().code(1).no_stdout().says(&["error: ", "image"]);
    // All of them were created in 1970, as far as they say.
    let (first, second) = (speaker("first:1"), speaker("second:1"));
    let id = |name: &str| daemon.docker(&["inspect", "--format", "{{.Id}}", name]);
    // The daemon remembers the second in which it was, and no less.
    let second_of_now = || {
        let now = std::time::UNIX_EPOCH.elapsed();
        now.expect("after the epoch").as_secs()
    };
    for (arguments, name) in [
        (&["load", "--input", first.path()][..], "first:1"),
        (&["load", "--input", second.path()], "second:1"),
        (&["tag", "first:1", "again:1"], "first:1"),
    ] {
        daemon.docker(arguments);
        let done = second_of_now();
        eventually(PATIENCE, || (second_of_now() > done).then_some(()));
        assert_eq!(
            last().code(0).no_stderr().stdout,
            format!("{}\n", id(name)),
            "{arguments:?}"
        );
        let ended = run(tf().args(["."]));
        ended.code(0).printed(&format!("{name}\n"));
    }
    run(tf().args(["second:1"])).code(0).printed("second:1\n");
    // What completions offer.
    let offered = tf().args(["__complete", "images", "se"]).run().code(0);
    assert_eq!(offered.stdout, "second:1\n");
    // By the start of its id, too, as Docker has it.
    run(tf().args([&id("second:1")["sha256:".len()..][..12]]))
        .code(0)
        .printed("second:1\n");
}

#[test]
fn why_there_is_no_last_image_is_said_in_three_ways() {
    if !can_run() || !installed("setpriv") {
        return;
    }
    let Some(daemon) = Daemon::start(&[]) else {
        return;
    };
    let none = tf().args(["last-image"]).run().code(1).no_stdout().stderr;
    let empty = tf().env("DOCKER_HOST", daemon.host()).args(["last-image"]);
    let empty = empty.run().code(1).no_stdout().stderr;
    let directory = TempDir::new().expect("temporary directory");
    let forbidden = tf_as_nobody(&directory).env("DOCKER_HOST", daemon.host());
    let forbidden = forbidden
        .args(["last-image"])
        .run()
        .code(1)
        .no_stdout()
        .stderr;
    for (said, expected) in [
        (none, "no-docker.sock"),
        (empty, "no image"),
        (forbidden, "permission"),
    ] {
        assert!(said.starts_with("error: "), "{said}");
        assert!(said.contains(expected), "no `{expected}` in {said}");
    }
}
#[test]
fn a_name_means_the_local_daemons_image_then_the_locations() {
    if !can_run() {
        return;
    }
    let Some(daemon) = daemon() else { return };
    let state = TempDir::new().expect("temporary directory");
    let tf = || {
        tf().env("TF_STATE", state.path())
            .env("DOCKER_HOST", daemon.host())
    };
    let load = |word: &str| {
        let image = Fixture::busybox().config("Cmd", json!(["echo", word]));
        let image = image.name("twice:1").save();
        daemon.docker(&["load", "--input", image.path()]);
    };
    load("first");
    tf().args(["cache", "twice:1"]).run().code(0);
    daemon.docker(&["rmi", "twice:1"]);
    run(tf().args(["twice:1"])).code(0).printed("first\n");
    // Somebody who names a daemon means its images.
    let mistaken = tf().env("DOCKER_HOST", "nowhere").args(["twice:1"]);
    let said = run(mistaken).code(0).printed("first\n");
    said.said(&["no local Docker daemon was asked", "DOCKER_HOST"]);
    load("second");
    run(tf().args(["twice:1"])).code(0).printed("second\n");
}
