//! What callers of the engine rely on.

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::FakeEngine;
use crate::ids::{ContainerId, Digest};
use crate::node::engine::{Engine, EngineError, Program, Spec};
use crate::protocol::container::{Exit, Limits, Stdio};

fn spec(args: &[&str]) -> Spec {
    Spec {
        id: ContainerId::random(),
        layers: vec![],
        files: vec![],
        program: program(args),
        stdio: ALL,
        limits: Limits::default(),
    }
}

fn program(args: &[&str]) -> Program {
    Program {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Program::default()
    }
}

const ALL: Stdio = Stdio {
    stdin: true,
    output: true,
    terminal: None,
};

#[tokio::test]
async fn a_first_process_runs_when_told_and_ends_when_told() {
    let engine = FakeEngine::new();
    let container = engine.create(spec(&["cat"])).await.expect("created");
    let first = container.first_process();
    let mut io = first.take_io();
    assert!(first.take_io().stdin.is_none());
    let (mut stdin, mut stdout) = (io.stdin.take().expect("in"), io.stdout.take().expect("out"));
    stdin.write_all(b"hello").await.expect("written");
    assert!(first.wait().now_or_never().is_none());
    container.start().await.expect("started");
    let mut text = [0; 5];
    stdout.read_exact(&mut text).await.expect("read");
    assert_eq!(&text, b"hello");
    first.signal(15).await.expect("sent");
    assert_eq!(first.wait().await, Exit::Signal(15));
    assert!(matches!(first.signal(9).await, Err(EngineError::Ended)));
}

#[tokio::test]
async fn a_killed_engine_leaves_its_containers_to_the_next() {
    let killed = FakeEngine::new();
    let (cat, asleep) = (spec(&["cat"]), spec(&["exit", "3"]));
    let container = killed.create(cat.clone()).await.expect("created");
    let waits = killed.create(asleep.clone()).await.expect("created");
    let gone = killed.create(spec(&["sleep"])).await.expect("created");
    gone.destroy().await.expect("destroyed");
    container.start().await.expect("started");
    let further = container.exec(program(&["sleep"]), ALL).await;
    let further = further.expect("started");
    let mut io = container.first_process().take_io();
    let stdin = io.stdin.as_mut().expect("it is there");
    stdin.write_all(b"unread").await.expect("written");

    let engine = killed.kill();
    assert_eq!(further.wait().await, Exit::Signal(9));
    drop((io, container, waits, further));
    killed.shutdown().await;
    drop(killed);

    let mut adopted = engine.adopt().await.expect("adopted");
    assert!(engine.adopt().await.expect("adopted").is_empty());
    let ids: Vec<_> = adopted.iter().map(|adopted| adopted.id.clone()).collect();
    assert_eq!(ids, [cat.id, asleep.id]);
    let waits = adopted.pop().expect("two");
    assert_eq!(waits.program, asleep.program);
    waits.container.start().await.expect("started");
    let exit = waits.container.first_process().wait().await;
    assert_eq!(exit, Exit::Code(3));
    let cat = adopted.pop().expect("two").container;
    let mut io = cat.first_process().take_io();
    let mut text = [0; 6];
    let stdout = io.stdout.as_mut().expect("it is there");
    stdout.read_exact(&mut text).await.expect("read");
    assert_eq!(&text, b"unread");
    drop(io.stdin);
    assert_eq!(cat.first_process().wait().await, Exit::Code(0));
}

#[tokio::test]
async fn a_server_is_reached_until_its_container_ends() {
    let engine = FakeEngine::new();
    let container = engine.create(spec(&["sleep"])).await.expect("created");
    container.start().await.expect("started");
    assert!(container.connect(80).await.is_err());
    let server = container
        .exec(program(&["serve", "80"]), Stdio::default())
        .await
        .expect("started");
    let mut stream = loop {
        match container.connect(80).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    stream.write_all(b"x").await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("echoed"), b'x');
    container.destroy().await.expect("destroyed");
    assert_eq!(server.wait().await, Exit::Signal(9));
    assert!(container.connect(80).await.is_err());
}

#[tokio::test]
async fn ends_are_told_apart() {
    let engine = FakeEngine::new();
    for (args, expected) in [(&["exit", "7"][..], 7), (&["echo", "x"], 0)] {
        let container = engine.create(spec(args)).await.expect("created");
        container.start().await.expect("started");
        assert_eq!(container.first_process().wait().await, Exit::Code(expected));
    }
    let container = engine.create(spec(&["nothing"])).await.expect("created");
    container.start().await.expect("started");
    assert!(matches!(
        container.first_process().wait().await,
        Exit::NotFound(_)
    ));
    let container = engine.create(spec(&["sleep"])).await.expect("created");
    engine.shutdown().await;
    assert_eq!(container.first_process().wait().await, Exit::Signal(9));
}

#[tokio::test]
async fn layers_are_verified() {
    let engine = FakeEngine::new();
    let digest = Digest::of(b"layer");
    let add =
        |content: &'static [u8]| engine.add_layer(digest, Box::new(content), Box::new(|_| {}));
    assert!(matches!(
        add(b"other").await,
        Err(EngineError::WrongDigest { .. })
    ));
    let mut needs = spec(&["exit", "0"]);
    needs.layers = vec![digest];
    assert!(engine.create(needs.clone()).await.is_err());
    add(b"layer").await.expect("added");
    assert!(engine.has_layer(&digest));
    engine.create(needs).await.expect("created");
}
