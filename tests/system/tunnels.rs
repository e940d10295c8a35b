//! Connections through tunnels: an nginx that Docker has built, and what a connection may do.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tfnz::ids::Digest;

use crate::common::docker::{Daemon, daemon};
use crate::common::{free_port, installed, tf};
use crate::system::fixture::{Fixture, can_run};
use crate::system::session::{Session, connect, exchange, get};

/// Size of the large file, in bytes.
const LARGE: usize = 1 << 30;

/// How much of it is made, or read, at once.
const PIECE: usize = 1 << 20;

/// A daemon of one's own in which the image built last is an nginx that serves `/large`; and that file's checksum.
fn nginx_with_large_file() -> Option<(Daemon, Vec<u8>)> {
    if !can_run() || !installed("nginx") {
        return None;
    }
    let daemon = Daemon::start(&[])?;
    let base = daemon.nginx();
    let context = TempDir::new().expect("temporary directory");
    let mut file = File::create(context.path().join("large")).expect("create");
    let mut sum = Sha256::new();
    let mut piece = vec![0; PIECE];
    for number in 0..LARGE / PIECE {
        // Every piece is another one, and none is empty.
        for (index, byte) in piece.iter_mut().step_by(4096).enumerate() {
            *byte = (number * 31 + index * 7).to_le_bytes()[0] | 1;
        }
        sum.update(&piece);
        file.write_all(&piece).expect("write");
    }
    let dockerfile = format!("FROM {base}\nCOPY large /srv/large\n");
    std::fs::write(context.path().join("Dockerfile"), dockerfile).expect("write");
    let path = context.path().to_str().expect("a plain path");
    daemon.docker(&["build", "--quiet", "--tag", "nginx", path]);
    Some((daemon, sum.finalize().to_vec()))
}

/// Reads an answer up to the end of its head.
fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    head
}

/// Asks for a path and returns the connection when the head of a good answer has come, with the length of its body.
fn request(port: u16, path: &str) -> (TcpStream, usize) {
    let mut stream = connect(port);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is read");
    let head = read_head(&mut stream);
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .expect("nginx says it");
    let length = length.parse().expect("a number");
    (stream, length)
}

/// Reads to the end and returns the checksum and the length.
fn checksum(mut stream: TcpStream) -> (Vec<u8>, usize) {
    let (mut sum, mut length, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        match stream.read(&mut piece).expect("no end before the end") {
            0 => return (sum.finalize().to_vec(), length),
            read => {
                sum.update(&piece[..read]);
                length += read;
            }
        }
    }
}

#[test]
fn an_nginx_that_docker_built_serves_a_gigabyte_beside_others() {
    let Some((daemon, expected)) = nginx_with_large_file() else {
        return;
    };
    let state = TempDir::new().expect("temporary directory");
    let offset = (free_port() - 80).to_string();
    let start = |image: &str| {
        let program = tf()
            .env("DOCKER_HOST", daemon.host())
            .env("TF_STATE", state.path());
        Session::start(program.args(["--offset", &offset, image]))
    };

    // By its name: one large download, of which nothing is disturbed by many small ones and one that is given up.
    let mut session = start("nginx");
    let port = session.port(80);
    let (given_up, length) = request(port, "/large");
    assert_eq!(length, LARGE);
    let (large, _) = request(port, "/large");
    let download = thread::spawn(move || checksum(large));
    let small: Vec<_> = (0..100)
        .map(|_| thread::spawn(move || get(port, "/index.html")))
        .collect();
    let mut given_up = given_up;
    given_up
        .read_exact(&mut vec![0; PIECE])
        .expect("it has begun");
    // There is more in the socket, so the other side sees a reset.
    drop(given_up);
    for page in small {
        assert_eq!(page.join().expect("no panic"), "hello from nginx\n");
    }
    let (sum, length) = download.join().expect("no panic");
    assert_eq!(length, LARGE);
    assert!(sum == expected, "the checksum differs");
    assert_eq!(get(port, "/index.html"), "hello from nginx\n");
    session.interrupt();

    // As what was built last, which is there by now.
    let mut session = start(".");
    let port = session.port(80);
    assert_eq!(get(port, "/"), "hello from nginx\n");
    if installed("curl") {
        let url = format!("http://localhost:{port}/index.html");
        let output = std::process::Command::new("curl")
            .args(["--silent", &url])
            .output();
        assert_eq!(output.expect("curl runs").stdout, b"hello from nginx\n");
    }
    session.interrupt();
}

#[test]
fn an_image_that_is_unchanged_sends_nothing_the_second_time() {
    if !can_run() || !installed("nginx") {
        return;
    }
    let Some(daemon) = daemon() else { return };
    let image = daemon.nginx();
    let state = TempDir::new().expect("temporary directory");
    for expected in ["sent ", "all layers were at the location already"] {
        let program = tf()
            .env("DOCKER_HOST", daemon.host())
            .env("TF_STATE", state.path());
        let mut session = Session::start(program.args(["-v", "-p", "0:80", image]));
        session.says(expected);
        assert_eq!(get(session.port(80), "/"), "hello from nginx\n");
        session.interrupt();
    }
}

/// A server that reads all that it is sent, says what it was worth, and ends the connection.
fn counting() -> Session {
    let image = Fixture::busybox()
        .config("Cmd", json!(["nc", "-ll", "-p", "80", "-e", "sha256sum"]))
        .save();
    let mut session = Session::start(tf().args(["-p", "0:80", image.path()]));
    session.port(80);
    session
}

#[test]
fn either_side_may_end_its_half_first() {
    if !can_run() {
        return;
    }
    let mut session = counting();
    let port = session.port(80);
    let sent = vec![b'x'; 5_000_000];
    let expected = format!("{}  -\n", Digest::of(&sent).hex());
    // The server answers only after the end of what is sent.
    assert_eq!(String::from_utf8_lossy(&exchange(port, &sent)), expected);
    // And again: the connections of earlier ones have ended.
    assert_eq!(String::from_utf8_lossy(&exchange(port, &sent)), expected);
    session.interrupt();
}

#[test]
fn connections_at_a_time_do_not_mix_what_they_carry() {
    if !can_run() {
        return;
    }
    let sum = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nhead -c $CONTENT_LENGTH | sha256sum\n";
    let image = Fixture::busybox()
        .file("srv/cgi-bin/sum", 0o755, sum)
        .config("Cmd", json!(["httpd", "-f", "-p", "80", "-h", "/srv"]))
        .save();
    let mut session = Session::start(tf().args(["-p", "0:80", image.path()]));
    let port = session.port(80);
    // The queue of busybox for connections that it has not accepted is short: it has each before the next one comes.
    let open: Vec<_> = (0u8..30)
        .map(|number| {
            let sent = vec![number; 300_000 + usize::from(number)];
            let mut stream = connect(port);
            let length = sent.len();
            let head = format!("POST /cgi-bin/sum HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).expect("it is read");
            read_head(&mut stream);
            (stream, sent)
        })
        .collect();
    let others: Vec<_> = open
        .into_iter()
        .map(|(mut stream, sent)| {
            thread::spawn(move || {
                stream.write_all(&sent).expect("it is read");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("it is answered");
                let expected = Digest::of(&sent).hex();
                assert!(answer.contains(&expected), "no {expected} in {answer}");
            })
        })
        .collect();
    for other in others {
        other.join().expect("each gets what is its own");
    }
    session.interrupt();
}

#[test]
fn the_containers_half_may_end_first() {
    if !can_run() {
        return;
    }
    // Says something, ends its half, and prints what comes afterwards.
    let image = Fixture::busybox()
        .file(
            "bin/serve",
            0o755,
            b"#!/bin/sh\necho said\nexec >&-\ncat >&2\necho over >&2\n",
        )
        .config("Cmd", json!(["nc", "-ll", "-p", "80", "-e", "serve"]))
        .save();
    let mut session = Session::start(tf().args(["-p", "0:80", image.path()]));
    let port = session.port(80);
    let mut stream = connect(port);
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("it is said");
    assert_eq!(&answer, b"said\n");
    stream.write_all(b"heard after all\n").expect("it is read");
    stream.shutdown(Shutdown::Write).expect("it is open");
    session.says("heard after all");
    session.interrupt();
}

#[test]
fn what_a_client_breaks_off_does_not_look_complete_in_the_container() {
    if !can_run() {
        return;
    }
    let image = Fixture::busybox()
        .file(
            "bin/serve",
            0o755,
            b"#!/bin/sh\ncat >/dev/null && echo complete >&2 || echo broken off >&2\n",
        )
        .config("Cmd", json!(["nc", "-ll", "-p", "80", "-e", "serve"]))
        .save();
    let mut session = Session::start(tf().args(["-p", "0:80", image.path()]));
    let port = session.port(80);
    let mut stream = connect(port);
    stream.write_all(b"half of it").expect("it is read");
    // Ends it with a reset.
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &at_once)
        .expect("a socket");
    drop(stream);
    session.says("broken off");
    session.interrupt();
}

#[test]
fn a_stalled_reader_harms_no_other() {
    if !can_run() {
        return;
    }
    let image = Fixture::busybox()
        .file("bin/flood", 0o755, b"#!/bin/sh\nexec yes\n")
        .file("srv/page", 0o644, b"a page\n")
        .config(
            "Cmd",
            json!(["sh", "-c", "nc -ll -p 81 -e flood & httpd -f -p 80 -h /srv"]),
        )
        .save();
    let mut session = Session::start(tf().args(["-p", "0:80", "-p", "0:81", image.path()]));
    let (page, flood) = (session.port(80), session.port(81));
    // Nobody reads these.
    let stalled: Vec<_> = (0..5).map(|_| connect(flood)).collect();
    for mut stream in &stalled {
        stream.read_exact(&mut [0; 2]).expect("it has begun");
    }
    for _ in 0..20 {
        assert_eq!(get(page, "/page"), "a page\n");
    }
    drop(stalled);
    session.interrupt();
}
