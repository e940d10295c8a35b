//! What several tests share. Each test binary uses a part of it.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::print_stderr, reason = "a test that skips says so")]

#[cfg(target_os = "linux")]
pub(crate) mod docker;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod inside;
#[cfg(unix)]
pub(crate) mod server;

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long something may take that is expected to happen, on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Pause between two looks at something that is expected to happen.
const PAUSE: Duration = Duration::from_millis(5);

/// `tf` with nothing of this machine's settings: an empty home, a state of its own, no Docker daemon.
pub(crate) fn tf() -> Program {
    Program::new(env!("CARGO_BIN_EXE_tf"))
}

/// `tfcache`, in the same way.
pub(crate) fn tfcache() -> Program {
    Program::new(env!("CARGO_BIN_EXE_tfcache"))
}

/// A program that is about to be run.
pub(crate) struct Program {
    command: Command,
    home: TempDir,
    input: Vec<u8>,
}

impl Program {
    /// A program with a cleared environment and a home of its own.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let home = tempfile::tempdir().expect("a directory for temporary files");
        let path = |name: &str| home.path().join(name);
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path())
            .env("TF_HOME", path("20ft"))
            .env("TF_STATE", path("state"))
            .env("TF_CACHE", path("cache"))
            .env(
                "DOCKER_HOST",
                format!("unix://{}", path("no-docker.sock").display()),
            );
        Self {
            command,
            home,
            input: Vec::new(),
        }
    }

    /// Its home directory, which is gone when it is.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds a variable to its environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it something to read.
    pub(crate) fn input(mut self, bytes: &[u8]) -> Self {
        bytes.clone_into(&mut self.input);
        self
    }

    /// The command, for what is not foreseen here.
    pub(crate) fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Its home directory, to be looked at after it has run.
    pub(crate) fn take_home(&mut self) -> TempDir {
        let empty = tempfile::tempdir().expect("a directory for temporary files");
        std::mem::replace(&mut self.home, empty)
    }

    /// Writes a file into its home directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home().join(name);
        std::fs::write(&path, content).expect("the home is writable");
        path
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Done {
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may have ended without reading.
        let _ = stdin.write_all(&self.input);
        drop(stdin);
        let output = child.wait_with_output().expect("it can be waited for");
        Done {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts it, to be killed at the latest when the result is dropped.
    pub(crate) fn spawn(mut self) -> Running {
        let child = self.command.spawn().expect("the program can be started");
        Running {
            child,
            _home: self.home,
        }
    }
}

/// How a program has ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// All that it wrote to standard output.
    pub(crate) stdout: String,
    /// All that it wrote to standard error.
    pub(crate) stderr: String,
}

impl Done {
    /// Asserts that it ended with this status.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// Asserts that it wrote nothing to standard output.
    #[track_caller]
    pub(crate) fn no_stdout(self) -> Self {
        assert_eq!(self.stdout, "", "{self:#?}");
        self
    }

    /// Asserts that it wrote nothing to standard error.
    #[track_caller]
    pub(crate) fn no_stderr(self) -> Self {
        assert_eq!(self.stderr, "", "{self:#?}");
        self
    }

    /// Asserts that all of these are in what it wrote to standard error.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no `{text}` in {self:#?}");
        }
        self
    }
}

/// A program that runs, and its home.
pub(crate) struct Running {
    child: Child,
    _home: TempDir,
}

impl Running {
    /// Its process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal).expect("it still runs");
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually(PATIENCE, || {
            self.child.try_wait().expect("it can be waited for")
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer, and panics at the deadline.
#[track_caller]
pub(crate) fn eventually<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it did not happen in {deadline:?}");
        thread::sleep(PAUSE);
    }
}

/// Waits until something is so, and panics at the deadline.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not so in {PATIENCE:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// A local port that was free a moment ago, and that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// What has the harness run this test alone. `module` is what `module_path!` says there.
pub(crate) fn only(module: &str, test: &str) -> [String; 5] {
    // The harness names it without the name of the crate.
    let (_crate, module) = module.split_once("::").expect("a module within a crate");
    let name = format!("{module}::{test}");
    // Where it thinks that there is one thread, it begins the line on which the test says its first word.
    let words = ["--exact", &name, "--nocapture", "--test-threads", "2"];
    words.map(str::to_owned)
}

/// Whether a program is installed that a test needs. Without it the test is skipped, or fails where `CI` is set.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
        eprintln!("skipped: needs {program}");
    }
    found
}
