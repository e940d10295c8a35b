//! The SDK on the real machine: what a program does that uses it, and the examples.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;
use tfnz::config::Config;
use tfnz::node::engine::linux::use_shim_program;
use tfnz::progress::Silent;
use tfnz::protocol::container::{Exit, ProcessSpec, Stdio};
use tfnz::sdk::{Error, Location};
use tokio::io::AsyncReadExt as _;

use crate::common::docker::{Daemon, needs};
use crate::common::{PATIENCE, eventually, free_port};
use crate::system::fixture::{Fixture, Saved, can_run};
use crate::system::leftovers;
use crate::system::machine::{Machine, entered};
use crate::system::session::{Session, get, write_executable};

/// A place of one's own for all that a program keeps.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        use_shim_program(env!("CARGO_BIN_EXE_tf"));
        Self(TempDir::new().expect("temporary directory"))
    }

    fn config(&self) -> Config {
        let path = |name: &str| self.0.path().join(name);
        Config {
            home: path("home"),
            state: path("state"),
            cache: path("cache"),
            location: None,
            max_cache: None,
            address: None,
        }
    }

    async fn connect(&self) -> Location {
        let dialler = tfnz::dialler(&self.config()).await.expect("a location");
        Location::connect(dialler).await.expect("connected")
    }

    fn assert_tidy(&self) {
        leftovers::assert_none_of(&self.0.path().join("state"));
    }
}

fn web() -> Saved {
    Fixture::busybox()
        .file("srv/index.html", 0o644, b"a page\n")
        .expose(&["80/tcp"])
        .config(
            "Cmd",
            serde_json::json!(["httpd", "-f", "-p", "80", "-h", "/srv"]),
        )
        .save()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_containers_and_reaches_into_them() {
    if !can_run() {
        return;
    }
    let (home, image) = (Home::new(), web());
    let location = home.connect().await;
    let image = location.resolve(image.path()).await.expect("an image");
    location
        .ensure_image_uploaded(&image, &Silent)
        .await
        .expect("uploaded");

    let ranked = location.ranked_nodes().await.expect("nodes");
    assert_eq!(ranked.len(), 1);
    let best = location.best_node().await.expect("a node");
    let node = location.node().await.expect("a node");
    assert_eq!((best.id(), node.id()), (ranked[0].id(), ranked[0].id()));

    let container = node.spawn(&image).start().await.expect("started");
    container.wait_until_ready().await.expect("ready");
    container.wait_tcp(80, PATIENCE).await.expect("it listens");
    let port = free_port();
    let tunnel = container.attach_tunnel(80, Some(port)).await.expect("free");
    assert_eq!(tunnel.local_addr().port(), port);
    assert_eq!(fetch(port).await, "a page\n");
    let other = container.wait_http_200(80, "localhost", "/").await;
    let other = other.expect("it answers").local_addr().port();
    // The tunnel has gone with the value.
    tokio::net::TcpStream::connect(("127.0.0.1", other))
        .await
        .expect_err("nobody listens");

    let spec = ProcessSpec {
        args: ["sh", "-c", "echo inside; exit 5"]
            .map(str::to_owned)
            .into(),
        stdio: Stdio {
            output: true,
            ..Stdio::default()
        },
        ..ProcessSpec::default()
    };
    let process = container.exec(spec).await.expect("started");
    let mut said = String::new();
    let mut stdout = process.take_stdout().expect("it was asked for");
    stdout.read_to_string(&mut said).await.expect("text");
    assert_eq!(
        (said.as_str(), process.wait().await),
        ("inside\n", Exit::Code(5))
    );

    container.destroy().await.expect("destroyed");
    let refused = container.wait_tcp(80, Duration::from_secs(1)).await;
    assert!(
        matches!(refused, Err(Error::Ended(_) | Error::Refused(_))),
        "{refused:?}"
    );
    location.disconnect().await;
    home.assert_tidy();
}

async fn fetch(port: u16) -> String {
    let got = tokio::task::spawn_blocking(move || get(port, "/"));
    got.await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_what_its_builder_was_told() {
    if !can_run() {
        return;
    }
    let (home, image) = (Home::new(), web());
    let location = home.connect().await;
    let image = location.resolve(image.path()).await.expect("an image");
    let node = location.node().await.expect("a node");
    let stdio = Stdio {
        output: true,
        ..Stdio::default()
    };
    let container = node
        .spawn(&image)
        .env("WORD", "said")
        .file("/etc/word", "written\n")
        .user("33:34")
        .working_dir("/tmp")
        .command(["sh", "-c", "cat /etc/word; echo $WORD $(id -u) $(pwd)"])
        .sleep()
        .stdio(stdio)
        .start()
        .await
        .expect("started");
    let process = container.first_process();
    assert_eq!(process.exit(), None);
    container.start().await.expect("woken");
    let mut said = String::new();
    let mut stdout = process.take_stdout().expect("it was asked for");
    stdout.read_to_string(&mut said).await.expect("text");
    assert_eq!(said, "written\nsaid 33 /tmp\n");
    assert_eq!(process.wait().await, Exit::Code(0));
    location.disconnect().await;
    home.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_an_error_with_a_kind() {
    if !can_run() {
        return;
    }
    let (home, image) = (Home::new(), web());
    let location = home.connect().await;
    let unknown = location.resolve("/no/such/image.tar").await;
    assert!(matches!(unknown, Err(Error::Image(_))));
    let image = location.resolve(image.path()).await.expect("an image");
    let node = location.node().await.expect("a node");
    let container = node.spawn(&image).start().await.expect("started");
    let silent = container.wait_tcp(81, Duration::from_millis(200)).await;
    assert!(matches!(silent, Err(Error::TimedOut { .. })), "{silent:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let refused = container.attach_tunnel(80, Some(port)).await;
    assert!(matches!(refused, Err(Error::Bind { .. })));
    let elsewhere = container.wait_http_200(80, "192.0.2.1", "/").await;
    assert!(matches!(elsewhere, Err(Error::NotLocal { .. })));
    // What was started in a session ends with it.
    let process = container.first_process().clone();
    location.disconnect().await;
    assert!(matches!(
        process.wait().await,
        Exit::Lost(_) | Exit::Signal(_)
    ));
    home.assert_tidy();
}

/// An example of the crate, if it has been built, as `cargo test` does.
fn example(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_tf"))
        .with_file_name("examples")
        .join(name);
    needs(path.exists(), "`cargo build --examples`").then_some(path)
}

/// Runs an example until it has opened the browser, looks at the page, and presses Ctrl-C.
fn show(machine: &Machine, name: &str, arguments: &[&str], docker: Option<&Daemon>) -> String {
    let Some(example) = example(name) else {
        return String::new();
    };
    let mut program = machine.program(example).args(arguments);
    let browser = program.home().join("browser");
    write_executable(&browser, b"#!/bin/sh\necho \"$@\" >\"$HOME/opened\"\n");
    program = program.env("BROWSER", browser);
    if let Some(docker) = docker {
        program = program.env("DOCKER_HOST", docker.host());
    }
    let mut session = Session::start(program);
    let line = session.says("until Ctrl-C");
    let url = line.split(' ').next().expect("a URL").to_owned();
    let page = machine.shell(&format!("busybox wget -q -O - {url}/"));
    if name == "quickstart" {
        let opened = session.home().join("opened");
        eventually(PATIENCE, || opened.exists().then_some(()));
    }
    kill(entered(&session), Signal::SIGINT).expect("it runs");
    session.end().code(0);
    page
}

#[test]
fn the_quickstart_shows_an_image_in_the_browser() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let before = machine.inventory();
    let page = show(&machine, "quickstart", &["hello"], None);
    if !page.is_empty() {
        assert!(page.contains("<html"), "{page}");
        machine.assert_as_before(&before, "after the quickstart");
    }
}

#[test]
fn the_docker_workflow_shows_what_was_built_last() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let Some(daemon) = Daemon::start(&[]) else {
        return;
    };
    let image = web();
    daemon.docker(&["load", "--input", image.path()]);
    let page = show(&machine, "docker_workflow", &[], Some(&daemon));
    assert!(page.is_empty() || page == "a page\n", "{page}");
}
