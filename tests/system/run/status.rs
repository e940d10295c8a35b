//! Exit statuses, one test for each row of the manual's table.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{PATIENCE, eventually, free_port, tf};
use crate::system::fixture::{Fixture, busybox, can_run};
use crate::system::session::{Session, run};

#[test]
fn it_is_the_programs_own() {
    if !can_run() {
        return;
    }
    for status in [0, 1, 2, 125, 255] {
        let script = format!("exit {status}");
        run(tf().args([busybox(), "sh", "-c", &script])).code(status);
    }
}

#[test]
fn it_is_128_and_the_signal_that_ended_the_program() {
    if !can_run() {
        return;
    }
    // A length of sleep that nobody else sleeps.
    let length = format!("9{:07}", free_port());
    let mut session = Session::start(tf().args([busybox(), "sleep", &length]));
    let program = eventually(PATIENCE, || {
        assert!(!session.is_over(), "{}", session.said());
        process_with("sleep", &length)
    });
    // The first process of a container is safe from all other signals, unless it handles them.
    kill(program, Signal::SIGKILL).expect("it runs");
    session.end().code(137);
}

#[test]
fn it_is_125_if_tf_itself_fails() {
    if !can_run() {
        return;
    }
    run(tf().args(["/no/such/image.tar"]))
        .code(125)
        .said(&["/no/such/image.tar"]);
    run(tf().args(["-u", "nobody-here", busybox()])).code(125);
}

#[test]
fn it_is_126_for_what_is_no_program() {
    if !can_run() {
        return;
    }
    let image = Fixture::busybox()
        .file("etc/plain", 0o644, b"text\n")
        .file("etc/garbage", 0o755, b"\x01\x02\x03\x04")
        .save();
    for program in ["/etc/plain", "/etc", "/etc/garbage"] {
        run(tf().args([image.path(), program]))
            .code(126)
            .said(&["error: ", program]);
    }
}

#[test]
fn it_is_127_for_what_is_not_there() {
    if !can_run() {
        return;
    }
    for program in ["no-such-program", "/no/such/program"] {
        run(tf().args([busybox(), program]))
            .code(127)
            .said(&["error: ", program]);
    }
}

#[test]
fn it_is_the_signals_if_tf_is_told_to_end() {
    if !can_run() {
        return;
    }
    // A shell shows 130, 143 and 129 for these.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // The first process of a container ignores what it has no handler for.
        let mut session = Session::start(tf().args([busybox(), "sh", "-c", "echo up; sleep 1000"]));
        session.prints("up");
        session.end_by(signal);
    }
}

/// A process that runs this program with this argument.
fn process_with(program: &str, argument: &str) -> Option<Pid> {
    let wanted = format!("{program}\0{argument}\0");
    let found = std::fs::read_dir("/proc").ok()?.flatten().find(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    })?;
    Some(Pid::from_raw(found.file_name().to_str()?.parse().ok()?))
}
