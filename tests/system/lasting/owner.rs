//! The process whose engine is killed, and what is left of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio as ProcessStdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;
use tfnz::ids::{ContainerId, Digest};
use tfnz::node::engine::linux::{LinuxEngine, use_shim_program};
use tfnz::node::engine::{self, Adopted, Container, Engine, Spec};
use tfnz::protocol::container::{Limits, Stdio, WindowSize};
use tokio::io::AsyncReadExt;

use crate::common::{Program, only};
use crate::system::engine::bench::{
    OUTPUT, add, busybox, exec, program, shell, skip, state_directory,
};
use crate::system::engine::traces::{slot, wait_until_no_process, wait_until_none};
use crate::system::machine::Machine;

/// The state directory, for the process that is killed.
const OWNER: &str = "TFNZ_TEST_LASTING_OWNER";

/// Its lease, in milliseconds.
const LEASE: &str = "TFNZ_TEST_LASTING_LEASE";

/// Longer than any test runs.
pub(super) const LONG: Duration = Duration::from_mins(10);

/// A process that has an engine.
pub(super) struct Owner {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it was started with.
    _program: Program,
    state: Arc<TempDir>,
}

impl Owner {
    /// One with a state directory of its own, or none if the machine lacks what these tests need.
    pub(super) fn new() -> Option<Self> {
        Self::with_lease(LONG)
    }

    /// As [`Owner::new`], with a lease that ends.
    pub(super) fn with_lease(lease: Duration) -> Option<Self> {
        if skip() {
            return None;
        }
        Some(Self::start(&Arc::new(state_directory()), lease))
    }

    /// One that comes after another.
    pub(super) fn start(state: &Arc<TempDir>, lease: Duration) -> Self {
        let this = std::env::current_exe().expect("known");
        Self::start_as(Program::new(this), state, lease)
    }

    /// One on a machine of its own.
    pub(super) fn start_on(machine: &Machine, state: &Arc<TempDir>, lease: Duration) -> Self {
        let this = std::env::current_exe().expect("known");
        Self::start_as(machine.program(this), state, lease)
    }

    /// Starts it as `program`, which is this one.
    fn start_as(mut program: Program, state: &Arc<TempDir>, lease: Duration) -> Self {
        let mut process = program
            .command()
            .args(only(module_path!(), "owner"))
            .arg("--ignored")
            .env(OWNER, state.path())
            .env(LEASE, lease.as_millis().to_string())
            .stdin(ProcessStdio::piped())
            .stdout(ProcessStdio::piped())
            // Whoever kills its group does not mean the containers.
            .process_group(0)
            .spawn()
            .expect("started");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let mut owner = Self {
            process,
            input,
            output,
            _program: program,
            state: Arc::clone(state),
        };
        owner.read("ready");
        owner
    }

    /// The rest of the next line that begins with this word. The harness writes some, too.
    #[track_caller]
    pub(super) fn read(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let length = self.output.read_line(&mut line).expect("read");
            assert_ne!(length, 0, "the owner has died before `{word}`");
            if let Some(rest) = line.trim_end().strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Has it do something.
    #[track_caller]
    pub(super) fn tell(&mut self, line: &str) -> String {
        self.say(line);
        self.read("done")
    }

    pub(super) fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open");
        writeln!(input, "{line}").expect("written");
    }

    /// Lets it end.
    pub(super) fn end(mut self) {
        drop(self.input.take());
        assert!(self.process.wait().expect("ended").success());
    }

    /// Where it is.
    pub(super) fn place(&self) -> Place {
        Place {
            state: Arc::clone(&self.state),
            slot: slot(self.state.path()),
        }
    }

    /// Kills it, with all in its process group, and says where it was.
    pub(super) fn kill(mut self) -> Place {
        let place = self.place();
        let group = i32::try_from(self.process.id()).expect("small");
        nix::sys::signal::killpg(Pid::from_raw(group), Signal::SIGKILL).expect("killed");
        self.process.wait().expect("ended");
        place
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It has been killed already, unless the test has failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Is killed. Only in a process that the other tests start.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run by the tests that kill it"]
async fn owner() {
    let variable = |name| std::env::var(name).expect("it is set");
    let (state, lease) = (variable(OWNER), variable(LEASE));
    let lease = Duration::from_millis(lease.parse().expect("a number"));
    use_shim_program(env!("CARGO_BIN_EXE_tf"));
    let engine = LinuxEngine::open_lasting(Path::new(&state), lease).expect("opened");
    let layers = vec![add(&engine, busybox()).await];
    let mut containers: Vec<Box<dyn Container>> = Vec::new();
    let mut processes = Vec::new();
    let mut streams = BTreeMap::new();
    println!("ready");
    let mut lines = std::io::stdin().lines();
    while let Some(Ok(line)) = lines.next() {
        let words: Vec<_> = line.splitn(3, ' ').collect();
        match words[..] {
            // make (asleep|running|terminal) SCRIPT, make program NAME: a container, the last one from now on.
            ["make", how, what] => {
                let runs = match how {
                    "program" => program(&[what]),
                    _ => shell(what),
                };
                let made = spec(&layers, runs, how == "terminal");
                let id = made.id.clone();
                let container = engine.create(made).await.expect("created");
                if how != "asleep" {
                    container.start().await.expect("started");
                }
                streams.insert(containers.len(), container.first_process().take_io());
                containers.push(container);
                println!("done {}", id.as_str());
            }
            // exec SCRIPT: a further process in the last one.
            ["exec", command, argument] => {
                let last = containers.last().expect("made");
                let further = last.exec(program(&[command, argument]), OUTPUT).await;
                processes.push(further.expect("started"));
                println!("done");
            }
            // read LENGTH: of what the last one has written.
            ["read", length] => {
                let io = streams.get_mut(&(containers.len() - 1)).expect("made");
                let mut text = vec![0; length.parse().expect("a number")];
                let stdout = io.stdout.as_mut().expect("there");
                stdout.read_exact(&mut text).await.expect("read");
                println!(
                    "done {}",
                    String::from_utf8_lossy(&text).replace(['\n', '\r'], " ")
                );
            }
            // close: the standard input of the last one.
            ["close"] => {
                let io = streams.get_mut(&(containers.len() - 1)).expect("made");
                drop(io.stdin.take());
                println!("done");
            }
            ["adopt"] => {
                let adopted = engine.adopt().await.expect("adopted");
                println!("done {}", adopted.len());
                containers.extend(adopted.into_iter().map(|adopted| adopted.container));
            }
            ["shutdown"] => {
                engine.shutdown().await;
                println!("done");
            }
            // churn: makes and destroys until it is killed.
            ["churn"] => loop {
                let made = spec(&layers, program(&["sleep", "1000"]), false);
                let container = engine.create(made).await.expect("created");
                container.start().await.expect("started");
                println!("made");
                containers.push(container);
                if containers.len() > 2 {
                    let first = containers.remove(0);
                    first.destroy().await.expect("destroyed");
                }
            },
            _ => panic!("what is `{line}`?"),
        }
    }
}

fn spec(layers: &[Digest], program: engine::Program, terminal: bool) -> Spec {
    Spec {
        id: ContainerId::random(),
        layers: layers.to_vec(),
        files: vec![],
        program,
        stdio: Stdio {
            terminal: terminal.then_some(WindowSize {
                rows: 11,
                columns: 22,
            }),
            stdin: true,
            output: true,
        },
        limits: Limits {
            memory: Some(64 << 20),
            ..Limits::default()
        },
    }
}

/// Where an engine is, or was until it was killed.
pub(super) struct Place {
    state: Arc<TempDir>,
    pub(super) slot: String,
}

impl Place {
    /// The state directory.
    pub(super) fn state(&self) -> &Path {
        self.state.path()
    }

    /// The next process that has an engine here.
    pub(super) fn next_owner(&self) -> Owner {
        Owner::start(&self.state, LONG)
    }

    /// The next engine, in this process, and the containers that it has taken back.
    pub(super) async fn adopt(&self) -> (LinuxEngine, BTreeMap<String, Adopted>) {
        let engine = LinuxEngine::open_lasting(self.state(), LONG).expect("opened");
        let adopted = engine.adopt().await.expect("adopted");
        assert!(engine.adopt().await.expect("adopted").is_empty());
        let adopted = adopted
            .into_iter()
            .map(|adopted| (adopted.id.as_str().to_owned(), adopted));
        (engine, adopted.collect())
    }

    /// The directories of its containers.
    pub(super) fn containers(&self) -> PathBuf {
        let run = self.state().join("run");
        run.join(&self.slot).join("containers")
    }

    /// The processes of a container, as the machine has them.
    pub(super) fn processes(&self, id: &str) -> Vec<Pid> {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"];
        let files = mounts.map(|mount| {
            let cgroup = Path::new(mount).join("tf").join(&self.slot).join(id);
            fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default()
        });
        let lines = files.iter().flat_map(|file| file.lines());
        lines
            .map(|line| Pid::from_raw(line.parse().expect("a number")))
            .collect()
    }

    /// The only layer that is stored here.
    pub(super) fn layer(&self) -> Digest {
        let mut entries = fs::read_dir(self.state().join("layers")).expect("listed");
        let entry = entries.next().expect("a layer").expect("listed");
        let name = entry.file_name();
        format!("sha256:{}", name.to_str().expect("text"))
            .parse()
            .expect("a digest")
    }

    /// A container of this layer that sleeps.
    pub(super) async fn asleep(&self, engine: &LinuxEngine) -> Box<dyn Container> {
        let made = spec(&[self.layer()], program(&["sleep", "1000"]), false);
        engine.create(made).await.expect("created")
    }

    /// Asserts that new containers can be made and worked in.
    pub(super) async fn assert_works(&self, engine: &LinuxEngine) {
        let container = self.asleep(engine).await;
        let (text, _, _) = exec(&*container, program(&["echo", "works"])).await;
        assert_eq!(text, "works\n");
    }

    /// Waits until none of the containers' processes is left.
    pub(super) fn wait_until_no_process(&self) {
        wait_until_no_process(self.state(), &self.slot);
    }

    /// Waits until nothing is left.
    pub(super) fn wait_until_none(&self) {
        wait_until_none(self.state(), &self.slot);
    }

    /// Ends the last engine, of which nothing is left.
    pub(super) async fn end(&self, engine: LinuxEngine) {
        engine.shutdown().await;
        self.wait_until_none();
    }
}
