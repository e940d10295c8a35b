//! A location and a node that are killed and started again: what a client had goes on.
//!
//! Each location runs in a thread with a runtime of its own, whose end is as abrupt as that of a process: its sockets close
//! and nothing more is said on them, whatever destructors would like to say.

mod away;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tfnz::ids::{ContainerId, NodeId, UserId};
use tfnz::image::Platform;
use tfnz::keys::SecretKey;
use tfnz::link::{ConnectOptions, Inbound, Link, Listen, Status, TcpDial, Transport, connect};
use tfnz::location::{Bounds, Options, Principal, Server};
use tfnz::node::Agent;
use tfnz::node::engine::fake::FakeEngine;
use tfnz::progress::Silent;
use tfnz::protocol::container::{Exit, ProcessSpec, Stdio};
use tfnz::protocol::handshake::Role;
use tfnz::protocol::messages::{Capacity, Continue, Destroy, FaultCode, Holding, NodeInfo};
use tfnz::sdk::{Container, Dialler, Location};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::common::PATIENCE;
use crate::common::images::{Compression, layers, layout};

mod streams;

/// Keys and state of a location, its users and its node, which outlive its processes.
struct Site {
    state: TempDir,
    key: SecretKey,
    ann: (SecretKey, UserId),
    bob: (SecretKey, UserId),
    node: (SecretKey, NodeId),
    address: SocketAddr,
    max_linger: Duration,
}

/// A location that runs, until it is killed.
struct Process {
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Listens like TCP, until the process is killed: from then on nothing gets out.
struct Door {
    listener: TcpListener,
    killed: Arc<AtomicBool>,
}

/// One connection of it.
struct Wire {
    stream: TcpStream,
    killed: Arc<AtomicBool>,
}

impl Transport for Wire {}

impl Listen for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            let killed = Arc::clone(&self.killed);
            Ok(Box::new(Wire { stream, killed }) as Box<dyn Transport>)
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.killed.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Site {
    fn new(max_linger: Duration) -> Self {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = unused.local_addr().expect("it is bound");
        let key = SecretKey::generate;
        Self {
            state: tempfile::tempdir().expect("a directory"),
            key: key(),
            ann: (key(), UserId::random()),
            bob: (key(), UserId::random()),
            node: (key(), NodeId::random()),
            address,
            max_linger,
        }
    }

    /// Starts the location. Returns when it listens.
    fn start(&self) -> Process {
        let principals = [
            (&self.ann.0, Principal::User(self.ann.1.clone())),
            (&self.bob.0, Principal::User(self.bob.1.clone())),
            (&self.node.0, Principal::Node(self.node.1.clone())),
        ];
        let residents = principals.map(|(key, principal)| (key.public(), principal));
        let options = Options {
            state: self.state.path().to_owned(),
            identity: self.key.clone(),
            residents: HashMap::from(residents),
            shared: true,
            bounds: Bounds {
                max_linger: self.max_linger,
                ..Bounds::default()
            },
            lasting: true,
        };
        let address = self.address;
        let (kill, killed) = oneshot::channel();
        let dead = Arc::new(AtomicBool::new(false));
        let (listens, listening) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async {
                let server = Server::open(options).expect("the state can be used");
                let listener = TcpListener::bind(address).await;
                let listener = Door {
                    listener: listener.expect("the port is free"),
                    killed: Arc::clone(&dead),
                };
                listens.send(()).expect("the test waits");
                tokio::select! {
                    ended = server.serve(listener, CancellationToken::new()) => panic!("{ended:?}"),
                    _ = killed => dead.store(true, Ordering::Relaxed),
                }
            });
            // Does not wait for anything that runs there.
            runtime.shutdown_background();
        });
        listening.recv().expect("it listens");
        Process { kill, thread }
    }

    async fn link(&self, key: &SecretKey, role: Role) -> Option<(Link, tfnz::link::Incoming)> {
        self.link_at(self.address, key, role).await
    }

    /// The same by way of another address.
    async fn link_at(
        &self,
        address: SocketAddr,
        key: &SecretKey,
        role: Role,
    ) -> Option<(Link, tfnz::link::Incoming)> {
        let options = ConnectOptions {
            identity: key.clone(),
            location: self.key.public(),
            role,
            agent: "test".to_owned(),
            token: None,
            linger: None,
        };
        let dial = Arc::new(TcpDial::new(address.to_string()));
        connect(dial, options).await.ok()
    }

    /// A node that goes from one link to the next, until the handle is aborted.
    fn node(self: &Arc<Self>, engine: Arc<FakeEngine>) -> tokio::task::JoinHandle<()> {
        let site = Arc::clone(self);
        tokio::spawn(async move {
            let agent = Agent::new(engine, site.state.path().to_owned());
            agent.adopt().await.expect("it can");
            loop {
                if let Some((link, incoming)) = site.link(&site.node.0, Role::Node).await {
                    agent.serve(link, incoming, &CancellationToken::new()).await;
                }
                // The location is not there yet.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    }

    async fn connect(&self, user: &SecretKey) -> Location {
        let dialler = Dialler {
            name: "site".to_owned(),
            dial: Arc::new(TcpDial::new(self.address.to_string())),
            identity: user.clone(),
            location: self.key.public(),
            linger: None,
            cache: None,
            host: None,
        };
        Location::connect(dialler)
            .await
            .expect("the location is there")
    }
}

impl Process {
    fn kill(self) {
        self.kill.send(()).expect("it runs");
        self.thread.join().expect("it has not failed");
    }
}

/// Starts a container with this command, as soon as the location has a node.
async fn spawn(location: &Location, directory: &TempDir, command: &[&str]) -> Container {
    let path = directory.path().join("image");
    if !path.exists() {
        let platform = Platform::host().to_string();
        layout(&layers(), Compression::Plain, &platform).write_directory(&path);
    }
    let image = location.resolve(path.to_str().expect("it is text")).await;
    let image = image.expect("an image");
    location
        .ensure_image_uploaded(&image, &Silent)
        .await
        .expect("it is uploaded");
    let node = within(async {
        loop {
            if let Ok(node) = location.node().await {
                break node;
            }
            tokio::task::yield_now().await;
        }
    });
    let stdio = Stdio {
        stdin: true,
        output: true,
        terminal: None,
    };
    let spawned = node
        .await
        .spawn(&image)
        .entrypoint(command.iter().copied())
        .stdio(stdio);
    spawned.start().await.expect("it starts")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Sends a line through a tunnel to a program that sends it back.
async fn echoes(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(b"line\n").await?;
    let mut answer = [0; 5];
    connection.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"line\n");
    Ok(connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_goes_on_when_the_location_is_killed_and_started_again() {
    let site = Arc::new(Site::new(Duration::from_mins(2)));
    let process = site.start();
    let node = site.node(Arc::default());
    let location = site.connect(&site.ann.0).await;
    let images = tempfile::tempdir().expect("a directory");
    let cat = spawn(&location, &images, &["cat"]).await;
    let server = spawn(&location, &images, &["serve", "7"]).await;
    let (mut stdin, mut stdout) = (
        cat.first_process().take_stdin().expect("attached"),
        cat.first_process().take_stdout().expect("attached"),
    );
    let mut word = [0; 4];
    stdin.write_all(b"one\n").await.expect("it reads");
    within(stdout.read_exact(&mut word))
        .await
        .expect("it writes");
    let further = cat.exec(ProcessSpec {
        args: vec!["sleep".to_owned()],
        ..ProcessSpec::default()
    });
    let further = further.await.expect("it starts");
    let tunnel = server.attach_tunnel(7, Some(0)).await.expect("a free port");
    server.wait_tcp(7, PATIENCE).await.expect("it listens");
    let mut open = echoes(tunnel.local_addr()).await.expect("it answers");

    process.kill();
    let mut status = location.status();
    let down = status.wait_for(|status| matches!(status, Status::Down { .. }));
    within(down).await.expect("it goes on");
    // The local port stays bound: who comes now waits for the location.
    let waiting = tokio::spawn(echoes(tunnel.local_addr()));
    let process = site.start();
    // What was open has ended as soon as the location is back, and does not hang.
    let mut rest = Vec::new();
    let ended = within(open.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{ended:?}");
    within(waiting)
        .await
        .expect("no panic")
        .expect("it answers again");
    within(echoes(tunnel.local_addr()))
        .await
        .expect("and again");

    stdin.write_all(b"two\n").await.expect("it reads on");
    within(stdout.read_exact(&mut word))
        .await
        .expect("it writes on");
    assert_eq!(&word, b"two\n");
    let containers = location.containers().await.expect("the session is there");
    assert_eq!(containers.len(), 2);
    further.signal(9).await.expect("it runs on");
    assert_eq!(within(further.wait()).await, Exit::Signal(9));
    drop(stdin);
    let mut last = Vec::new();
    within(stdout.read_to_end(&mut last))
        .await
        .expect("its end");
    assert_eq!(within(cat.first_process().wait()).await, Exit::Code(0));
    server.destroy().await.expect("it can be destroyed");
    location.disconnect().await;
    node.abort();
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_takes_its_containers_back() {
    let site = Arc::new(Site::new(Duration::from_mins(2)));
    let process = site.start();
    let engine = Arc::new(FakeEngine::new());
    let node = site.node(Arc::clone(&engine));
    let location = site.connect(&site.ann.0).await;
    let images = tempfile::tempdir().expect("a directory");
    let cat = spawn(&location, &images, &["cat"]).await;
    let (mut stdin, mut stdout) = (
        cat.first_process().take_stdin().expect("attached"),
        cat.first_process().take_stdout().expect("attached"),
    );
    let further = cat.exec(ProcessSpec {
        args: vec!["sleep".to_owned()],
        ..ProcessSpec::default()
    });
    let further = further.await.expect("it starts");

    let next = Arc::new(engine.kill());
    node.abort();
    let _ = node.await;
    let node = site.node(next);
    // How it ended nobody may have seen.
    within(further.wait()).await;
    // What is on its way to a node that is being killed is lost, so it is said until it is heard.
    let mut word = [0; 4];
    loop {
        stdin.write_all(b"two\n").await.expect("it reads on");
        let answer = timeout(Duration::from_secs(1), stdout.read_exact(&mut word));
        if let Ok(read) = answer.await {
            read.expect("it writes on");
            break;
        }
    }
    assert_eq!(&word, b"two\n");
    assert_eq!(cat.first_process().exit(), None);
    // A node that comes back without it has lost it.
    node.abort();
    let _ = node.await;
    let node = site.node(Arc::default());
    assert!(matches!(
        within(cat.first_process().wait()).await,
        Exit::Lost(_)
    ));
    node.abort();
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_comes_back_for_is_freed() {
    let site = Arc::new(Site::new(Duration::from_secs(1)));
    let process = site.start();
    let node = site.node(Arc::default());
    let location = site.connect(&site.ann.0).await;
    let images = tempfile::tempdir().expect("a directory");
    let server = spawn(&location, &images, &["serve", "7"]).await;
    let id = server.id().clone();
    process.kill();
    // As after `kill -9` of the client: nobody says goodbye.
    drop((server, location));

    let process = site.start();
    let other = site.connect(&site.ann.0).await;
    let listed = other.containers().await.expect("the location is there");
    assert_eq!(
        listed.iter().map(|found| &found.id).collect::<Vec<_>>(),
        [&id]
    );
    let freed = async {
        while !other.containers().await.expect("it is there").is_empty() {
            tokio::task::yield_now().await;
        }
        while other.node().await.expect("a node").info().containers > 0 {
            tokio::task::yield_now().await;
        }
    };
    within(freed).await;
    node.abort();
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_of_itself_is_bounded() {
    let site = Arc::new(Site::new(Duration::from_mins(2)));
    let process = site.start();
    let (link, mut incoming) = site
        .link(&site.node.0, Role::Node)
        .await
        .expect("it is there");
    let containers: Vec<_> = (0..100).map(|_| ContainerId::random()).collect();
    let mut surplus: HashSet<_> = containers.iter().cloned().collect();
    let holding = Holding {
        containers,
        adopted: false,
    };
    link.notify(&holding).await.expect("it is there");
    let node = NodeInfo {
        id: NodeId::random(),
        hostname: "\x1b[2Jx".repeat(1 << 14),
        platform: Platform::host(),
        cpus: 1,
        load: 0.0,
        memory: 1,
        memory_free: 1,
        disk_free: 1,
        containers: 0,
        mean_start: Duration::ZERO,
    };
    link.notify(&Capacity { node }).await.expect("it is there");
    // Few at a time, and all in the end.
    let mut waiting = VecDeque::new();
    while !surplus.is_empty() {
        let Some(Inbound::Call(call)) = within(incoming.next()).await else {
            panic!("it ended");
        };
        let (destroy, reply) = call.decode::<Destroy>().expect("nothing else is asked");
        assert!(surplus.remove(&destroy.container), "{destroy:?}");
        waiting.push_back(reply);
        assert!(waiting.len() <= 16);
        if waiting.len() == 16 || surplus.len() < 16 {
            waiting.pop_front().expect("there is one").send(Ok(()));
        }
    }
    let location = site.connect(&site.ann.0).await;
    let node = location.node().await.expect("it is there");
    let hostname = node.info().hostname.clone();
    assert_eq!(hostname.len(), 255);
    assert!(!hostname.contains('\x1b'));
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_continued_by_its_own_user_only() {
    let site = Arc::new(Site::new(Duration::from_mins(2)));
    let process = site.start();
    let node = site.node(Arc::default());
    let (link, incoming) = site
        .link(&site.ann.0, Role::Client)
        .await
        .expect("it is there");
    let session = link.session().clone();
    let location = site.connect(&site.ann.0).await;
    let images = tempfile::tempdir().expect("a directory");
    let container = spawn(&location, &images, &["sleep"]).await;
    let listed = location.containers().await.expect("it is there");
    let owner = listed[0].session.clone();

    let refused = async |key: &SecretKey, session| {
        let (link, _incoming) = site.link(key, Role::Client).await.expect("it is there");
        let refused = link
            .call(&Continue { session })
            .await
            .expect_err("not this one");
        let tfnz::link::CallError::Fault(fault) = refused else {
            panic!("{refused}");
        };
        assert_eq!(fault.code, FaultCode::NotFound);
    };
    // One that is alive, or had nothing.
    refused(&site.ann.0, owner.clone()).await;
    drop((link, incoming));
    process.kill();
    let process = site.start();
    refused(&site.bob.0, owner).await;
    refused(&site.ann.0, session).await;
    assert_eq!(location.containers().await.expect("it goes on").len(), 1);
    container.destroy().await.expect("it is still ours");
    node.abort();
    process.kill();
}
