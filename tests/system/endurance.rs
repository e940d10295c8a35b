//! A long download and a shell over a link that is treated badly: cut for a minute and a half, cut at random, and moved to
//! another address.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::fixture::busybox;
use super::office::{Machines, Office, User, able};
use crate::common::eventually;
use crate::common::server::Logged;

/// How much is downloaded, in bytes.
const SIZE: u64 = 2 << 30;

/// How long the link is cut once.
const LONG_CUT: Duration = Duration::from_secs(90);

/// How often it is cut for a moment.
const CUTS: u32 = 20;

/// How long progress may take, with others at work on the machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A download in the background.
struct Download {
    received: Arc<AtomicU64>,
    digest: JoinHandle<[u8; 32]>,
}

impl Download {
    /// Takes all that comes out of a local port of the laptop.
    fn start(user: &User, port: u16) -> Self {
        let connect = move || TcpStream::connect(("127.0.0.1", port)).expect("it is bound");
        let mut connection = user.machines.laptop.run(connect);
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        let digest = thread::spawn(move || {
            digest(&mut connection, |length| {
                count.fetch_add(length, Ordering::Relaxed);
            })
        });
        Self { received, digest }
    }

    /// How far it is.
    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until more has come, at most to its end.
    #[track_caller]
    fn goes_on(&self, bytes: u64) {
        let goal = (self.received() + bytes).min(SIZE);
        eventually(PATIENCE, || (self.received() >= goal).then_some(()));
    }
}

/// A shell that answers lines.
struct Shell {
    run: Logged,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    #[track_caller]
    fn says(&mut self, word: &str) {
        writeln!(self.stdin, "echo {word} $$").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it writes");
        assert_eq!(line, format!("{word} 1\n"), "{}", self.run.log());
    }
}

/// The digest of all that can be read, with a report of each piece.
fn digest(from: &mut impl Read, mut report: impl FnMut(u64)) -> [u8; 32] {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let length = from.read(&mut buffer).expect("it never breaks");
        if length == 0 {
            return hash.finalize().into();
        }
        hash.update(&buffer[..length]);
        report(length as u64);
    }
}

/// What the container sends: the same numbers, from the same program.
fn expected() -> [u8; 32] {
    let script = format!("seq 1000000000 1999999999 | head -c {SIZE}");
    let mut sender = std::process::Command::new("busybox")
        .args(["sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let mut output = sender.stdout.take().expect("it is piped");
    let digest = digest(&mut output, drop);
    sender.wait().expect("it ends");
    digest
}

#[test]
fn a_download_and_a_shell_outlive_cuts_and_a_change_of_address() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let office = Office::open(&machines);
    let ann = office.user("ann@example");
    // A shell as the first process, and the server beside it.
    let script = format!(
        "printf '#!/bin/sh\nseq 1000000000 1999999999 | head -c {SIZE}' >/bin/send; chmod 755 /bin/send
         nc -ll -p 80 -e /bin/send & exec sh"
    );
    let arguments = ["-i", "-p", "8000:80", busybox(), "sh", "-c", &script];
    let mut program = ann.program(&arguments);
    program
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut run = machines.laptop.run(move || Logged::start(program));
    let stdin = run.running().child().stdin.take().expect("it is piped");
    let stdout = run.running().child().stdout.take().expect("it is piped");
    run.says("http://localhost:8000");
    let mut shell = Shell {
        run,
        stdin,
        stdout: BufReader::new(stdout),
    };
    shell.says("first");

    let download = Download::start(&ann, 8000);
    download.goes_on(16 << 20);
    machines.server.shell("ip link set laptop down");
    shell.run.says("link down");
    let before = download.received();
    sleep(LONG_CUT);
    // What had arrived before was bounded.
    assert!(download.received() < before + (64 << 20));
    machines.server.shell("ip link set laptop up");
    download.goes_on(1 << 20);
    shell.says("second");

    // Connections that the kernel of one side or of both does away with, at moments that nobody has chosen.
    for cut in 0..CUTS {
        download.goes_on((1 << 20) + u64::from(cut * 7919 % 13) * (1 << 18));
        machines.laptop.shell("ss -K dport = 5555 || true");
    }
    shell.says("third");
    assert!(download.received() < SIZE, "it was too quick to be cut");

    machines.laptop.shell(
        "ip address del 198.51.100.2/24 dev eth0
         ip address add 198.51.100.77/24 dev eth0
         ip route replace default via 198.51.100.1",
    );
    shell.says("fourth");
    drop(ann);

    let digest = download.digest.join().expect("it has not failed");
    assert_eq!(download.received.load(Ordering::Relaxed), SIZE);
    assert_eq!(digest, expected());
    shell.says("last");
    drop(shell.stdin);
    shell.run.ends_with(0);
}
