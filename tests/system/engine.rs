//! The Linux engine, with real containers of a busybox image.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tfnz::ids::{ContainerId, Digest};
use tfnz::node::engine::linux::{LinuxEngine, use_shim_program};
use tfnz::node::engine::{Container, Engine, EngineError, Process, Program, Spec};
use tfnz::protocol::container::{Exit, Limits, PrebootFile, Stdio, WindowSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Set for the process that is killed.
const OWNER: &str = "TFNZ_TEST_ENGINE_OWNER";

/// Whether the machine lacks what these tests need.
fn skip() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "root"
    } else if !Path::new("/bin/busybox").exists() {
        "/bin/busybox (apt install busybox-static)"
    } else {
        use_shim_program(env!("CARGO_BIN_EXE_tf"));
        return false;
    };
    assert!(std::env::var_os("CI").is_none(), "needs {reason}");
    eprintln!("skipped: needs {reason}");
    true
}

/// A tar of directories, files, links and devices.
struct Image(tar::Builder<Vec<u8>>);

impl Image {
    fn empty() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Busybox, with its links and two users.
    fn busybox() -> Self {
        let mut image = Self::empty();
        for directory in ["bin", "etc", "root", "home"] {
            image.entry(directory, tar::EntryType::Directory, 0o755, b"");
        }
        image.entry("tmp", tar::EntryType::Directory, 0o1777, b"");
        let busybox = fs::read("/bin/busybox").expect("busybox");
        image.file("bin/busybox", 0o755, &busybox);
        let applets = Command::new("/bin/busybox")
            .arg("--list")
            .output()
            .expect("busybox runs");
        for applet in String::from_utf8_lossy(&applets.stdout).lines() {
            if applet != "busybox" {
                image.link(&format!("bin/{applet}"), "/bin/busybox");
            }
        }
        image.file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/home:/bin/sh\n",
        );
        image.file("etc/group", 0o644, b"root:x:0:\nweb:x:34:\nlog:x:4:web\n");
        image.file("etc/plain", 0o644, b"not a program\n");
        image.file("etc/script", 0o755, b"#!/no/such/interpreter\n");
        image.file("etc/garbage", 0o755, b"\x01\x02\x03\x04");
        image
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, tar::EntryType::Regular, mode, content);
    }

    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        self.0
            .append_data(&mut header, path, content)
            .expect("appended");
    }

    fn link(&mut self, path: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        self.0
            .append_link(&mut header, path, target)
            .expect("appended");
    }

    fn device(&mut self, path: &str, major: u32, minor: u32, kind: tar::EntryType) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_device_major(major).expect("gnu");
        header.set_device_minor(minor).expect("gnu");
        self.0
            .append_data(&mut header, path, &b""[..])
            .expect("appended");
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("a whole tar")
    }
}

/// An engine with a state directory of its own.
struct Bench {
    engine: LinuxEngine,
    layers: Vec<Digest>,
    _state: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with(vec![Image::busybox()]).await
    }

    async fn with(images: Vec<Image>) -> Self {
        let state = state_directory();
        let engine = LinuxEngine::open(state.path()).expect("opened");
        let mut layers = Vec::new();
        for image in images {
            layers.push(add(&engine, image).await);
        }
        engine.prepare().await.expect("prepared");
        Self {
            engine,
            layers,
            _state: state,
        }
    }

    fn spec(&self, args: &[&str]) -> Spec {
        Spec {
            id: ContainerId::random(),
            layers: self.layers.clone(),
            files: vec![],
            program: program(args),
            stdio: OUTPUT,
            limits: Limits::default(),
        }
    }

    async fn create(&self, spec: Spec) -> Box<dyn Container> {
        self.engine.create(spec).await.expect("created")
    }

    /// A container that sleeps, to start further processes in.
    async fn asleep(&self) -> Box<dyn Container> {
        self.create(self.spec(&["sleep", "1000"])).await
    }

    /// What a command prints and how it ends, as the first process of a container.
    async fn run(&self, spec: Spec) -> (String, String, Exit) {
        let container = self.create(spec).await;
        let io = container.first_process().take_io();
        container.start().await.expect("started");
        let outcome = finish(io, container.first_process()).await;
        container.destroy().await.expect("destroyed");
        outcome
    }
}

const OUTPUT: Stdio = Stdio {
    stdin: false,
    output: true,
    terminal: None,
};

fn state_directory() -> TempDir {
    // Not in /tmp, which is an overlay or a tmpfs on some machines.
    fs::create_dir_all("/var/tmp").expect("there");
    tempfile::Builder::new()
        .prefix("tfnz-test-")
        .tempdir_in("/var/tmp")
        .expect("a directory")
}

async fn add(engine: &LinuxEngine, image: Image) -> Digest {
    let bytes = image.bytes();
    let digest = Digest::of(&bytes);
    engine
        .add_layer(
            digest,
            Box::new(std::io::Cursor::new(bytes)),
            Box::new(|_| {}),
        )
        .await
        .expect("unpacked");
    digest
}

fn program(args: &[&str]) -> Program {
    Program {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Program::default()
    }
}

fn shell(script: &str) -> Program {
    program(&["sh", "-c", script])
}

async fn finish(
    io: tfnz::node::engine::ProcessIo,
    process: &dyn Process,
) -> (String, String, Exit) {
    let read = |stream: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>| async {
        let mut text = String::new();
        if let Some(mut stream) = stream {
            stream.read_to_string(&mut text).await.expect("read");
        }
        text
    };
    drop(io.stdin);
    let all = async { tokio::join!(read(io.stdout), read(io.stderr), process.wait()) };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("ends in time")
}

/// What a further process prints and how it ends.
async fn exec(container: &dyn Container, program: Program) -> (String, String, Exit) {
    let process = container.exec(program, OUTPUT).await.expect("started");
    finish(process.take_io(), &*process).await
}

/// Runs `program` once as first process and once as further process, with the same image.
async fn both_ways(bench: &Bench, program: Program) -> [(String, String, Exit); 2] {
    let mut spec = bench.spec(&[]);
    spec.program = program.clone();
    let first = bench.run(spec).await;
    let container = bench.asleep().await;
    let further = exec(&*container, program).await;
    container.destroy().await.expect("destroyed");
    [first, further]
}

/// Waits until `condition` holds.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_a_program_and_leaves_with_its_status() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    for outcome in both_ways(&bench, shell("echo out; echo err >&2; exit 7")).await {
        assert_eq!(
            outcome,
            ("out\n".to_owned(), "err\n".to_owned(), Exit::Code(7))
        );
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_processes_and_are_how_they_end() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let container = bench.asleep().await;
    let (_, _, exit) = exec(&*container, shell("kill -TERM $$; sleep 1000")).await;
    assert_eq!(exit, Exit::Signal(15));
    let process = container
        .exec(program(&["sleep", "1000"]), OUTPUT)
        .await
        .expect("started");
    process.signal(10).await.expect("sent");
    assert_eq!(process.wait().await, Exit::Signal(10));
    // A real-time signal, which has no name.
    let process = container
        .exec(program(&["sleep", "1000"]), OUTPUT)
        .await
        .expect("started");
    process.signal(40).await.expect("sent");
    assert_eq!(process.wait().await, Exit::Signal(40));
    assert!(matches!(process.signal(9).await, Err(EngineError::Ended)));
    container.start().await.expect("started");
    container.first_process().signal(9).await.expect("sent");
    assert_eq!(container.first_process().wait().await, Exit::Signal(9));
    assert!(matches!(
        container.exec(program(&["true"]), OUTPUT).await,
        Err(EngineError::Ended)
    ));
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_are_fast() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let mut times = Vec::new();
    for _ in 0..100 {
        let spec = bench.spec(&["echo", "x"]);
        let begin = Instant::now();
        let container = bench.create(spec).await;
        let mut output = container
            .first_process()
            .take_io()
            .stdout
            .expect("attached");
        container.start().await.expect("started");
        let mut byte = [0];
        output.read_exact(&mut byte).await.expect("output");
        times.push(begin.elapsed());
        container.destroy().await.expect("destroyed");
    }
    times.sort();
    eprintln!(
        "start to first output, 100 in a row: median {:?}, least {:?}, most {:?}",
        times[50], times[0], times[99]
    );
    bench.engine.shutdown().await;
}
