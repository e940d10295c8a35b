//! What runs in a container: how it starts, as whom and where, and how it ends.

use std::time::Instant;

use tfnz::node::engine::{Engine, EngineError, Program};
use tfnz::protocol::container::Exit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bench::{Bench, OUTPUT, both_ways, connected, exec, program, shell};
use crate::common::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_a_program_and_leaves_with_its_status() {
    let Some(bench) = Bench::new().await else {
        return;
    };
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
    let Some(bench) = Bench::new().await else {
        return;
    };
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
async fn programs_that_cannot_run_are_told_apart() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let exits = async |command: &str| {
        let [first, further] = both_ways(&bench, program(&[command])).await;
        assert_eq!(first.2, further.2);
        first.2
    };
    for (command, part) in [
        ("no-such-program", "PATH"),
        ("/bin/no-such-program", "not in the container"),
        ("/etc/passwd/x", "not in the container"),
        ("/etc/script", "interpreter"),
    ] {
        match exits(command).await {
            Exit::NotFound(text) => {
                assert!(text.contains(part) && text.contains(command), "{text}");
            }
            other => panic!("{command}: {other:?}"),
        }
    }
    for (command, part) in [
        ("/etc/plain", "not executable"),
        ("/etc", "directory"),
        ("/etc/garbage", "exec format error"),
    ] {
        match exits(command).await {
            Exit::NotExecutable(text) => {
                assert!(text.contains(part) && text.contains(command), "{text}");
            }
            other => panic!("{command}: {other:?}"),
        }
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_directories_and_environment_are_those_of_the_container() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut program = shell(
        "id -u; id -g; id -G; pwd; echo $HOME; echo $PATH; echo $A; cat /etc/hostname; echo $HOSTNAME; umask; stat -c %u:%g /not",
    );
    program.env = vec!["A=b c".to_owned()];
    program.working_dir = "/not/there/yet".to_owned();
    program.user = "web".to_owned();
    for (text, error, exit) in both_ways(&bench, program.clone()).await {
        assert_eq!(exit, Exit::Code(0), "{error}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..7],
            [
                "33",
                "34",
                "34 4",
                "/not/there/yet",
                "/home",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "b c",
            ]
        );
        assert_eq!(lines[7].len(), 12);
        assert_eq!(lines[7], lines[8]);
        assert_eq!(lines[9..], ["0022", "0:0"]);
    }
    let container = bench.asleep().await;
    for (change, part) in [
        (
            |program: &mut Program| program.user = "nobody".to_owned(),
            "no user `nobody`",
        ),
        (
            |program: &mut Program| program.user = "web:none".to_owned(),
            "no group `none`",
        ),
        (
            |program: &mut Program| program.working_dir = "/etc/passwd".to_owned(),
            "/etc/passwd",
        ),
        (
            |program: &mut Program| program.working_dir = "relative".to_owned(),
            "not absolute",
        ),
        // A descriptor that happens to be open there would lead out of the container.
        (
            |program: &mut Program| program.working_dir = "/proc/self/fd/5".to_owned(),
            "/proc/self/fd/5",
        ),
        (
            |program: &mut Program| program.env.push("A=\0".to_owned()),
            "zero byte",
        ),
    ] as [(fn(&mut Program), &str); 6]
    {
        let mut program = program.clone();
        change(&mut program);
        match container.exec(program.clone(), OUTPUT).await.map(drop) {
            Err(EngineError::BadSpec(text)) => assert!(text.contains(part), "{text}"),
            other => panic!("{part}: {other:?}"),
        }
        let mut spec = bench.spec(&[]);
        spec.program = program;
        let sleeping = bench.create(spec).await;
        match sleeping.start().await {
            Err(EngineError::BadSpec(text)) => assert!(text.contains(part), "{text}"),
            other => panic!("{part}: {other:?}"),
        }
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_start_at_once() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let runs = (0..10).map(|number| {
        bench.run(bench.spec(&[
            "sh",
            "-c",
            &format!("cat /proc/self/uid_map; echo {number}"),
        ]))
    });
    let outcomes = futures_util::future::join_all(runs).await;
    let mut maps = std::collections::BTreeSet::new();
    for (number, (text, error, exit)) in outcomes.into_iter().enumerate() {
        assert_eq!(exit, Exit::Code(0), "{error}");
        let (map, rest) = text.split_once('\n').expect("two lines");
        assert_eq!(rest, format!("{number}\n"));
        assert!(maps.insert(map.to_owned()), "two containers share {map}");
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_a_container_is_reached() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let container = bench
        .create(bench.spec(&["nc", "-l", "-p", "80", "-e", "cat"]))
        .await;
    assert!(container.connect(80).await.is_err());
    container.start().await.expect("started");
    let mut stream = connected(&*container).await;
    stream.write_all(b"echo").await.expect("sent");
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.expect("echoed");
    assert_eq!(&reply, b"echo");
    bench.engine.shutdown().await;
    assert!(container.connect(80).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_nobody_has_any_more_is_killed() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let container = bench.asleep().await;
    let process = container
        .exec(program(&["sleep", "1234"]), OUTPUT)
        .await
        .expect("started");
    let count = async || {
        let (text, _, _) = exec(
            &*container,
            shell("grep -l '[1]234' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"),
        )
        .await;
        text
    };
    assert_eq!(count().await, "1\n");
    drop(process);
    let deadline = Instant::now() + PATIENCE;
    while count().await != "0\n" {
        assert!(Instant::now() < deadline);
    }
    bench.engine.shutdown().await;
}
