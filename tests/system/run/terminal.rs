//! `-t`, with `tf` at a terminal of its own.

use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::{Signal, kill};

use crate::common::{Program, installed, tf};
use crate::system::fixture::{busybox, can_run};
use crate::system::session::run;
use crate::system::typist::{Typist, set_size};

/// Whether the machine has what these tests need.
fn can_type() -> bool {
    can_run() && installed("setsid") && installed("stty")
}

/// `tf` with these arguments, as the program that a terminal belongs to.
fn at_terminal(arguments: &[&str]) -> Program {
    Program::new("setsid")
        .args(["--ctty", env!("CARGO_BIN_EXE_tf")])
        .args(arguments)
}

#[test]
fn a_shell_is_comfortable_to_work_in() {
    if !can_type() {
        return;
    }
    let mut typist = Typist::start(
        (43, 132),
        at_terminal(&["-it", "-e", "PS1=ready> ", busybox()]),
    );
    typist.sees("ready> ");
    // What is typed goes to the container as it is, and is shown by the container's terminal, once.
    for setting in ["-icanon", "-echo", "-isig", "-opost"] {
        assert!(
            typist.mode().iter().any(|word| word == setting),
            "{:?}",
            typist.mode()
        );
    }
    typist.types("stty size; tty; echo $TERM.\n");
    typist.sees("43 132\r\n/dev/pts/0\r\nxterm.\r\n");
    // Its size follows ours.
    set_size(typist.terminal(), (25, 81));
    typist.types("until stty size | grep 81; do :; done\n");
    typist.sees("25 81\r\n");
    // Ctrl-C ends the program in front, not the shell, and not tf.
    // Looked for is what nobody has typed.
    typist.types("sh -c 'echo begun $((1)); exec sleep 1000'\n");
    typist.sees("begun 1\r\n");
    typist.types("\x03");
    typist.types("echo status $?\n");
    typist.sees("status 130\r\n");
    typist.types("echo still $((40 + 2))\n");
    typist.sees("still 42\r\n");
    // Ctrl-D is the end of input for the program in front.
    typist.types("sh -c 'echo begun $((2)); exec cat'\n");
    typist.sees("begun 2\r\n");
    typist.types("said twice\n");
    typist.sees("said twice\r\nsaid twice\r\n");
    typist.types("\x04echo after $((1 + 1))\n");
    typist.sees("after 2\r\n");
    typist.types("exit 7\n");
    assert_eq!(typist.end().code(), Some(7));
    // And the terminal is for others again.
    for setting in ["icanon", "echo", "isig", "opost"] {
        assert!(
            typist.mode().iter().any(|word| word == setting),
            "{:?}",
            typist.mode()
        );
    }
}

#[test]
fn the_terminal_is_the_console() {
    if !can_type() {
        return;
    }
    let mut typist = Typist::start(
        (24, 80),
        at_terminal(&["-it", "-u", "1000", "-e", "PS1=ready> ", busybox()]),
    );
    typist.sees("ready> ");
    typist.types("stty size < /dev/console; echo console $((1)) > /dev/console\n");
    typist.sees("24 80\r\nconsole 1\r\n");
    typist.types("exit\n");
    assert_eq!(typist.end().code(), Some(0));
    // Without a terminal, there is none: as with Docker.
    run(tf().args([busybox(), "sh", "-c", "[ ! -e /dev/console ]"])).code(0);
}

#[test]
fn the_terminal_is_restored_when_a_signal_ends_tf() {
    if !can_type() {
        return;
    }
    let mut typist = Typist::start(
        (24, 80),
        at_terminal(&["-it", "-e", "PS1=ready> ", busybox()]),
    );
    typist.sees("ready> ");
    kill(typist.id(), Signal::SIGTERM).expect("it runs");
    typist.end();
    assert!(
        typist.mode().iter().any(|word| word == "icanon"),
        "{:?}",
        typist.mode()
    );
}

#[test]
fn ctrl_c_without_i_ends_tf() {
    if !can_type() {
        return;
    }
    let command = "stty -a | grep -o 'rows [0-9]*'; sleep 1000";
    let mut typist = Typist::start(
        (31, 80),
        at_terminal(&["-t", busybox(), "sh", "-c", command]),
    );
    typist.sees("rows 31\r");
    typist.types("\x03");
    assert_eq!(typist.end().signal(), Some(2));
}

#[test]
fn a_terminal_is_no_place_for_a_pipe() {
    if !can_type() {
        return;
    }
    let ended = run(tf().args(["-it", busybox()])).code(125);
    ended.said(&["standard input is not a terminal", "hint: leave -t out"]);
}
