//! `tf` as a user starts it: what it says while it runs, how it is told to end, and what comes of it.

use std::fs;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::common::{PATIENCE, Program, eventually};
use crate::system::leftovers;

/// A program that runs, and all that it writes.
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Tape,
    stderr: Tape,
    home: TempDir,
    state: PathBuf,
    alone: bool,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// All that it wrote to standard output.
    pub(crate) stdout: Vec<u8>,
    /// All that it wrote to standard error.
    pub(crate) stderr: String,
}

impl Session {
    /// Starts a program with pipes at all its streams.
    pub(crate) fn start(mut program: Program) -> Self {
        let home = program.take_home();
        let command = program.command();
        let state = command
            .get_envs()
            .find_map(|(name, value)| (name == "TF_STATE").then_some(value?))
            .map(PathBuf::from)
            .expect("it is always set");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        Self {
            stdin: child.stdin.take(),
            stdout: Tape::record(child.stdout.take().expect("it is piped")),
            stderr: Tape::record(child.stderr.take().expect("it is piped")),
            child,
            home,
            state,
            alone: true,
        }
    }

    /// Says that others use its state directory at the same time, so that what is left there need not be its own.
    pub(crate) fn beside_others(mut self) -> Self {
        self.alone = false;
        self
    }

    /// Its process.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"))
    }

    /// Its home directory.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// What its standard input is written to.
    pub(crate) fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().expect("it is still open")
    }

    /// Ends its standard input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for a line on standard error that has `text` in it, and returns the line.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> String {
        self.writes(text, |session| session.stderr.text())
    }

    /// Waits for a line on standard output that has `text` in it, and returns the line.
    #[track_caller]
    pub(crate) fn prints(&mut self, text: &str) -> String {
        self.writes(text, |session| session.stdout.text())
    }

    #[track_caller]
    fn writes(&mut self, text: &str, tape: impl Fn(&Self) -> String) -> String {
        let found = eventually(PATIENCE, || {
            // Asked before the text is looked at: what it wrote before its end counts.
            let over = self.child.try_wait().expect("it can be waited for");
            let written = tape(self);
            let line = written.lines().find(|line| line.contains(text));
            match (line, over) {
                (Some(line), _) => Some(Ok(line.to_owned())),
                (None, Some(status)) => Some(Err(status)),
                (None, None) => None,
            }
        });
        found.unwrap_or_else(|status| {
            let (out, err) = (self.stdout.text(), self.stderr.text());
            panic!("it ended with {status} without `{text}`:\n{out}\n{err}")
        })
    }

    /// Waits until it says that a port of the container answers, and returns the local port.
    #[track_caller]
    pub(crate) fn port(&mut self, remote: u16) -> u16 {
        let line = self.says(&format!(" -> {remote}/tcp"));
        let (address, _) = line.split_once(" -> ").expect("it was looked for");
        let (_, port) = address.rsplit_once(':').expect("an address with a port");
        port.parse().expect("a port")
    }

    /// All that it has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        self.stderr.text()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.id(), signal).expect("it has not been waited for");
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("it can be waited for")
            .is_some()
    }

    /// Waits for its end, and that nothing of it is left.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        self.close_stdin();
        let status = eventually(PATIENCE, || {
            self.child.try_wait().expect("it can be waited for")
        });
        let ended = Ended {
            status,
            stdout: self.stdout.finish(),
            stderr: String::from_utf8_lossy(&self.stderr.finish()).into_owned(),
        };
        if self.alone {
            leftovers::assert_none_of(&self.state);
        }
        ended
    }

    /// Sends it a signal and waits for the end that this is to bring.
    #[track_caller]
    pub(crate) fn end_by(self, signal: Signal) -> Ended {
        self.signal(signal);
        let ended = self.end();
        assert_eq!(ended.status.signal(), Some(signal as i32), "{ended:?}");
        ended
    }

    /// Presses Ctrl-C and waits for the end that this is to bring.
    #[track_caller]
    pub(crate) fn interrupt(self) -> Ended {
        self.end_by(Signal::SIGINT)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // A test has failed. What runs may still be asked to clean up.
        self.signal(Signal::SIGTERM);
        for _ in 0..500 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Asserts that it ended with this status.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts that it wrote exactly this to standard output.
    #[track_caller]
    pub(crate) fn printed(self, text: &str) -> Self {
        assert_eq!(self.text(), text, "{self:#?}");
        self
    }

    /// Asserts that it complained of nothing.
    #[track_caller]
    pub(crate) fn content(self) -> Self {
        let complaint = ["warning: ", "error: ", " WARN ", " ERROR ", "panicked"]
            .into_iter()
            .find(|word| self.stderr.contains(word));
        assert_eq!(complaint, None, "{self:#?}");
        self
    }

    /// Asserts that all of these are in what it wrote to standard error.
    #[track_caller]
    pub(crate) fn said(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no `{text}` in {self:#?}");
        }
        self
    }
}

/// `tf` as a user without privileges, from a copy in `directory`: nobody else may look into the build directory.
pub(crate) fn tf_as_nobody(directory: &TempDir) -> Program {
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("it is ours");
    };
    let copy = directory.path().join("tf");
    write_executable(
        &copy,
        &fs::read(env!("CARGO_BIN_EXE_tf")).expect("it is built"),
    );
    open(directory.path());
    open(&copy);
    let nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--",
    ];
    let program = Program::new("setpriv").args(nobody).args([&copy]);
    open(program.home());
    program
}

/// Writes a program. Not this process does that: what another thread starts meanwhile would have the file open for writing
/// for a moment, in which it cannot be executed.
pub(crate) fn write_executable(path: &Path, content: &[u8]) {
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("start sh");
    let mut stdin = shell.stdin.take().expect("it is piped");
    stdin.write_all(content).expect("it is read");
    drop(stdin);
    assert!(
        shell.wait().expect("it ends").success(),
        "cannot write {}",
        path.display()
    );
}

/// Starts a program and waits for its end. Its standard input is empty.
#[track_caller]
pub(crate) fn run(program: Program) -> Ended {
    Session::start(program).end()
}

/// What a program has written, all of it.
struct Tape {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Tape {
    fn record(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let tape = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                lock(&tape).extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.bytes)).into_owned()
    }

    fn finish(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading does not panic");
        }
        std::mem::take(&mut lock(&self.bytes))
    }
}

fn lock(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().expect("nobody panics while holding it")
}

/// Connects to a local port, with limits on how long things take.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// Sends all of it and the end of it, and reads all that comes back.
pub(crate) fn exchange(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    stream.write_all(request).expect("it is read");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it is answered");
    answer
}

/// Gets a page, and asserts that there is one.
#[track_caller]
pub(crate) fn get(port: u16, path: &str) -> String {
    let mut stream = connect(port);
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it is answered");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1);
    assert_eq!(status, Some("200"), "{answer}");
    body.to_owned()
}
