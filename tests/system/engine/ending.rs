//! What is left of containers and of engines, however they end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio as ProcessStdio};
use std::time::Instant;

use tfnz::ids::ContainerId;
use tfnz::node::engine::linux::{LinuxEngine, use_shim_program};
use tfnz::node::engine::{Engine, Spec};
use tfnz::protocol::container::{Exit, Limits, Stdio};
use tokio::io::AsyncReadExt;

use super::bench::{Bench, add, busybox, program, shell, skip, state_directory};
use super::traces::{Traces, slot, wait_until_no_process, wait_until_none};
use crate::common::{only, wait_until};

/// Set for the process that is killed.
const OWNER: &str = "TFNZ_TEST_ENGINE_OWNER";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_container_nor_of_an_engine() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let state = bench.state.path().to_owned();
    let slot = slot(&state);
    let spec = bench.spec(&["sh", "-c", "touch /written; sleep 1000 & sleep 1000"]);
    let directory = state
        .join("run")
        .join(&slot)
        .join("containers")
        .join(spec.id.as_str());
    let cgroup = |mount: &str| {
        Path::new(mount)
            .join("tf")
            .join(&slot)
            .join(spec.id.as_str())
    };
    let cgroups: Vec<_> = [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/pids",
    ]
    .into_iter()
    .map(cgroup)
    .collect();
    let container = bench.create(spec.clone()).await;
    container.start().await.expect("started");
    assert!(directory.exists());
    assert!(cgroups.iter().any(|path| path.exists()));
    let traces = Traces::of(&state, &slot);
    assert_eq!(traces.mounts, "", "mounts are the containers' own");
    container.destroy().await.expect("destroyed");
    container.destroy().await.expect("again, to no effect");
    assert!(!directory.exists());
    assert!(!cgroups.iter().any(|path| path.exists()));
    assert_eq!(Traces::of(&state, &slot).processes, [""; 0]);

    // Dropped: destroyed in the background.
    let dropped = bench.create(spec).await;
    dropped.start().await.expect("started");
    drop(dropped);
    wait_until("the container is destroyed", || {
        !directory.exists() && !cgroups.iter().any(|path| path.exists())
    });

    // One that nobody has ended.
    let running = bench.asleep().await;
    bench.engine.shutdown().await;
    wait_until_none(&state, &slot);
    assert!(matches!(
        running.first_process().wait().await,
        Exit::Lost(_) | Exit::Signal(9)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_end_with_a_dropped_engine() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let container = bench.asleep().await;
    container.start().await.expect("started");
    let Bench { engine, state, .. } = bench;
    let slot = slot(state.path());
    assert_eq!(Traces::of(state.path(), &slot).processes.len(), 1);
    drop(engine);
    assert!(matches!(
        container.first_process().wait().await,
        Exit::Lost(_) | Exit::Signal(9)
    ));
    wait_until_no_process(state.path(), &slot);
}

/// Runs an engine with a few containers until it is killed. Only in a process that the next test starts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run by the test that kills it"]
async fn owner() {
    let state = std::env::var(OWNER).expect("the state directory");
    use_shim_program(env!("CARGO_BIN_EXE_tf"));
    let engine = LinuxEngine::open(Path::new(&state)).expect("opened");
    let layers = vec![add(&engine, busybox()).await];
    let mut containers = vec![];
    for script in [
        "sleep 1000",
        // Does what it can to stay: leaves its session, ignores signals, lets nobody be told.
        "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM HUP; while true; do sleep 1; done' & while true; do sleep 1; done",
    ] {
        let spec = Spec {
            id: ContainerId::random(),
            layers: layers.clone(),
            files: vec![],
            program: shell(script),
            stdio: Stdio::default(),
            limits: Limits::default(),
        };
        let container = engine.create(spec).await.expect("created");
        container.start().await.expect("started");
        let process = container
            .exec(program(&["sleep", "1000"]), Stdio::default())
            .await
            .expect("started");
        containers.push((container, process));
    }
    println!("all is up");
    std::future::pending::<()>().await;
}

#[test]
fn killing_the_owner_kills_all_and_the_next_engine_sweeps() {
    if skip() {
        return;
    }
    let state = state_directory();
    let mut owner = Command::new(std::env::current_exe().expect("known"))
        .args(only(module_path!(), "owner"))
        .arg("--ignored")
        .env(OWNER, state.path())
        .stdout(ProcessStdio::piped())
        .spawn()
        .expect("started");
    let mut output = BufReader::new(owner.stdout.take().expect("piped"));
    assert!(
        output
            .by_ref()
            .lines()
            .any(|line| line.expect("read").contains("all is up")),
        "the owner starts"
    );
    let slot = slot(state.path());
    let before = Traces::of(state.path(), &slot);
    assert!(before.processes.len() >= 5, "{before:?}");
    owner.kill().expect("killed");
    owner.wait().expect("ended");
    // At once, as far as that can be said of processes that the kernel kills one after the other.
    wait_until_no_process(state.path(), &slot);
    let left = Traces::of(state.path(), &slot);
    assert_eq!(left.mounts, "");
    assert!(
        !left.cgroups.is_empty() && !left.directories.is_empty(),
        "{left:?}"
    );

    let other = state_directory();
    let next = LinuxEngine::open(other.path()).expect("opened");
    assert!(!state.path().join("run").join(&slot).exists());
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_in_a_row_leave_nothing() {
    let Some(bench) = Bench::new().await else {
        return;
    };
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
    let state = bench.state.path();
    let slot = slot(state);
    let left = Traces::of(state, &slot);
    assert_eq!(left.processes, [""; 0]);
    let containers = state.join("run").join(&slot).join("containers");
    assert_eq!(fs::read_dir(containers).expect("listed").count(), 0);
    bench.engine.shutdown().await;
    wait_until_none(state, &slot);
}
