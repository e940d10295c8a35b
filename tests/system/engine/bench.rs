//! An engine to try things on, and what they are tried with.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tfnz::ids::{ContainerId, Digest};
use tfnz::node::engine::linux::{LinuxEngine, use_shim_program};
use tfnz::node::engine::{Container, Engine, Process, ProcessIo, Program, Spec};
use tfnz::protocol::container::{Exit, Limits, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

use crate::common::PATIENCE;
use crate::system::fixture::Layer;

/// Output, to be read, and no input.
pub(crate) const OUTPUT: Stdio = Stdio {
    stdin: false,
    output: true,
    terminal: None,
};

/// Whether the machine lacks what these tests need.
pub(crate) fn skip() -> bool {
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

/// An engine with a state directory of its own.
pub(super) struct Bench {
    pub(super) engine: LinuxEngine,
    pub(super) layers: Vec<Digest>,
    pub(super) state: TempDir,
}

impl Bench {
    /// One with an image of busybox, or none if the machine lacks what these tests need.
    pub(super) async fn new() -> Option<Self> {
        if skip() {
            return None;
        }
        Some(Self::with(vec![busybox()]).await)
    }

    /// One with an image of these layers.
    pub(super) async fn with(image: Vec<Layer>) -> Self {
        let state = state_directory();
        let engine = LinuxEngine::open(state.path()).expect("opened");
        let mut layers = Vec::new();
        for layer in image {
            layers.push(add(&engine, layer).await);
        }
        engine.prepare().await.expect("prepared");
        Self {
            engine,
            layers,
            state,
        }
    }

    /// A container of its image.
    pub(super) fn spec(&self, args: &[&str]) -> Spec {
        Spec {
            id: ContainerId::random(),
            layers: self.layers.clone(),
            files: vec![],
            program: program(args),
            stdio: OUTPUT,
            limits: Limits::default(),
        }
    }

    pub(super) async fn create(&self, spec: Spec) -> Box<dyn Container> {
        self.engine.create(spec).await.expect("created")
    }

    /// A container that sleeps, to start further processes in.
    pub(super) async fn asleep(&self) -> Box<dyn Container> {
        self.create(self.spec(&["sleep", "1000"])).await
    }

    /// What a command prints and how it ends, as the first process of a container.
    pub(super) async fn run(&self, spec: Spec) -> (String, String, Exit) {
        let container = self.create(spec).await;
        let io = container.first_process().take_io();
        container.start().await.expect("started");
        let outcome = finish(io, container.first_process()).await;
        container.destroy().await.expect("destroyed");
        outcome
    }
}

/// A directory for the state of an engine.
pub(crate) fn state_directory() -> TempDir {
    // Not in /tmp, which is an overlay or a tmpfs on some machines.
    fs::create_dir_all("/var/tmp").expect("there");
    tempfile::Builder::new()
        .prefix("tfnz-test-")
        .tempdir_in("/var/tmp")
        .expect("a directory")
}

/// Busybox, two users, and what cannot be run.
pub(crate) fn busybox() -> Layer {
    let mut layer = Layer::busybox();
    layer.file("etc/plain", 0o644, b"not a program\n");
    layer.file("etc/script", 0o755, b"#!/no/such/interpreter\n");
    layer.file("etc/garbage", 0o755, b"\x01\x02\x03\x04");
    layer
}

/// Has the engine unpack a layer.
pub(crate) async fn add(engine: &LinuxEngine, layer: Layer) -> Digest {
    let bytes = layer.finish();
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

/// A program and its arguments, with nothing else said.
pub(crate) fn program(args: &[&str]) -> Program {
    Program {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Program::default()
    }
}

/// A script.
pub(crate) fn shell(script: &str) -> Program {
    program(&["sh", "-c", script])
}

/// What a process prints until its end, and how it ends.
pub(crate) async fn finish(io: ProcessIo, process: &dyn Process) -> (String, String, Exit) {
    let read = |stream: Option<Box<dyn AsyncRead + Send + Unpin>>| async {
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
pub(crate) async fn exec(container: &dyn Container, program: Program) -> (String, String, Exit) {
    let process = container.exec(program, OUTPUT).await.expect("started");
    finish(process.take_io(), &*process).await
}

/// Runs `program` once as first process and once as further process, with the same image.
pub(super) async fn both_ways(bench: &Bench, program: Program) -> [(String, String, Exit); 2] {
    let mut spec = bench.spec(&[]);
    spec.program = program.clone();
    let first = bench.run(spec).await;
    let container = bench.asleep().await;
    let further = exec(&*container, program).await;
    container.destroy().await.expect("destroyed");
    [first, further]
}

/// Reads until there is this text, and returns all that came.
pub(crate) async fn read_until(stream: &mut (dyn AsyncRead + Send + Unpin), text: &str) -> String {
    let mut found = String::new();
    let read = async {
        while !found.contains(text) {
            match stream.read_u8().await {
                Ok(byte) => found.push(char::from(byte)),
                Err(error) => panic!("{error} after: {found}"),
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, read).await;
    assert!(ended.is_ok(), "`{text}` does not come: {found}");
    found
}

/// A connection to the port 80, which is not always open.
pub(crate) async fn connected(container: &dyn Container) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match container.connect(80).await {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
