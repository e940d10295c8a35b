//! Containers that outlive the process of their engine, which is killed here again and again.
//!
//! The engine that is killed runs in a process of its own, which is this test program with the test [`owner`]. It does what
//! it reads from its standard input, a line each, and says on its standard output when that is done.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tfnz::ids::{ContainerId, Digest};
use tfnz::node::engine::linux::{LinuxEngine, use_shim_program};
use tfnz::node::engine::{self, Adopted, Container, Engine, EngineError, Process, Spec};
use tfnz::protocol::container::{Exit, Limits, Stdio, WindowSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::engine::{
    Image, OUTPUT, PATIENCE, Traces, add, exec, finish, program, shell, skip, slot, socket,
    state_directory, wait_until,
};
use super::machine::Machine;
use crate::common::{Program, installed};

/// The state directory, for the process that is killed.
const OWNER: &str = "TFNZ_TEST_LASTING_OWNER";
/// Its lease, in milliseconds.
const LEASE: &str = "TFNZ_TEST_LASTING_LEASE";

/// Longer than any test runs.
const LONG: Duration = Duration::from_mins(10);

const ALL: Stdio = Stdio {
    stdin: true,
    output: true,
    terminal: None,
};

/// A process that has an engine.
struct Owner {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it was started with.
    _program: Program,
}

impl Owner {
    fn start(state: &Path, lease: Duration) -> Self {
        let this = std::env::current_exe().expect("known");
        Self::start_as(Program::new(this), state, lease)
    }

    fn start_on(machine: &Machine, state: &Path, lease: Duration) -> Self {
        let this = std::env::current_exe().expect("known");
        Self::start_as(machine.program(this), state, lease)
    }

    /// Starts it as `program`, which is this one.
    fn start_as(mut program: Program, state: &Path, lease: Duration) -> Self {
        // As the harness names it: without the name of the crate.
        let module = module_path!().split_once("::").expect("a crate").1;
        let mut process = program
            .command()
            .args(["--exact", &format!("{module}::owner")])
            .args(["--ignored", "--nocapture"])
            .env(OWNER, state)
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
        };
        owner.read("ready");
        owner
    }

    /// The rest of the next line that begins with this word. The harness writes some, too.
    #[track_caller]
    fn read(&mut self, word: &str) -> String {
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
    fn tell(&mut self, line: &str) -> String {
        self.say(line);
        self.read("done")
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open");
        writeln!(input, "{line}").expect("written");
    }

    /// Lets it end.
    fn end(mut self) {
        drop(self.input.take());
        assert!(self.process.wait().expect("ended").success());
    }

    /// Kills it, with all in its process group.
    fn kill(mut self) {
        let group = i32::try_from(self.process.id()).expect("small");
        nix::sys::signal::killpg(Pid::from_raw(group), Signal::SIGKILL).expect("killed");
        self.process.wait().expect("ended");
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
    let layers = vec![add(&engine, Image::busybox()).await];
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
            ..ALL
        },
        limits: Limits {
            memory: Some(64 << 20),
            ..Limits::default()
        },
    }
}

/// Takes the containers back.
async fn next(state: &Path) -> (LinuxEngine, BTreeMap<String, Adopted>) {
    let engine = LinuxEngine::open_lasting(state, LONG).expect("opened");
    let adopted = engine.adopt().await.expect("adopted");
    assert!(engine.adopt().await.expect("adopted").is_empty());
    let adopted = adopted
        .into_iter()
        .map(|adopted| (adopted.id.as_str().to_owned(), adopted));
    (engine, adopted.collect())
}

/// Reads until there is this text, and returns all that came.
async fn read_until(stream: &mut (dyn tokio::io::AsyncRead + Send + Unpin), text: &str) -> String {
    let mut found = String::new();
    let read = async {
        while !found.contains(text) {
            let byte = stream.read_u8().await.expect("read");
            found.push(char::from(byte));
        }
    };
    let ended = tokio::time::timeout(PATIENCE, read).await;
    assert!(ended.is_ok(), "`{text}` does not come: {found}");
    found
}

async fn wait(process: &dyn Process) -> Exit {
    let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
    ended.expect("ends in time")
}

/// The processes of a container, as the machine has them.
fn processes(slot: &str, id: &str) -> Vec<Pid> {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"];
    let files = mounts.map(|mount| {
        let cgroup = Path::new(mount).join("tf").join(slot).join(id);
        fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default()
    });
    let lines = files.iter().flat_map(|file| file.lines());
    lines
        .map(|line| Pid::from_raw(line.parse().expect("a number")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_container_is_reached_and_can_be_worked_in() {
    if skip() {
        return;
    }
    let state = state_directory();
    let mut owner = Owner::start(state.path(), LONG);
    let id = owner.tell("make running while :; do nc -l -p 80 -e cat; done");
    owner.tell("exec sleep 4321");
    let slot = slot(state.path());
    owner.kill();

    let (engine, adopted) = next(state.path()).await;
    let Adopted { container, .. } = &adopted[&id];
    let script = "grep -l '[4]321' /proc/[0-9]*/cmdline 2>/dev/null";
    let (found, _, _) = exec(&**container, shell(script)).await;
    assert_eq!(found, "", "a further process has outlived its engine");
    let mut stream = connected(&**container).await;
    stream.write_all(b"echo").await.expect("sent");
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.expect("echoed");
    assert_eq!(&reply, b"echo");
    // New ones have other addresses and ids.
    let layers = [only_layer(state.path())];
    let ids = "cat /proc/self/uid_map";
    let fresh = spec(&layers, program(&["sleep", "1000"]), false);
    let fresh = engine.create(fresh).await.expect("created");
    assert_ne!(container.ip(), fresh.ip());
    assert_ne!(
        exec(&**container, shell(ids)).await,
        exec(&*fresh, shell(ids)).await
    );
    end(engine, state.path(), &slot).await;
}

/// A connection to the port 80, which is not always open.
async fn connected(container: &dyn Container) -> tokio::net::TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match container.connect(80).await {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn end(engine: LinuxEngine, state: &Path, slot: &str) {
    engine.shutdown().await;
    wait_until("all traces go", || Traces::of(state, slot).are_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_is_lost_that_nobody_has_read() {
    if skip() {
        return;
    }
    let state = state_directory();
    let mut owner = Owner::start(state.path(), LONG);
    // Each number has eight digits, and says where it is.
    let id = owner.tell("make running i=10000000; while echo -n $i; do i=$((i+8)); done; exit 3");
    let read = owner.tell("read 4000");
    let slot = slot(state.path());
    owner.kill();

    let (engine, adopted) = next(state.path()).await;
    let first = adopted[&id].container.first_process();
    let mut stdout = first.take_io().stdout.expect("there");
    // More than a pipe holds: some was written before, and some after.
    let mut text = vec![0; 200_000];
    stdout.read_exact(&mut text).await.expect("read");
    let text = read + std::str::from_utf8(&text).expect("digits");
    for (place, number) in text.as_bytes().chunks(8).enumerate() {
        let expected = (10_000_000 + 8 * place).to_string();
        assert_eq!(number, expected.as_bytes(), "at {}", place * 8);
    }
    // It notices that nobody reads any more, although the shim could have.
    drop(stdout);
    assert_eq!(wait(first).await, Exit::Code(3));
    end(engine, state.path(), &slot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_to_the_next_engine() {
    if skip() {
        return;
    }
    let state = state_directory();
    let mut owner = Owner::start(state.path(), LONG);
    let asleep = owner.tell("make asleep echo awake; exit 7");
    let missing = owner.tell("make program missing");
    let trap = "trap 'echo late; exit 5' TERM; echo up; while :; do sleep 0.01; done";
    let ended = owner.tell(&format!("make running {trap}"));
    assert_eq!(owner.tell("read 3"), "up");
    let slot = slot(state.path());
    owner.kill();
    // While nobody is there. The first process is the oldest, and hears the signal.
    let first = processes(&slot, &ended).into_iter().min();
    kill(first.expect("it runs"), Signal::SIGTERM).expect("sent");
    wait_until("it ends", || processes(&slot, &ended).is_empty());

    let (engine, mut adopted) = next(state.path()).await;
    let Adopted {
        container, program, ..
    } = &adopted[&asleep];
    assert_eq!(program.args, ["sh", "-c", "echo awake; exit 7"]);
    let first = container.first_process();
    assert!(first.wait().now_or_never().is_none(), "it waits");
    container.start().await.expect("started");
    let outcome = finish(first.take_io(), first).await;
    assert_eq!(outcome, ("awake\n".into(), String::new(), Exit::Code(7)));

    let first = adopted[&ended].container.first_process();
    let outcome = finish(first.take_io(), first).await;
    assert_eq!(outcome, ("late\n".into(), String::new(), Exit::Code(5)));
    let first = adopted[&missing].container.first_process();
    // This is not in its status, and the engine that was killed had heard of it.
    match wait(first).await {
        Exit::NotFound(text) => assert!(text.contains("`missing`"), "{text}"),
        other => panic!("{other:?}"),
    }

    for id in [ended, asleep, missing] {
        let Adopted { container, .. } = adopted.remove(&id).expect("adopted");
        container.destroy().await.expect("destroyed");
        let directory = state.path().join("run").join(&slot).join("containers");
        assert!(!directory.join(&id).exists());
    }
    end(engine, state.path(), &slot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_terminals_are_handed_over() {
    if skip() {
        return;
    }
    let state = state_directory();
    let mut owner = Owner::start(state.path(), LONG);
    let cat = owner.tell("make running cat; exit 9");
    let talks = "stty size; read line; echo got $line; read line; stty size";
    let terminal = owner.tell(&format!("make terminal {talks}"));
    assert!(owner.tell("read 5").starts_with("11 22"));
    let closed = owner.tell("make running cat; echo over; sleep 1000");
    owner.tell("close");
    let slot = slot(state.path());
    owner.kill();

    let (engine, adopted) = next(state.path()).await;
    let first = adopted[&cat].container.first_process();
    let mut io = first.take_io();
    let stdin = io.stdin.as_mut().expect("there");
    stdin.write_all(b"typed").await.expect("sent");
    // It sees the end of its input, although the shim had that open, too.
    let outcome = finish(io, first).await;
    assert_eq!(outcome, ("typed".into(), String::new(), Exit::Code(9)));

    let first = adopted[&closed].container.first_process();
    let mut io = first.take_io();
    assert!(io.stdin.is_none(), "it was closed");
    let stdout = io.stdout.as_mut().expect("there");
    read_until(&mut **stdout, "over\n").await;

    let first = adopted[&terminal].container.first_process();
    let mut io = first.take_io();
    let stdin = io.stdin.as_mut().expect("there");
    let stdout = io.stdout.as_mut().expect("there");
    stdin.write_all(b"typed\n").await.expect("sent");
    read_until(&mut **stdout, "got typed").await;
    let size = WindowSize {
        rows: 33,
        columns: 44,
    };
    first.resize(size).expect("resized");
    stdin.write_all(b"\n").await.expect("sent");
    read_until(&mut **stdout, "33 44").await;
    assert_eq!(wait(first).await, Exit::Code(0));
    end(engine, state.path(), &slot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_stay_in_use_while_nobody_is_there() {
    if skip() {
        return;
    }
    let state = state_directory();
    let mut owner = Owner::start(state.path(), LONG);
    let id = owner.tell("make asleep true");
    let slot = slot(state.path());
    let layer = only_layer(state.path());
    owner.kill();
    let other = LinuxEngine::open(state.path()).expect("opened");
    other.drop_layers(&[layer]).await.expect("no error");
    assert!(other.has_layer(&layer), "it is in use");
    other.shutdown().await;

    let (engine, adopted) = next(state.path()).await;
    engine.drop_layers(&[layer]).await.expect("no error");
    assert!(engine.has_layer(&layer), "it is in use");
    let Adopted { container, .. } = &adopted[&id];
    container.destroy().await.expect("destroyed");
    engine.drop_layers(&[layer]).await.expect("dropped");
    assert!(!engine.has_layer(&layer), "nobody uses it any more");
    end(engine, state.path(), &slot).await;
}

/// The only layer in a state directory.
fn only_layer(state: &Path) -> Digest {
    let mut entries = fs::read_dir(state.join("layers")).expect("listed");
    let name = entries
        .next()
        .expect("a layer")
        .expect("listed")
        .file_name();
    format!("sha256:{}", name.to_str().expect("text"))
        .parse()
        .expect("a digest")
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_survive_one_kill_after_the_other() {
    if skip() {
        return;
    }
    let state = state_directory();
    let state = state.path();
    let mut owner = Owner::start(state, LONG);
    let id = owner.tell("make running while :; do read line; echo got $line; done");
    for round in 0..3 {
        owner.kill();
        owner = Owner::start(state, LONG);
        assert_eq!(owner.tell("adopt"), (1 + round).to_string());
        owner.tell("make asleep true");
    }
    owner.kill();
    let (engine, adopted) = next(state).await;
    assert_eq!(adopted.len(), 4);
    let mut io = adopted[&id].container.first_process().take_io();
    let stdin = io.stdin.as_mut().expect("there");
    stdin.write_all(b"it\n").await.expect("sent");
    read_until(&mut **io.stdout.as_mut().expect("there"), "got it\n").await;
    let slot = slot(state);
    // Dropped without a word: all ends at once, as nobody was killed.
    drop(engine);
    wait_until("all processes die", || {
        Traces::of(state, &slot).processes.is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_containers_from_a_living_engine() {
    if skip() {
        return;
    }
    let state = state_directory();
    let mut owner = Owner::start(state.path(), LONG);
    let id = owner.tell("make running while :; do read line; echo got $line; done");
    let first_slot = slot(state.path());
    let (second, adopted) = next(state.path()).await;
    assert!(adopted.is_empty());
    // An embedded one does not, either, nor does the sweep of any.
    drop(LinuxEngine::open(state.path()).expect("opened"));
    second.prepare().await.expect("prepared");
    second.shutdown().await;
    assert!(!processes(&first_slot, &id).is_empty());
    assert!(socket(&first_slot).exists());
    owner.kill();
    drop(LinuxEngine::open(state.path()).expect("opened"));
    let (engine, adopted) = next(state.path()).await;
    assert_eq!(adopted.keys().collect::<Vec<_>>(), [&id]);
    engine.shutdown().await;
    let state = state.path();
    wait_until("all traces go", || {
        Traces::of(state, &first_slot).are_none()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_end_with_the_lease() {
    if skip() {
        return;
    }
    let state = state_directory();
    let state = state.path();
    let lease = Duration::from_millis(300);
    let mut owner = Owner::start(state, lease);
    owner.tell("make running sleep 1000");
    owner.tell("make asleep true");
    let slot = slot(state);
    let killed = Instant::now();
    owner.kill();
    wait_until("all processes die", || {
        Traces::of(state, &slot).processes.is_empty()
    });
    assert!(killed.elapsed() >= lease, "{:?}", killed.elapsed());
    let (engine, adopted) = next(state).await;
    assert!(adopted.is_empty());
    engine.shutdown().await;
    wait_until("all traces go", || Traces::of(state, &slot).are_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_back_is_ended_and_replaced() {
    if skip() || !installed("ip") {
        return;
    }
    let state = state_directory();
    let mut owner = Owner::start(state.path(), LONG);
    let id = owner.tell("make running sleep 1000");
    let slot = slot(state.path());
    owner.kill();
    // Somebody has taken the containers off the network.
    let link = format!("tfnz-{slot}");
    let deleted = Command::new("ip").args(["link", "delete", &link]).status();
    assert!(deleted.expect("ip runs").success());

    let (engine, adopted) = next(state.path()).await;
    assert!(adopted.is_empty());
    assert_eq!(processes(&slot, &id), []);
    let layers = [only_layer(state.path())];
    let made = spec(&layers, program(&["sleep", "1000"]), false);
    let container = engine.create(made).await.expect("created");
    let (text, _, _) = exec(&*container, program(&["echo", "works"])).await;
    assert_eq!(text, "works\n");
    end(engine, state.path(), &slot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_in_the_middle_of_taking_back_leaves_a_working_engine() {
    if skip() {
        return;
    }
    let state = state_directory();
    let mut owner = Owner::start(state.path(), LONG);
    let id = owner.tell("make running sleep 1000");
    let slot = slot(state.path());
    owner.kill();
    let engine = LinuxEngine::open_lasting(state.path(), LONG).expect("opened");
    // Begun, and dropped.
    assert!(engine.adopt().now_or_never().is_none());
    assert!(engine.adopt().await.expect("adopted").is_empty());
    wait_until("it ends", || processes(&slot, &id).is_empty());
    let layers = [only_layer(state.path())];
    let made = spec(&layers, program(&["sleep", "1000"]), false);
    let container = engine.create(made).await.expect("created");
    let (text, _, _) = exec(&*container, program(&["echo", "works"])).await;
    assert_eq!(text, "works\n");
    end(engine, state.path(), &slot).await;
}

#[test]
fn nothing_is_left_on_the_machine() {
    let Some(machine) = Machine::new().filter(|_| !skip()) else {
        return;
    };
    let state = state_directory();
    let before = machine.inventory();

    let mut owner = Owner::start_on(&machine, state.path(), LONG);
    owner.tell("make running sleep 1000");
    owner.tell("exec sleep 1000");
    owner.tell("make asleep true");
    owner.kill();
    assert_ne!(machine.inventory(), before, "they run on");
    let mut next = Owner::start_on(&machine, state.path(), LONG);
    assert_eq!(next.tell("adopt"), "2");
    next.tell("make running sleep 1000");
    next.tell("shutdown");
    next.end();
    machine.assert_as_before(&before, "after an orderly end");

    // Nobody comes but for the sweep, when the lease is over.
    let lease = Duration::from_millis(200);
    let mut owner = Owner::start_on(&machine, state.path(), lease);
    owner.tell("make running sleep 1000");
    owner.kill();
    wait_until("the containers end", || {
        !machine
            .shell("cat /proc/[0-9]*/comm 2>/dev/null || :")
            .contains("tf-shim")
    });
    let mut next = Owner::start_on(&machine, state.path(), LONG);
    assert_eq!(next.tell("adopt"), "0");
    next.tell("shutdown");
    next.end();
    machine.assert_as_before(&before, "after the lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_half_made_is_cleared_away() {
    if skip() {
        return;
    }
    let state = state_directory();
    let state = state.path();
    for round in 0..8_u32 {
        let mut owner = Owner::start(state, LONG);
        owner.say("churn");
        for _ in 0..=round % 3 {
            owner.read("made");
        }
        // At another place each time, of the ten milliseconds or so that one takes.
        std::thread::sleep(Duration::from_micros(u64::from(round) * 1_300));
        owner.kill();
        let slot = slot(state);
        let (engine, adopted) = next(state).await;
        // Two that are there for good, and one or two that come or go.
        assert!((1..=4).contains(&adopted.len()), "{}", adopted.len());
        // One may have been about to be destroyed.
        let mut living = 0;
        for adopted in adopted.values() {
            let echo = adopted.container.exec(program(&["echo", "here"]), OUTPUT);
            match echo.await {
                Ok(process) => {
                    let (text, _, exit) = finish(process.take_io(), &*process).await;
                    assert_eq!((text.as_str(), exit), ("here\n", Exit::Code(0)));
                    living += 1;
                }
                Err(EngineError::Ended) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(living + 1 >= adopted.len(), "{living}");
        wait_until("nobody else runs", || {
            Traces::of(state, &slot).processes.len() == living
        });
        let directories = state.join("run").join(&slot).join("containers");
        let listed = fs::read_dir(directories).expect("listed").count();
        assert!(listed <= adopted.len(), "{listed} of {}", adopted.len());
        engine.shutdown().await;
        wait_until("all traces go", || Traces::of(state, &slot).are_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_of_another_version_is_ended_and_swept() {
    if skip() {
        return;
    }
    // Somebody who does as such a shim does: holds a lock, and offers what nobody here understands.
    let state = state_directory();
    let state = state.path().canonicalize().expect("there");
    fs::create_dir_all("/run/20ft").expect("made");
    let slot = "127";
    let lock_path = Path::new("/run/20ft").join(slot);
    fs::write(&lock_path, state.to_str().expect("text")).expect("written");
    let lock = fs::File::open(&lock_path).expect("there");
    lock.try_lock().expect("nobody has it");
    let mut stranger = Command::new("sleep");
    let held = lock.as_raw_fd();
    // SAFETY: one system call between fork and exec.
    #[allow(unsafe_code, reason = "a descriptor is to be inherited")]
    unsafe {
        stranger.pre_exec(move || {
            nix::fcntl::fcntl(
                held,
                nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
            )?;
            Ok(())
        });
    }
    let mut stranger = stranger.arg("1000").spawn().expect("started");
    drop(lock);
    let listener = listen(&socket(slot));
    let pid = stranger.id();
    let offering = std::thread::spawn(move || offer(&listener, pid));

    let opened = tokio::task::spawn_blocking({
        let state = state.clone();
        move || LinuxEngine::open_lasting(&state, LONG).expect("opened")
    });
    let engine = opened.await.expect("it does not panic");
    // The engine may have waited for it, too, as it is a child of this process: then there is none any more.
    match stranger.try_wait() {
        Ok(status) => assert!(!status.expect("it is killed").success()),
        Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::ECHILD)),
    }
    offering.join().expect("offered");
    assert!(engine.adopt().await.expect("adopted").is_empty());
    assert!(!socket(slot).exists(), "it is swept");
    engine.shutdown().await;
}

fn listen(path: &PathBuf) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
    let listener = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a socket");
    let _ = fs::remove_file(path);
    let address = UnixAddr::new(path).expect("a short path");
    nix::sys::socket::bind(listener.as_raw_fd(), &address).expect("bound");
    nix::sys::socket::listen(&listener, Backlog::new(1).expect("small")).expect("listens");
    listener
}

/// Offers, as version 9999, the process `pid` to whoever comes.
fn offer(listener: &impl AsFd, pid: u32) {
    use nix::sys::socket::{ControlMessage, MsgFlags, accept, sendmsg};
    let socket = accept(listener.as_fd().as_raw_fd()).expect("somebody comes");
    let pid = i32::try_from(pid).expect("small");
    // SAFETY: takes two integers.
    #[allow(unsafe_code, reason = "has no wrapper")]
    let pidfd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let pidfd = [i32::try_from(pidfd).expect("small")];
    sendmsg::<()>(
        socket,
        &[std::io::IoSlice::new(
            b"\0\xa2\x67version\x19\x27\x0f\x64free\xf5",
        )],
        &[ControlMessage::ScmRights(&pidfd)],
        MsgFlags::empty(),
        None,
    )
    .expect("sent");
}
