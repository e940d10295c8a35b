//! Standard streams that are no terminal.

use std::io::Write as _;
use std::process::Stdio;

use crate::common::{PATIENCE, eventually, tf};
use crate::system::fixture::{Fixture, busybox, can_run, noise};
use crate::system::session::{Session, run};

/// Size of what is passed through, in bytes.
const SIZE: usize = 1 << 20;

#[test]
fn output_passes_through_unchanged() {
    if !can_run() {
        return;
    }
    let (first, second) = (noise(1, SIZE), noise(2, SIZE));
    let image = Fixture::busybox()
        .file("first", 0o644, &first)
        .file("second", 0o644, &second)
        .save();
    let script = "cat /first & cat /second >&2; wait";
    let mut program = tf().args([image.path(), "sh", "-c", script]);
    let output = program
        .command()
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    // Not by `assert_eq`, which would print both.
    assert!(output.stdout == first, "{} bytes", output.stdout.len());
    assert!(output.stderr == second, "{} bytes", output.stderr.len());
}

#[test]
fn input_passes_through_unchanged_to_its_end() {
    if !can_run() {
        return;
    }
    let sent = noise(3, SIZE);
    let mut session = Session::start(tf().args(["-i", busybox(), "cat"]));
    session.stdin().write_all(&sent).expect("it is read");
    let ended = session.end().code(0);
    assert!(ended.stdout == sent, "{} bytes", ended.stdout.len());
}

#[test]
fn input_is_passed_on_as_it_comes() {
    if !can_run() {
        return;
    }
    let mut session = Session::start(tf().args(["-i", busybox(), "cat"]));
    for line in ["one", "two"] {
        writeln!(session.stdin(), "{line}").expect("it is read");
        session.prints(line);
    }
    session.end().code(0).printed("one\ntwo\n");
}

#[test]
fn without_i_there_is_no_input() {
    if !can_run() {
        return;
    }
    let mut session = Session::start(tf().args([busybox(), "sh", "-c", "cat; echo over"]));
    // The end of input is there at once, though ours is open.
    session.prints("over");
    session.end().code(0).printed("over\n");
}

#[test]
fn a_program_need_not_read_its_input() {
    if !can_run() {
        return;
    }
    let mut session = Session::start(tf().args(["-i", busybox(), "sh", "-c", "exit 3"]));
    let _ = session.stdin().write_all(&noise(4, SIZE));
    session.end().code(3);
}

#[test]
fn nobody_who_reads_the_output_ends_the_program_that_writes_it() {
    if !can_run() {
        return;
    }
    let mut program = tf().args([busybox(), "yes"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut child = program
        .command()
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // The command would hold the pipe's other end open.
    program.command().stdout(Stdio::null());
    let mut first = [0; 2];
    std::io::Read::read_exact(&mut { &reader }, &mut first).expect("something is written");
    assert_eq!(&first, b"y\n");
    drop(reader);
    eventually(PATIENCE, || child.try_wait().expect("it can be waited for"));
}

#[test]
fn output_of_a_program_that_has_ended_is_complete() {
    if !can_run() {
        return;
    }
    // What is written last is not overtaken by the program's end.
    for _ in 0..5 {
        let script = "head -c 300000 /dev/zero; echo end >&2";
        let ended = run(tf().args([busybox(), "sh", "-c", script])).code(0);
        assert_eq!(ended.stdout.len(), 300_000);
        assert_eq!(ended.stderr, "end\n");
    }
}

#[test]
fn quiet_leaves_standard_error_to_the_program() {
    if !can_run() {
        return;
    }
    let mut session = Session::start(tf().args([
        "-q",
        "-i",
        "-p",
        "0:80",
        busybox(),
        "sh",
        "-c",
        "httpd -p 80; echo up; cat",
    ]));
    session.prints("up");
    let ended = session.end().code(0);
    assert_eq!(ended.stderr, "");
}
