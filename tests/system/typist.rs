//! Somebody who sits at a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::unistd::Pid;

use crate::common::{PATIENCE, Program, eventually};

/// A program at a terminal of its own, and somebody who types.
pub(crate) struct Typist {
    child: Child,
    keyboard: File,
    /// Keeps the terminal in place when the program has ended, so that its mode can be looked at.
    terminal: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    _home: tempfile::TempDir,
}

impl Typist {
    /// Starts a program at a terminal of this size, in rows and columns. To have the keys that send signals, it begins with
    /// `setsid --ctty`.
    pub(crate) fn start(size: (u16, u16), program: Program) -> Self {
        let mut program = program.env("TERM", "xterm");
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let end = |from: &OwnedFd| from.try_clone().expect("a file descriptor");
        set_size(&pty.master, size);
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

    /// The program's process.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"))
    }

    /// The terminal.
    pub(crate) fn terminal(&self) -> &OwnedFd {
        &self.terminal
    }

    /// Types these keys.
    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("it is open");
    }

    /// All that the screen has shown so far.
    pub(crate) fn screen(&self) -> String {
        let screen = self.screen.lock().expect("nobody panics while holding it");
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// Waits until the screen shows this.
    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        // Not by a panic inside: the screen tells what went wrong.
        let found = eventually(2 * PATIENCE, || {
            let over = self.child.try_wait().expect("it can be waited for");
            let there = self.screen().contains(text);
            (there || over.is_some() || Instant::now() > end).then_some(there)
        });
        assert!(found, "no `{text}` on the screen:\n{}", self.screen());
    }

    /// The settings of the terminal, in the words of `stty`.
    pub(crate) fn mode(&self) -> Vec<String> {
        let terminal = self.terminal.try_clone().expect("a file descriptor");
        let output = Command::new("stty").arg("-a").stdin(terminal).output();
        let output = output.expect("it runs").stdout;
        let text = String::from_utf8_lossy(&output);
        text.split(|c: char| c.is_whitespace() || c == ';')
            .map(str::to_owned)
            .collect()
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
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

/// Gives a terminal a size, in rows and columns.
pub(crate) fn set_size(terminal: &OwnedFd, (rows, columns): (u16, u16)) {
    let status = Command::new("stty")
        .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
        .stdin(terminal.try_clone().expect("a file descriptor"))
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("stty runs").success());
}
