//! Who is killed, and who cleans up: clients, nodes and locations that end with `kill -9`, and those that come back.

use std::fs;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use nix::poll::{PollFd, PollFlags, poll};

use super::fixture::busybox;
use super::office::{Machines, Office, User, able, serve_node};
use crate::common::server::Logged;
use crate::common::{PATIENCE, Program, eventually};

/// How long an answer is waited for before the question is asked again, in milliseconds.
const TRY: u16 = 1000;

/// A container that answers lines on its standard input and requests on its port, with `tf` in the foreground.
struct Session<'a> {
    machines: &'a Machines,
    run: Logged,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// An argument that no other process on the machine has.
    mark: String,
}

impl<'a> Session<'a> {
    fn start(user: &User<'a>, options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // A number that `sleep` takes.
        let mark = format!("1{:07}{number:02}", std::process::id());
        let script = format!(
            "mkdir /www; echo page >/www/index.html; httpd -p 80 -h /www; sleep {mark} &
             while read line; do echo got $line; done; exit 7"
        );
        let arguments = [
            options,
            &["-i", "-p", "8000:80", busybox(), "sh", "-c", &script],
        ];
        let mut program = user.program(&arguments.concat());
        program
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut run = user.machines.laptop.run(move || Logged::start(program));
        let stdin = run.running().child().stdin.take().expect("it is piped");
        let stdout = run.running().child().stdout.take().expect("it is piped");
        run.says("http://localhost:8000");
        let mut session = Self {
            machines: user.machines,
            run,
            stdin,
            stdout: BufReader::new(stdout),
            mark,
        };
        session.works("first");
        session
    }

    /// Talks to the container in both ways.
    #[track_caller]
    fn works(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it writes");
        assert_eq!(line, format!("got {word}\n"), "{}", self.run.log());
        self.serves();
    }

    /// Gets a page by way of the local port.
    #[track_caller]
    fn serves(&self) {
        let curl = ["-s", "--max-time", "60", "http://localhost:8000"];
        let page = self
            .machines
            .laptop
            .run(move || Program::new("curl").args(curl).run());
        assert_eq!(page.code(0).stdout, "page\n", "{}", self.run.log());
    }

    /// Talks to the container again and again until it answers: where a node was killed, what was on its way is lost, and until
    /// `tf` hears of that, all that it is given is on its way.
    #[track_caller]
    fn works_again(&mut self, word: &str) {
        let mut tries = 0;
        let answer = eventually(PATIENCE, || {
            tries += 1;
            writeln!(self.stdin, "{word} {tries}").expect("it reads");
            let mut output = [PollFd::new(
                self.stdout.get_ref().as_fd(),
                PollFlags::POLLIN,
            )];
            let readable = poll(&mut output, TRY).expect("it is open");
            let mut line = String::new();
            (readable > 0).then(|| self.stdout.read_line(&mut line).expect("it writes"))?;
            Some(line)
        });
        // Those before it were lost, or are answered before the last one.
        let last = format!("got {word} {tries}\n");
        let mut line = answer;
        while line != last {
            assert!(line.starts_with(&format!("got {word} ")), "{line:?}");
            line.clear();
            self.stdout.read_line(&mut line).expect("it writes");
        }
        self.serves();
    }

    /// A connection to the container that stays open.
    fn connection(&self) -> TcpStream {
        let connect = || TcpStream::connect("127.0.0.1:8000").expect("the port is bound");
        self.machines.laptop.run(connect)
    }

    /// Whether the container runs on this machine, wherever in its namespaces.
    fn runs(&self) -> bool {
        let processes = fs::read_dir("/proc").expect("it is there").flatten();
        processes
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .any(|line| {
                line.split(|byte| *byte == 0)
                    .any(|word| word == self.mark.as_bytes())
            })
    }

    /// Waits until nothing of the container runs.
    #[track_caller]
    fn is_freed(&self) {
        eventually(PATIENCE, || (!self.runs()).then_some(()));
    }

    /// Ends the container in good order.
    fn finish(mut self) {
        assert!(self.runs());
        drop(self.stdin);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("its end");
        assert_eq!(rest, "");
        self.run.ends_with(7);
        let mark = self.mark;
        let processes = fs::read_dir("/proc").expect("it is there").flatten();
        let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let left = lines.filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|word| word == mark.as_bytes())
        });
        assert_eq!(left.count(), 0);
    }
}

/// A container that gives back what it is given, with `tf` in the foreground.
struct Copying {
    run: Logged,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Copying {
    fn start(user: &User) -> Self {
        let mut program = user.program(&["-i", busybox(), "sh", "-c", "cat; exit 7"]);
        program
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut run = user.machines.laptop.run(move || Logged::start(program));
        let stdin = run.running().child().stdin.take().expect("it is piped");
        let stdout = run.running().child().stdout.take().expect("it is piped");
        let mut copying = Self { run, stdin, stdout };
        copying.works();
        copying
    }

    /// Waits for a line to come back.
    #[track_caller]
    fn works(&mut self) {
        writeln!(self.stdin, "line").expect("it reads");
        let mut line = [0; 5];
        self.stdout.read_exact(&mut line).expect("it writes");
        assert_eq!(&line, b"line\n", "{}", self.run.log());
    }

    /// Kills the location again and again while much comes back, of which nothing may be missing.
    fn lose_nothing(&mut self, office: &mut Office) {
        const WORDS: u64 = 8 << 20;
        const KILLS: u64 = 4;
        let (stdin, stdout) = (&mut self.stdin, &mut self.stdout);
        let back = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stdin = BufWriter::new(stdin);
                for word in 0..WORDS {
                    stdin.write_all(&word.to_be_bytes()).expect("it reads");
                }
                stdin.flush().expect("it reads");
            });
            scope.spawn(|| {
                let mut stdout = BufReader::new(stdout);
                for word in 0..WORDS {
                    let mut bytes = [0; 8];
                    stdout.read_exact(&mut bytes).expect("it writes");
                    assert_eq!(u64::from_be_bytes(bytes), word);
                    back.store(word, Ordering::Relaxed);
                }
            });
            for kill in 1..=KILLS {
                let due = || back.load(Ordering::Relaxed) > WORDS / (KILLS + 2) * kill;
                eventually(PATIENCE, || due().then_some(()));
                office.kill();
                office.start_again();
            }
        });
    }

    /// Sends the end while the location is killed.
    fn end_while_killed(mut self, office: &mut Office) {
        office.kill();
        self.run.says("link down");
        write!(self.stdin, "last").expect("it takes it");
        drop(self.stdin);
        office.start_again();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("its end");
        assert_eq!(rest, "last", "{}", self.run.log());
        self.run.ends_with(7);
    }
}

/// Waits until a connection has ended, however that looks.
fn has_ended(mut connection: TcpStream) {
    connection.set_read_timeout(Some(PATIENCE)).expect("a time");
    match connection.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_location_that_is_killed_finds_the_containers_of_its_own_node_again() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let mut office = Office::open(&machines);
    let ann = office.user("ann@example");
    let mut session = Session::start(&ann, &[]);
    let id = ann.list("ps")[0]["id"].clone();
    let open = session.connection();

    office.kill();
    session.run.says("link down");
    assert!(session.runs());
    office.start_again();
    has_ended(open);
    session.works("second");
    assert_eq!(ann.list("ps")[0]["id"], id);

    // And once more, while it is just beginning.
    office.kill();
    office.start_again();
    session.works("third");
    session.finish();
    eventually(PATIENCE, || ann.list("ps").is_empty().then_some(()));
}

#[test]
fn a_location_and_a_node_of_its_own_are_killed_one_after_the_other() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let mut office = Office::with(&machines, &["--no-node"]);
    let ann = office.user("ann@example");
    let invitation = office.invite(&["--node", "rack1", "--address", "203.0.113.1"]);
    let node_state = tempfile::tempdir().expect("a directory");
    let mut node = serve_node(&machines, node_state.path(), &["--join", &invitation]);
    node.says("connected to the location office");
    let mut session = Session::start(&ann, &[]);

    let open = session.connection();
    office.kill();
    office.start_again();
    has_ended(open);
    session.works("second");

    let open = session.connection();
    node.kill();
    assert!(session.runs());
    let mut node = serve_node(&machines, node_state.path(), &[]);
    node.says("took back containers from before: 1");
    has_ended(open);
    session.works_again("third");
    session.finish();
    node.stop();
}

#[test]
fn standard_streams_lose_nothing_when_the_location_is_killed() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let mut office = Office::with(&machines, &["--no-node"]);
    let ann = office.user("ann@example");
    let invitation = office.invite(&["--node", "rack1", "--address", "203.0.113.1"]);
    let node_state = tempfile::tempdir().expect("a directory");
    let mut node = serve_node(&machines, node_state.path(), &["--join", &invitation]);
    node.says("connected to the location office");
    let mut copying = Copying::start(&ann);
    copying.lose_nothing(&mut office);
    copying.end_while_killed(&mut office);
    node.stop();
}

#[test]
fn an_end_arrives_when_the_location_is_killed_with_its_own_node() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let mut office = Office::open(&machines);
    let ann = office.user("ann@example");
    let mut copying = Copying::start(&ann);
    office.kill();
    office.start_again();
    copying.works();
    copying.end_while_killed(&mut office);
}

#[test]
fn what_is_left_by_whoever_does_not_come_back_is_freed() {
    if !able() {
        return;
    }
    let machines = Machines::new();
    let mut office = Office::with(&machines, &["--no-node", "--max-linger", "3s"]);
    let ann = office.user("ann@example");
    let invitation = office.invite(&["--node", "rack1", "--address", "203.0.113.1"]);
    let node_state = tempfile::tempdir().expect("a directory");
    let linger = ["--linger", "3s"];
    let join = ["--join", invitation.as_str()];
    let mut node = serve_node(&machines, node_state.path(), &[linger, join].concat());
    node.says("connected to the location office");

    // The client is killed.
    let mut session = Session::start(&ann, &[]);
    session.run.kill();
    session.is_freed();
    eventually(PATIENCE, || ann.list("ps").is_empty().then_some(()));

    // Its link is cut for longer than the location waits.
    let mut session = Session::start(&ann, &[]);
    machines.server.shell("ip link set laptop down");
    session.is_freed();
    session.run.ends_with(125);
    machines.server.shell("ip link set laptop up");
    eventually(PATIENCE, || {
        let listed = ann.tf(&["ps", "--json"]);
        (listed.stdout.trim() == "[]").then_some(())
    });

    // The node is killed, and nobody starts it again.
    let mut session = Session::start(&ann, &[]);
    node.kill();
    session.is_freed();
    let mut node = serve_node(&machines, node_state.path(), &linger);
    session.run.ends_with(125);
    node.says("connected to the location office");
    eventually(PATIENCE, || ann.list("ps").is_empty().then_some(()));

    // The location is killed, and the node finds none for longer than it waits.
    let mut session = Session::start(&ann, &[]);
    office.kill();
    session.is_freed();
    session.run.ends_with(125);
    node.stop();
    // What was sent is still there.
    office.start_again();
    let kept = ann.tf(&["cache", "ls", "--json"]).code(0).stdout;
    assert!(kept.contains("sha256:"), "{kept}");
}
