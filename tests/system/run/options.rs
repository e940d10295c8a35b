//! What a container is told to be like.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::{Program, tf};
use crate::system::fixture::{Fixture, busybox, can_run};
use crate::system::session::{Session, run};

#[test]
fn the_command_takes_the_place_of_the_images_own() {
    if !can_run() {
        return;
    }
    let image = Fixture::busybox()
        .config("Entrypoint", json!(["echo", "entry"]))
        .config("Cmd", json!(["command"]))
        .save();
    let path = image.path();
    for (arguments, printed) in [
        (&[path][..], "entry command\n"),
        (&[path, "mine"], "entry mine\n"),
        // Options after the image are the command's.
        (&[path, "-v", "--offset"], "entry -v --offset\n"),
        (&["--entrypoint", "/bin/basename", path, "/a/b"], "b\n"),
        // As with Docker, the image's command goes with its entrypoint.
        (&["--entrypoint", "", path, "echo", "a"], "a\n"),
    ] {
        run(tf().args(arguments)).code(0).printed(printed);
    }
}

#[test]
fn variables_are_set_or_passed_on() {
    if !can_run() {
        return;
    }
    let image = Fixture::busybox()
        .config("Env", json!(["PATH=/bin", "KEPT=image", "CHANGED=image"]))
        .save();
    let arguments = [
        "-e",
        "CHANGED=x=y z",
        "--env",
        "PASSED",
        "-e",
        "EMPTY=",
        "-e",
        "UNSET",
        image.path(),
        "sh",
        "-c",
        "echo $KEPT,$CHANGED,$PASSED,${EMPTY-unset},${UNSET-unset},${SECRET-unset}",
    ];
    let program = tf().env("PASSED", "here").env("SECRET", "not asked for");
    let ended = run(program.args(arguments)).code(0);
    ended
        .printed("image,x=y z,here,,unset,unset\n")
        .said(&["`-e UNSET` has no effect"]);
}

#[test]
fn files_are_there_before_the_program_starts() {
    if !can_run() {
        return;
    }
    let program = tf();
    let kept = program.file("kept.conf", "kept its name\n");
    let renamed = program.file("script", "#!/bin/sh\necho \"$0 ran\"\n");
    fs::set_permissions(&renamed, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let arguments = [
        "-f",
        &format!("{}:/etc/deep/er/", kept.display()),
        "--file",
        &format!("{}:/bin/mine", renamed.display()),
        // In place of one of the image's.
        "-f",
        &format!("{}:/etc/group", kept.display()),
        // And of those that every container has.
        "-f",
        &format!("{}:/etc//hosts", kept.display()),
        "-f",
        &format!("{}:/etc/resolv.conf", kept.display()),
        busybox(),
        "sh",
        "-c",
        "cat /etc/deep/er/kept.conf; mine; stat -c %a,%u,%g /bin/mine; cd /etc; cat group hosts resolv.conf",
    ];
    let kept = "kept its name\n";
    run(program.args(arguments))
        .code(0)
        .printed(&format!("{kept}/bin/mine ran\n755,0,0\n{kept}{kept}{kept}"));
}

#[test]
fn users_and_directories_are_those_of_the_image() {
    if !can_run() {
        return;
    }
    let script = "echo $(id -u):$(id -g) $(pwd)";
    for (options, printed) in [
        (&["-u", "web"][..], "33:34 /\n"),
        (&["--user", "33"], "33:34 /\n"),
        (&["-u", "7:8", "-w", "/tmp"], "7:8 /tmp\n"),
        (&["-w", "/new/directory"], "0:0 /new/directory\n"),
    ] {
        run(tf().args(options).args([busybox(), "sh", "-c", script]))
            .code(0)
            .printed(printed);
    }
    run(tf().args(["-u", "nobody-here", busybox(), "true"]))
        .code(125)
        .said(&["nobody-here"]);
}

#[test]
fn memory_is_limited() {
    if !can_run() {
        return;
    }
    let fill = "x=$(yes | head -c 200000000); echo ${#x}";
    let ended = run(tf().args(["--memory", "32m", busybox(), "sh", "-c", fill]));
    ended.code(137).printed("").said(&[
        "error: ",
        "memory",
        "32m",
        "hint: give it more with --memory",
    ]);
}

/// As in whatever `ip netns exec` runs: a new `/sys` is in the place of the one with the cgroups.
#[test]
fn memory_is_limited_where_the_cgroups_are_out_of_sight() {
    if !can_run() {
        return;
    }
    let covered = "umount -l /sys && mount -t sysfs sysfs /sys && exec \"$@\"";
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null";
    let program = Program::new("unshare")
        .args(["--mount", "sh", "-c", covered, "sh"])
        .args([env!("CARGO_BIN_EXE_tf"), "--memory", "32m"])
        .args([busybox(), "sh", "-c", script]);
    run(program).printed("33554432\n");
}

#[test]
fn processors_are_limited() {
    if !can_run() {
        return;
    }
    // Version 1 has two files, version 2 one.
    let script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu.max 2>/dev/null | xargs";
    let ended = run(tf().args(["--cpus", "0.5", busybox(), "sh", "-c", script])).code(0);
    let numbers: Vec<u32> = ended
        .text()
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [quota, period] = numbers[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(quota * 2, period);
}

#[test]
fn a_fork_bomb_is_contained() {
    if !can_run() {
        return;
    }
    // Until a fork fails; every child does the same.
    let bomb = "echo boom; b() { b | b & }; b; sleep 1000";
    let mut session = Session::start(tf().args(["--pids", "20", busybox(), "sh", "-c", bomb]));
    session.says("can't fork");
    session.interrupt();
    let ended = run(tf().args([
        "--pids",
        "20",
        busybox(),
        "sh",
        "-c",
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null",
    ]));
    ended.code(1).printed("20\n");
}

#[test]
fn a_container_can_sleep() {
    if !can_run() {
        return;
    }
    let image = Fixture::busybox()
        .config("Cmd", json!(["echo", "ran"]))
        .save();
    let mut session = Session::start(tf().args(["-v", "-z", image.path()]));
    session.says("runs on node");
    let ended = session.end_by(Signal::SIGTERM);
    assert_eq!(ended.text(), "", "{ended:?}");
}

#[test]
fn an_image_called_like_a_verb_can_be_run() {
    if !can_run() {
        return;
    }
    let ended = run(tf().args(["run", "describe:no-such-tag"])).code(125);
    ended.said(&["describe:no-such-tag"]);
}
