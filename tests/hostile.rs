//! Clients of a location that mean harm: it stays up, and serves the others.
#![allow(clippy::print_stderr, reason = "a test that skips says so")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snow::TransportState;
use tempfile::TempDir;
use tfnz::config::Config;
use tfnz::keyring::{Account, Keyring};
use tfnz::protocol::control::{MAX_BODY, from_cbor, to_cbor};
use tfnz::protocol::frame::{CONTROL, Frame, StreamId};
use tfnz::protocol::handshake::{Begin, Hello, MAX_HANDSHAKE, NOISE, PROLOGUE, Role, Welcome};
use tfnz::sdk::Location;

use crate::common::server::Logged;
use crate::common::{Done, PATIENCE, Program, eventually, tf};

/// Connections that say nothing.
const SILENT: usize = 10_000;

/// Most resident memory of a location, in kilobytes, however many connect.
const MEMORY: u64 = 128 * 1024;

/// A location without a node, and the state of somebody who has joined.
struct Office {
    state: TempDir,
    home: TempDir,
    server: Logged,
    address: SocketAddr,
}

impl Office {
    /// A location that may have so many files open.
    fn open(descriptors: u64) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let program = Program::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_tf")])
            .args([
                "location",
                "serve",
                "--no-node",
                "--listen",
                "127.0.0.1:0",
                "--name",
                "office",
            ]);
        let mut server = Logged::start(program.env("TF_STATE", state.path()));
        let log = server.says(" listens on ");
        let address = log
            .split_whitespace()
            .skip_while(|word| *word != "on")
            .nth(1);
        let address = address
            .and_then(|address| address.parse().ok())
            .expect("an address");
        let office = Self {
            state,
            home: tempfile::tempdir().expect("a directory"),
            server,
            address,
        };
        office.join(office.home.path());
        office
    }

    fn administer(&self, arguments: &[&str]) -> Done {
        tf().args(["location"])
            .args(arguments)
            .env("TF_STATE", self.state.path())
            .run()
    }

    /// Has somebody join, whose home this is.
    fn join(&self, home: &std::path::Path) {
        let invitation = self.administer(&["invite", "somebody"]).code(0).stdout;
        let join = tf()
            .args(["account", "join", &invitation])
            .env("TF_HOME", home);
        join.run().code(0);
    }

    async fn connect(&self) -> Location {
        let home = self.home.path();
        let config = Config {
            home: home.to_owned(),
            state: home.join("state"),
            cache: home.join("cache"),
            location: None,
            address: None,
            max_cache: None,
        };
        let dialler = tfnz::dialler(&config).await.expect("an account");
        Location::connect(dialler).await.expect("it is let in")
    }

    /// The server is there and has little in memory, and both those who are connected and newcomers are served.
    async fn serves(&mut self, connected: &Location) {
        let ended = self
            .server
            .running()
            .child()
            .try_wait()
            .expect("it is a child");
        assert!(ended.is_none(), "{ended:?}: {}", self.server.log());
        connected.cached_images().await.expect("it answers");
        let newcomer = tempfile::tempdir().expect("a directory");
        self.join(newcomer.path());
        let status = fs::read_to_string(format!(
            "/proc/{}/status",
            self.server.running().child().id()
        ));
        if let Ok(status) = status {
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let resident = resident.and_then(|line| line.split_whitespace().next()?.parse().ok());
            assert!(
                resident.is_some_and(|kilobytes: u64| kilobytes < MEMORY),
                "{resident:?} kB"
            );
        }
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream
    }

    /// Sends bytes, and waits until the server has thrown the connection out. It must not have said anything.
    fn thrown_out(&self, bytes: &[u8]) {
        let mut stream = self.dial();
        // It may be thrown out before all has been sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
        assert!(answer.is_empty(), "{} bytes", answer.len());
    }

    /// An encrypted connection of somebody who may come in, made by hand.
    fn enter(&self) -> Insider {
        let keyring = Keyring::new(self.home.path());
        let name = keyring
            .default_name()
            .expect("readable")
            .expect("it has joined");
        let Account {
            secret, location, ..
        } = keyring.account(&name).expect("it has joined");
        let secret = STANDARD.decode(secret.to_base64()).expect("base64");
        let noise = snow::Builder::new(NOISE.parse().expect("a name"));
        let noise = noise
            .local_private_key(&secret)
            .and_then(|noise| noise.prologue(PROLOGUE));
        let noise = noise.and_then(|noise| noise.remote_public_key(location.as_bytes()));
        let mut noise = noise
            .and_then(snow::Builder::build_initiator)
            .expect("keys");
        let mut stream = self.dial();
        let hello = Hello {
            version: 1,
            role: Role::Client,
            token: None,
        };
        let mut message = [0; MAX_HANDSHAKE];
        let length = noise
            .write_message(&to_cbor(&hello), &mut message)
            .expect("it fits");
        prefixed(&mut stream, &message[..length]).expect("it reads");
        let length = noise.read_message(&received(&mut stream).expect("it answers"), &mut message);
        let _: Welcome =
            from_cbor(&message[..length.expect("from the location")]).expect("a welcome");
        let noise = noise
            .into_transport_mode()
            .expect("both messages have passed");
        let mut insider = Insider { noise, stream };
        insider.send_value(&Begin::New {
            agent: "hostile".to_owned(),
            linger: None,
        });
        let _: tfnz::protocol::handshake::Answer = insider.receive_value();
        insider
    }
}

/// Somebody who has come in.
struct Insider {
    noise: TransportState,
    stream: TcpStream,
}

impl Insider {
    fn send(&mut self, record: &[u8]) -> std::io::Result<()> {
        let mut message = vec![0; record.len() + 16];
        let length = self
            .noise
            .write_message(record, &mut message)
            .expect("it fits");
        prefixed(&mut self.stream, &message[..length])
    }

    fn send_value(&mut self, value: &impl Serialize) {
        self.send(&to_cbor(value)).expect("it reads");
    }

    fn receive_value<T: DeserializeOwned>(&mut self) -> T {
        let message = received(&mut self.stream).expect("it answers");
        let mut value = vec![0; message.len()];
        let length = self
            .noise
            .read_message(&message, &mut value)
            .expect("from the location");
        from_cbor(&value[..length]).expect("what it says")
    }

    /// Sends a record of frames.
    fn frames(&mut self, frames: &[(StreamId, Frame)]) -> std::io::Result<()> {
        let mut record = vec![0];
        for (stream, frame) in frames {
            let (header, payload) = frame.encode(*stream);
            record.extend_from_slice(&header);
            record.extend_from_slice(&payload);
        }
        self.send(&record)
    }

    /// Waits until the server has ended the connection. What it still says is nobody's business.
    fn thrown_out(mut self) {
        let end = Instant::now() + PATIENCE;
        while received(&mut self.stream).is_ok() {
            assert!(Instant::now() < end, "the connection goes on");
        }
    }
}

/// Something that an insider must not do.
type Breach = Box<dyn Fn(&mut Insider)>;

/// Sends a message behind its length.
fn prefixed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).expect("messages are short");
    stream.write_all(&[&length.to_be_bytes()[..], message].concat())
}

fn received(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Lets this process open as many files as it may.
fn can_have(descriptors: u64) -> bool {
    let resource = Resource::RLIMIT_NOFILE;
    let (_, most) = getrlimit(resource).expect("a known resource");
    setrlimit(resource, most, most).expect("as many as it may");
    if most < descriptors {
        assert!(
            std::env::var_os("CI").is_none(),
            "needs {descriptors} open files"
        );
        eprintln!("skipped: needs {descriptors} open files, and may have {most}");
    }
    most >= descriptors
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    if !can_have(SILENT as u64 + 1000) {
        return;
    }
    // As many files as servers commonly may have open, and as few as a shell gives to programs.
    for descriptors in [16_384, 1024] {
        let mut office = Office::open(descriptors);
        let connected = office.connect().await;
        let mut silent = Vec::new();
        for _ in 0..SILENT {
            silent.push(office.dial());
        }
        office.serves(&connected).await;
        // Half of them go on with half a message.
        for stream in silent.iter_mut().step_by(2) {
            // Most were thrown out to make room.
            let _ = stream.write_all(&[0, 96, 1, 2, 3]);
        }
        office.serves(&connected).await;
        drop(silent);
        office.serves(&connected).await;
        connected.disconnect().await;
    }
}

#[tokio::test]
async fn garbage_and_oversized_messages_are_thrown_out_without_a_word() {
    let mut office = Office::open(1024);
    let connected = office.connect().await;
    // No length but the first is possible; and messages of every length that is, full of garbage.
    office.thrown_out(b"GET / HTTP/1.1\r\nHost: office\r\n\r\n");
    office.thrown_out(&vec![0xff; 100_000]);
    office.thrown_out(&[0; 2]);
    let longest = u16::try_from(MAX_HANDSHAKE).expect("it has a length of two bytes");
    for length in [1, 31, 32, 96, 97, longest] {
        let garbage = vec![0xa5; length.into()];
        office.thrown_out(&[&length.to_be_bytes()[..], &garbage].concat());
    }
    // One that begins as it should and never goes on.
    let mut half = office.dial();
    half.write_all(&[0, 96, 1, 2, 3]).expect("it reads");
    office.serves(&connected).await;
    connected.disconnect().await;
}

#[tokio::test]
async fn one_who_has_come_in_and_breaks_the_rules_harms_no_other() {
    let mut office = Office::open(1024);
    let connected = office.connect().await;
    let control = |bytes: &[u8]| (CONTROL, Frame::Data(Bytes::copy_from_slice(bytes)));
    let too_long = u32::try_from(MAX_BODY + 1).expect("64 MiB").to_be_bytes();
    let mut rules: Vec<Breach> = vec![
        // No record, a frame that is longer than its record, and a forged message.
        Box::new(|insider| drop(insider.send(&[]))),
        Box::new(|insider| drop(insider.send(&[9; 100]))),
        Box::new(|insider| drop(insider.send(&[0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0]))),
        Box::new(|insider| drop(prefixed(&mut insider.stream, &[0; 60_000]))),
        Box::new(|insider| drop(insider.stream.write_all(&[0, 0]))),
        // A stream that was never opened, and more than a window takes.
        Box::new(|insider| drop(insider.frames(&[(StreamId(77), Frame::Fin)]))),
        Box::new(|insider| {
            let full = Frame::Data(vec![0; 60_000].into());
            for _ in 0..10 {
                let _ = insider.frames(&[(CONTROL, full.clone())]);
            }
        }),
        Box::new(|insider| {
            drop(insider.frames(&[
                (CONTROL, Frame::Window(u32::MAX)),
                (CONTROL, Frame::Window(u32::MAX)),
            ]));
        }),
    ];
    rules.push(Box::new(move |insider| {
        drop(insider.frames(&[control(&[&too_long[..], &[0, 1, 0, 0, 0, 1]].concat())]));
    }));
    for breaks in &rules {
        let mut insider = office.enter();
        breaks(&mut insider);
        insider.thrown_out();
    }
    office.serves(&connected).await;

    // Within the rules: streams without end, and pings that nobody waits for the answers to.
    let mut insider = office.enter();
    insider
        .stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .expect("not zero");
    for number in (1..20_001).step_by(2) {
        let frames = [(StreamId(number), Frame::Open(Bytes::from_static(&[0xa0])))];
        if insider.frames(&frames).is_err() {
            break;
        }
    }
    for _ in 0..20_000 {
        if insider.send(&[2, 0, 0, 0, 0, 0, 0, 0, 0]).is_err() {
            break;
        }
    }
    office.serves(&connected).await;
    drop(insider);
    connected.disconnect().await;
    eventually(PATIENCE, || {
        let log = office.server.log();
        (!log.contains("panicked")).then_some(())
    });
}
