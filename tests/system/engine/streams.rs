//! Standard streams and terminals of processes.

use tfnz::node::engine::Engine;
use tfnz::protocol::container::{Exit, Stdio, WindowSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bench::{Bench, OUTPUT, both_ways, finish, program, read_until, shell};

#[tokio::test(flavor = "multi_thread")]
async fn streams_can_be_opened_by_name_by_any_user() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut program = shell("echo out > /dev/stdout; echo err > /dev/stderr");
    program.user = "web".to_owned();
    for outcome in both_ways(&bench, program).await {
        assert_eq!(
            outcome,
            ("out\n".to_owned(), "err\n".to_owned(), Exit::Code(0))
        );
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_reaches_a_process_and_ends() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let container = bench.asleep().await;
    let stdio = Stdio {
        stdin: true,
        ..OUTPUT
    };
    let process = container
        .exec(program(&["wc", "-c"]), stdio)
        .await
        .expect("started");
    let mut io = process.take_io();
    assert!(process.take_io().stdin.is_none());
    let mut stdin = io.stdin.take().expect("attached");
    // More than any pipe holds.
    stdin
        .write_all(&vec![b'x'; 3 << 20])
        .await
        .expect("written");
    stdin.shutdown().await.expect("closed");
    drop(stdin);
    let (text, _, exit) = finish(io, &*process).await;
    assert_eq!(text, "3145728\n");
    assert_eq!(exit, Exit::Code(0));
    // Not attached: nothing to read, and nowhere to write to.
    let process = container
        .exec(shell("cat && echo lost"), Stdio::default())
        .await
        .expect("started");
    let io = process.take_io();
    assert!(io.stdin.is_none() && io.stdout.is_none() && io.stderr.is_none());
    assert_eq!(process.wait().await, Exit::Code(0));
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_controls() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let stdio = Stdio {
        stdin: true,
        output: true,
        terminal: Some(WindowSize {
            rows: 33,
            columns: 111,
        }),
    };
    let mut program = shell(
        "tty; stty size; echo $TERM; trap 'stty size; exit 5' WINCH; trap 'echo interrupted' INT; echo ready; while true; do sleep 0.1; done",
    );
    program.user = "web".to_owned();
    let mut spec = bench.spec(&[]);
    spec.program = program.clone();
    spec.stdio = stdio;
    let first = bench.create(spec).await;
    let sleeping = bench.asleep().await;
    let further = sleeping.exec(program, stdio).await.expect("started");
    first.start().await.expect("started");
    for process in [first.first_process(), &*further] {
        let mut io = process.take_io();
        assert!(io.stderr.is_none());
        let mut stdin = io.stdin.take().expect("attached");
        let mut stdout = io.stdout.take().expect("attached");
        let text = read_until(&mut *stdout, "ready\r\n").await;
        assert_eq!(text, "/dev/pts/0\r\n33 111\r\nxterm\r\nready\r\n");
        stdin.write_all(b"\x03").await.expect("typed");
        read_until(&mut *stdout, "interrupted").await;
        process
            .resize(WindowSize {
                rows: 7,
                columns: 8,
            })
            .expect("resized");
        read_until(&mut *stdout, "7 8").await;
        assert_eq!(process.wait().await, Exit::Code(5));
        // All that was to be read has been.
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).await.expect("the end");
    }
    bench.engine.shutdown().await;
}
