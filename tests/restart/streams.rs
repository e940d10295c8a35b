//! Standard streams of processes: each byte once and in order, and their ends, whoever is killed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};

use tfnz::node::engine::fake::FakeEngine;
use tfnz::protocol::container::{ContainerSpec, Exit, ProcessSpec, Stdio, StdioStream};
use tfnz::protocol::handshake::Role;
use tfnz::protocol::messages::{EnsureImage, Spawn, StreamHeader};
use tfnz::sdk::{Process as InContainer, ProcessInput, ProcessOutput};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::*;

const MIB: usize = 1 << 20;

/// Bytes of which no part looks like another.
fn noise(length: usize) -> Bytes {
    let words = (0_u64..).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    words.flatten().take(length).collect()
}

fn attached(process: &InContainer) -> (ProcessInput, ProcessOutput) {
    (
        process.take_stdin().expect("attached"),
        process.take_stdout().expect("attached"),
    )
}

/// A process that gives back what it is given, while something happens to what is between.
struct Copying {
    given: Bytes,
    /// How much has come back.
    back: watch::Receiver<usize>,
    /// Its end is still to be sent.
    writing: tokio::task::JoinHandle<ProcessInput>,
    reading: tokio::task::JoinHandle<[u8; 32]>,
}

impl Copying {
    fn start(process: &InContainer, given: Bytes) -> Self {
        let (mut stdin, mut stdout) = attached(process);
        let mut rest = given.clone();
        let writing = tokio::spawn(async move {
            while rest.has_remaining() {
                stdin.write_buf(&mut rest).await.expect("it reads");
            }
            stdin
        });
        let (count, back) = watch::channel(0);
        let reading = tokio::spawn(async move {
            let mut hasher = Sha256::new();
            let mut chunk = vec![0; 64 << 10];
            loop {
                match stdout.read(&mut chunk).await.expect("it writes on") {
                    0 => return hasher.finalize().into(),
                    length => {
                        hasher.update(&chunk[..length]);
                        count.send_modify(|count| *count += length);
                    }
                }
            }
        });
        Self {
            given,
            back,
            writing,
            reading,
        }
    }

    /// Waits until so much has come back.
    async fn reaches(&mut self, length: usize) {
        let there = self.back.wait_for(|count| *count >= length);
        within(there).await.expect("all was read");
    }

    /// Waits for the end, and compares.
    async fn finish(self) {
        drop(within(self.writing).await.expect("it was written"));
        let back = within(self.reading).await.expect("it was read");
        assert_eq!(*self.back.borrow(), self.given.len());
        assert_eq!(back, <[u8; 32]>::from(Sha256::digest(&self.given)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_byte_arrives_once_however_often_the_location_is_killed() {
    let site = Arc::new(Site::new(Duration::from_mins(2)));
    let mut process = site.start();
    let node = site.node(Arc::default());
    let location = site.connect(&site.ann.0).await;
    let images = tempfile::tempdir().expect("a directory");
    let container = spawn(&location, &images, &["cat"]).await;
    let further = container.exec(ProcessSpec {
        args: vec!["cat".to_owned()],
        stdio: Stdio {
            stdin: true,
            output: true,
            terminal: None,
        },
        ..ProcessSpec::default()
    });
    let further = further.await.expect("it starts");
    let given = noise(32 * MIB);
    let mut first = Copying::start(container.first_process(), given.clone());
    let mut second = Copying::start(&further, given);
    for round in 1..=6 {
        let one = if round % 2 == 0 {
            &mut first
        } else {
            &mut second
        };
        one.reaches(round * 4 * MIB).await;
        process.kill();
        process = site.start();
    }
    second.finish().await;
    assert_eq!(within(further.wait()).await, Exit::Code(0));
    first.finish().await;
    assert_eq!(
        within(container.first_process().wait()).await,
        Exit::Code(0)
    );
    node.abort();
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_arrives_that_was_sent_when_the_location_was_killed() {
    let site = Arc::new(Site::new(Duration::from_mins(2)));
    let mut process = site.start();
    let node = site.node(Arc::default());
    let location = site.connect(&site.ann.0).await;
    let images = tempfile::tempdir().expect("a directory");
    for wait in [false, true] {
        let cat = spawn(&location, &images, &["cat"]).await;
        let (mut stdin, mut stdout) = attached(cat.first_process());
        stdin.write_all(b"first ").await.expect("it reads");
        within(stdout.read_exact(&mut [0; 6])).await.expect("all");
        // On their way at that moment, or written while nobody is there.
        if wait {
            process.kill();
            let mut status = location.status();
            let down = status.wait_for(|status| matches!(status, Status::Down { .. }));
            within(down).await.expect("it goes on");
            stdin.write_all(b"last").await.expect("it reads");
            drop(stdin);
        } else {
            stdin.write_all(b"last").await.expect("it reads");
            drop(stdin);
            process.kill();
        }
        process = site.start();
        let mut rest = Vec::new();
        within(stdout.read_to_end(&mut rest)).await.expect("all");
        assert_eq!(rest, b"last");
        assert_eq!(within(cat.first_process().wait()).await, Exit::Code(0));
    }
    node.abort();
    process.kill();
}

/// As where the node is part of the location, and so is killed with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_arrives_that_was_sent_when_location_and_node_were_killed() {
    let site = Arc::new(Site::new(Duration::from_mins(2)));
    let process = site.start();
    let engine = Arc::new(FakeEngine::new());
    let node = site.node(Arc::clone(&engine));
    let location = site.connect(&site.ann.0).await;
    let images = tempfile::tempdir().expect("a directory");
    let cat = spawn(&location, &images, &["cat"]).await;
    let (mut stdin, mut stdout) = attached(cat.first_process());
    stdin.write_all(b"first ").await.expect("it reads");
    within(stdout.read_exact(&mut [0; 6])).await.expect("all");

    process.kill();
    let next = Arc::new(engine.kill());
    node.abort();
    let _ = node.await;
    let mut status = location.status();
    let down = status.wait_for(|status| matches!(status, Status::Down { .. }));
    within(down).await.expect("it goes on");
    stdin.write_all(b"last").await.expect("it reads on");
    stdin.shutdown().await.expect("it reads on");
    let process = site.start();
    let node = site.node(next);
    let mut rest = Vec::new();
    within(stdout.read_to_end(&mut rest)).await.expect("all");
    assert_eq!(rest, b"last");
    assert_eq!(within(cat.first_process().wait()).await, Exit::Code(0));
    node.abort();
    process.kill();
}

/// A client that was made before streams were counted.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_count_is_served_as_before() {
    let site = Arc::new(Site::new(Duration::from_mins(2)));
    let process = site.start();
    let node = site.node(Arc::default());
    let location = site.connect(&site.ann.0).await;
    let images = tempfile::tempdir().expect("a directory");
    let sleep = spawn(&location, &images, &["sleep"]).await;

    let (link, _incoming) = site
        .link(&site.ann.0, Role::Client)
        .await
        .expect("it is there");
    let ensure = EnsureImage {
        description: sleep.image().clone(),
        names: vec![],
        keep: false,
    };
    link.call(&ensure).await.expect("it is there");
    let container = ContainerId::random();
    let stdio = Stdio {
        stdin: true,
        output: true,
        terminal: None,
    };
    let asked = Spawn {
        container: container.clone(),
        node: None,
        image: sleep.image().id,
        spec: ContainerSpec {
            entrypoint: Some(vec!["cat".to_owned()]),
            stdio,
            ..ContainerSpec::default()
        },
    };
    link.call(&asked).await.expect("it starts");
    let header = |stream| StreamHeader::Stdio {
        container: container.clone(),
        process: None,
        stream,
        position: None,
    };
    let mut stdin = link.open(&header(StdioStream::Stdin)).await.expect("open");
    let mut stdout = link.open(&header(StdioStream::Stdout)).await.expect("open");
    let given = noise(4 * MIB);
    let mut back = Vec::new();
    let writing = async {
        stdin.write_all(&given).await.expect("it reads");
        stdin.shutdown().await.expect("it reads");
    };
    let copied = async { tokio::join!(writing, stdout.read_to_end(&mut back)) };
    within(copied).await.1.expect("it writes");
    assert!(back == given);
    // Nothing is said to whoever would not expect it.
    let mut said = Vec::new();
    within(stdin.read_to_end(&mut said)).await.expect("its end");
    assert_eq!(said, b"");
    node.abort();
    process.kill();
}
