//! Ports of containers on localhost.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use nix::sys::signal::Signal;

use crate::common::{PATIENCE, eventually, free_port, installed, tf};
use crate::system::fixture::{Fixture, busybox, can_run};
use crate::system::machine::Machine;
use crate::system::session::{Session, connect, get, run};
use serde_json::json;

/// An image that serves one page on port 80, and says that it has two more ports.
fn web() -> Fixture {
    Fixture::busybox()
        .file("srv/index.html", 0o644, b"a page\n")
        .expose(&["80/tcp"])
        .config("Cmd", json!(["httpd", "-f", "-p", "80", "-h", "/srv"]))
}

/// An offset that puts port 80 on a port that was free a moment ago.
fn offset() -> u16 {
    free_port() - 80
}

#[test]
fn hello_is_a_page_on_localhost() {
    if !can_run() {
        return;
    }
    let offset = offset();
    let mut session = Session::start(tf().args(["--offset", &offset.to_string(), "hello"]));
    let port = offset + 80;
    let line = session.says(" -> 80/tcp");
    let start = format!("http://localhost:{port} -> 80/tcp (");
    assert!(line.starts_with(&start) && line.ends_with("s)"), "{line}");
    let page = get(port, "/");
    assert!(
        page.contains("<html") && page.contains(env!("CARGO_PKG_VERSION")),
        "{page}"
    );
    let ended = session.interrupt();
    assert!(ended.stdout.is_empty(), "{ended:?}");
    TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
}

#[test]
fn exposed_ports_keep_their_number_without_an_offset() {
    if !can_run() {
        return;
    }
    let port = free_port();
    let image = web().expose(&[&format!("{port}/tcp")]).save();
    let command = ["httpd", "-f", "-h", "/srv", "-p", &port.to_string()];
    let mut session = Session::start(tf().args([image.path()]).args(command));
    assert_eq!(session.port(port), port);
    assert_eq!(get(port, "/"), "a page\n");
    session.interrupt();
}

#[test]
fn publish_replaces_a_mapping_and_adds_others() {
    if !can_run() {
        return;
    }
    let image = web().save();
    let (first, offset) = (free_port(), offset());
    let arguments = [
        "--offset",
        &offset.to_string(),
        "-p",
        &format!("{first}:80"),
        "--publish",
        "0:81",
        "-p",
        "127.0.0.3:0:80",
        image.path(),
        "sh",
        "-c",
        "httpd -h /srv -p 81; exec httpd -f -h /srv -p 80",
    ];
    let mut session = Session::start(tf().args(arguments));
    session.says(&format!("http://localhost:{first} -> 80/tcp"));
    let other = session.says("127.0.0.3:");
    assert!(other.starts_with("http://127.0.0.3:"), "{other}");
    let second = session.port(81);
    assert_eq!(
        (get(first, "/"), get(second, "/")),
        ("a page\n".into(), "a page\n".into())
    );
    // Port 80 was moved, so it is not where the offset would have put it.
    TcpListener::bind(("127.0.0.1", offset + 80)).expect("the port is free");
    session.interrupt();
}

#[test]
fn only_localhost_is_bound_unless_public() {
    if !can_run() {
        return;
    }
    let image = web().save();
    for (option, reachable) in [(&[][..], false), (&["--public"][..], true)] {
        let mut session = Session::start(tf().args(option).args(["-p", "0:80", image.path()]));
        let port = session.port(80);
        // Another address of the loopback interface: what is bound to 127.0.0.1 does not answer there.
        let connected = TcpStream::connect(("127.0.0.9", port)).is_ok();
        assert_eq!(connected, reachable, "{option:?}");
        session.interrupt();
    }
}

#[test]
fn ports_that_are_not_tcp_are_named_and_skipped() {
    if !can_run() {
        return;
    }
    let image = web().expose(&["80/tcp", "5353/udp", "99/sctp"]).save();
    let mut session = Session::start(tf().args(["-p", "0:80", image.path()]));
    session.says("5353/udp is skipped");
    session.says("99/sctp is skipped");
    assert_eq!(get(session.port(80), "/"), "a page\n");
    session.interrupt();
}

#[test]
fn a_port_that_is_taken_is_an_error_before_anything_is_sent() {
    if !can_run() {
        return;
    }
    let image = web().save();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let offset = (port - 80).to_string();
    for arguments in [
        &["--offset", &offset][..],
        &["-p", &format!("{port}:80")],
        &["--public", "--offset", &offset],
    ] {
        let mut program = tf().args(arguments).args([image.path()]);
        let home = program.take_home();
        let ended = run(program).code(125);
        ended.said(&[&format!("port {port} is in use"), "hint: --offset"]);
        let layers = std::fs::read_dir(home.path().join("state/layers"));
        let layers = layers.into_iter().flatten().flatten();
        let sent = layers.filter(|entry| entry.file_name().len() >= 64).count();
        assert_eq!(sent, 0, "layers were sent");
    }
}

#[test]
fn a_port_that_is_not_allowed_is_an_error_with_a_way_out() {
    if !installed("setpriv") {
        return;
    }
    // On a machine whose low ports are free, as root without the privilege to use them.
    let Some(machine) = Machine::new() else {
        return;
    };
    let arguments = [
        "--bounding-set",
        "-net_bind_service",
        "--",
        env!("CARGO_BIN_EXE_tf"),
        "hello",
    ];
    let ended = run(machine.program("setpriv").args(arguments)).code(125);
    ended.said(&["may not use local port 80", "hint: ", "--offset 8000"]);
}

#[test]
fn an_offset_beyond_the_last_port_is_an_error() {
    if !can_run() {
        return;
    }
    let ended = run(tf().args(["--offset", "65500", "hello"])).code(125);
    ended.said(&["beyond 65535", "hint: use an --offset of at most 65455"]);
}

#[test]
fn ports_are_open_before_the_service_answers() {
    if !can_run() {
        return;
    }
    let image = web().save();
    let command = "echo started; read line; exec httpd -f -h /srv -p 80";
    let port = free_port();
    let mut session = Session::start(
        tf().args(["-i", "-p", &format!("{port}:80"), image.path()])
            .args(["sh", "-c", command]),
    );
    session.prints("started");
    // Whoever comes early finds the port open; the container refuses, as nothing listens there yet.
    drop(connect(port));
    assert!(!session.said().contains("-> 80/tcp"), "{}", session.said());
    session.stdin().write_all(b"go\n").expect("it is read");
    assert_eq!(session.port(80), port);
    assert_eq!(get(port, "/"), "a page\n");
    session.end_by(Signal::SIGTERM);
}

#[test]
fn a_sleeping_container_has_its_ports() {
    if !can_run() {
        return;
    }
    let port = free_port();
    let mut session =
        Session::start(tf().args(["-v", "-z", "-p", &format!("{port}:80"), busybox()]));
    eventually(PATIENCE, || TcpStream::connect(("127.0.0.1", port)).ok());
    session.says("runs on node");
    assert!(!session.is_over(), "{}", session.said());
    session.interrupt();
}

#[test]
fn timing_says_where_the_time_went() {
    if !can_run() {
        return;
    }
    let image = web().save();
    // Nothing listens on port 81.
    let arguments = ["--timing", "-p", "0:80", "-p", "0:81", image.path()];
    let mut session = Session::start(tf().args(arguments));
    session.says("total");
    let phases = ["resolve", "upload", "unpack", "start", "ready", "total"];
    assert_timed(&session.said(), &phases, None);
    session.interrupt();
}

#[test]
fn timing_says_where_the_time_went_as_far_as_it_got() {
    if !can_run() {
        return;
    }
    let image = web().save();
    let publish = ["-p", "0:80", image.path()];
    let started = ["resolve", "upload", "unpack", "start", "total"];
    let all = ["resolve", "upload", "unpack", "start", "ready", "total"];
    let timed = |arguments: &[&str]| Session::start(tf().args(["--timing"]).args(arguments));
    // Nothing is waited for, so it is said at once.
    for arguments in [
        &[busybox(), "sleep", "1000"][..],
        &[busybox(), "true"],
        &["-z", busybox()],
    ] {
        let mut session = timed(arguments);
        session.says("total");
        assert_timed(&session.said(), &started, None);
        if arguments.contains(&"true") {
            session.end().code(0);
        } else {
            session.interrupt();
        }
    }
    // It ends before it listens.
    let ended = timed(&[&publish[..], &["true"]].concat()).end().code(0);
    assert_timed(&ended.stderr, &all, Some("ready"));
    let mut session = timed(&[&publish[..], &["sh", "-c", "echo here; sleep 1000"]].concat());
    session.prints("here");
    let ended = session.end_by(Signal::SIGTERM);
    assert_timed(&ended.stderr, &all, Some("ready"));
    // It does not come to be.
    let ended = timed(&["/no/such/image"]).end().code(125);
    assert_timed(&ended.stderr, &["resolve", "total"], Some("resolve"));
}

/// Checks that there is a time for each of these phases and no other, one of them marked as unfinished.
fn assert_timed(said: &str, phases: &[&str], unfinished: Option<&str>) {
    let rows = said.lines().filter_map(|line| {
        let (phase, rest) = line.split_once(' ')?;
        let (time, mark) = rest.trim().split_once(" ms")?;
        let time: f64 = time.parse().ok()?;
        assert!(time < 60_000.0, "{said}");
        Some((phase, mark == " (unfinished)"))
    });
    let rows: Vec<(&str, bool)> = rows.filter(|(phase, _)| *phase != "connect").collect();
    let expected: Vec<(&str, bool)> = phases
        .iter()
        .map(|phase| (*phase, Some(*phase) == unfinished))
        .collect();
    assert_eq!(rows, expected, "{said}");
}
