//! `-t`, with `tf` at a terminal of its own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use crate::common::{Program, eventually, installed};
use crate::system::fixture::{busybox, can_run};
use crate::system::session::PATIENCE;

/// Whether the machine has what these tests need.
fn can_type() -> bool {
    can_run() && installed("setsid") && installed("stty")
}

/// `tf` in a session of its own, at a terminal that somebody types at.
struct Typist {
    child: Child,
    keyboard: File,
    /// Keeps the terminal in place when `tf` has ended, so that its mode can be looked at.
    terminal: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    _home: tempfile::TempDir,
}

impl Typist {
    /// Starts `tf` at a terminal of this size, in rows and columns.
    fn start(size: (u16, u16), arguments: &[&str]) -> Self {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let end = |from: &OwnedFd| from.try_clone().expect("a file descriptor");
        set_size(&pty.master, size);
        // `setsid --ctty` makes the terminal the one that Ctrl-C would come from.
        let mut program = Program::new("setsid")
            .env("TERM", "xterm")
            .args(["--ctty", env!("CARGO_BIN_EXE_tf")])
            .args(arguments);
        let child = program
            .command()
            .stdin(end(&pty.slave))
            .stdout(end(&pty.slave))
            .stderr(end(&pty.slave))
            .spawn()
            .expect("it starts");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let mut from = File::from(end(&pty.master));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let mut shown = shown.lock().expect("nobody panics while holding it");
                shown.extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            child,
            keyboard: File::from(pty.master),
            terminal: pty.slave,
            screen,
            _home: program.take_home(),
        }
    }

    /// Types these keys.
    fn types(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("it is open");
    }

    /// Waits until the screen shows this.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let seen = || {
            let screen = self.screen.lock().expect("nobody panics while holding it");
            String::from_utf8_lossy(&screen).into_owned()
        };
        let found = eventually(PATIENCE, || {
            let over = self.child.try_wait().expect("it can be waited for");
            let there = seen().contains(text);
            (there || over.is_some()).then_some(there)
        });
        assert!(found, "no `{text}` on the screen at the end:\n{}", seen());
    }

    /// The settings of the terminal, in the words of `stty`.
    fn mode(&self) -> Vec<String> {
        let terminal = self.terminal.try_clone().expect("a file descriptor");
        let output = Command::new("stty").arg("-a").stdin(terminal).output();
        let output = output.expect("it runs").stdout;
        let text = String::from_utf8_lossy(&output);
        text.split(|c: char| c.is_whitespace() || c == ';')
            .map(str::to_owned)
            .collect()
    }

    fn end(&mut self) -> ExitStatus {
        eventually(PATIENCE, || {
            self.child.try_wait().expect("it can be waited for")
        })
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        // A test has failed, unless it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: &OwnedFd, (rows, columns): (u16, u16)) {
    let status = Command::new("stty")
        .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
        .stdin(terminal.try_clone().expect("a file descriptor"))
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("stty runs").success());
}

#[test]
fn a_shell_is_comfortable_to_work_in() {
    if !can_type() {
        return;
    }
    let mut typist = Typist::start((43, 132), &["-it", "-e", "PS1=ready> ", busybox()]);
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
    set_size(&typist.terminal, (25, 81));
    typist.types("until stty size | grep 81; do :; done\n");
    typist.sees("25 81\r\n");
    // Ctrl-C ends the program in front, not the shell, and not tf.
    typist.types("trap 'echo caught' INT; sleep 1000; echo status $?\n");
    typist.sees("status $?\r\n");
    typist.types("\x03");
    typist.sees("caught");
    typist.types("echo still $((40 + 2))\n");
    typist.sees("still 42\r\n");
    // Ctrl-Z, Ctrl-\ and Ctrl-D are the container's, too.
    typist.types("cat\n\x04echo after $((1 + 1))\n");
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
fn the_terminal_is_restored_when_a_signal_ends_tf() {
    if !can_type() {
        return;
    }
    let mut typist = Typist::start((24, 80), &["-it", "-e", "PS1=ready> ", busybox()]);
    typist.sees("ready> ");
    let id = i32::try_from(typist.child.id()).expect("process ids are small");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(id),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("it runs");
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
    use std::os::unix::process::ExitStatusExt as _;

    let command = "stty -a | grep -o 'rows [0-9]*'; sleep 1000";
    let mut typist = Typist::start((31, 80), &["-t", busybox(), "sh", "-c", command]);
    typist.sees("rows 31\r\n");
    typist.types("\x03");
    assert_eq!(typist.end().signal(), Some(2));
}

#[test]
fn a_terminal_is_no_place_for_a_pipe() {
    if !can_type() {
        return;
    }
    let ended = crate::system::session::run(crate::common::tf().args(["-it", busybox()])).code(125);
    ended.said(&["standard input is not a terminal", "hint: leave -t out"]);
}
