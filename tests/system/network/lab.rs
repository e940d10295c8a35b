//! A machine to test networks on, made of network namespaces, so that the real machine's network is neither needed nor
//! touched.
//!
//! ```text
//!   the machine (the test's thread)              outside
//!   eth0 192.0.2.2/24 ─────────────────────────── 192.0.2.1/24, 203.0.113.9, 169.254.169.254
//!   docker0 172.17.0.1/16 ── neighbour 172.17.0.2
//! ```

use std::cell::OnceCell;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::unistd::geteuid;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::common::{PATIENCE, wait_until};

/// The machine's address towards the outside.
pub(crate) const MACHINE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The machine's address in the network of other containers.
pub(crate) const DOCKER0: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
/// Another container there.
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
/// The router of the machine's network.
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// A server somewhere behind the router.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Where clouds hand out credentials, and some serve names.
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// How long to wait for what must not come. What must come takes well below a millisecond here.
const SILENCE: Duration = Duration::from_millis(400);

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Netns(OwnedFd);

impl Netns {
    /// A new and empty one.
    pub(crate) fn new() -> Self {
        spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
            Self::current()
        })
    }

    /// That of the calling thread.
    pub(crate) fn current() -> Self {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The one that this file of `/proc` stands for.
    pub(crate) fn open(path: &Path) -> Self {
        Self(File::open(path).expect("open the network namespace").into())
    }

    /// A file that stands for it, for other processes.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Another handle of it.
    pub(crate) fn fd(&self) -> OwnedFd {
        self.0.try_clone().expect("duplicate a file descriptor")
    }

    /// Does something inside, on a thread of its own.
    pub(crate) fn run<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        let netns = self.fd();
        spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).expect("enter a network namespace");
            action()
        })
    }

    /// Runs a shell script inside.
    pub(crate) fn shell(&self, script: &str) -> String {
        let script = script.to_owned();
        self.run(move || shell(&script))
    }

    /// Listens on a TCP port inside. The kernel accepts connections without further ado.
    pub(crate) fn listen(&self, ip: &str, port: u16) -> TcpListener {
        let address = SocketAddr::new(ip.parse().expect("an address"), port);
        self.run(move || TcpListener::bind(address).expect("listen"))
    }

    /// A TCP connection from inside.
    pub(crate) fn connect(&self, ip: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
        self.connect_within(PATIENCE, ip, port)
    }

    /// Whether a TCP connection from inside succeeds.
    pub(crate) fn reaches(&self, ip: Ipv4Addr, port: u16) -> bool {
        self.connect(ip, port).is_ok()
    }

    /// Whether no TCP connection from inside succeeds.
    pub(crate) fn is_kept_from(&self, ip: Ipv4Addr, port: u16) -> bool {
        self.connect_within(SILENCE, ip, port).is_err()
    }

    fn connect_within(&self, time: Duration, ip: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
        self.run(move || TcpStream::connect_timeout(&SocketAddr::from((ip, port)), time))
    }

    /// Whether something answers an ICMP echo request from inside.
    pub(crate) fn pings(&self, ip: Ipv4Addr) -> bool {
        self.ping_within(PATIENCE, ip)
    }

    /// Whether nothing answers an ICMP echo request from inside.
    pub(crate) fn pings_in_vain(&self, ip: Ipv4Addr) -> bool {
        !self.ping_within(SILENCE, ip)
    }

    fn ping_within(&self, time: Duration, ip: Ipv4Addr) -> bool {
        self.run(move || {
            let (kind, flags) = (SockType::Datagram, SockFlag::SOCK_CLOEXEC);
            let fd = socket(AddressFamily::Inet, kind, flags, SockProtocol::Icmp);
            let socket = UdpSocket::from(fd.expect("open an ICMP socket"));
            // An echo request; the kernel fills in checksum and identifier.
            let sent = socket.send_to(&[8, 0, 0, 0, 0, 0, 0, 1], (ip, 0));
            sent.is_ok() && receives_within(time, &socket)
        })
    }

    /// A UDP socket inside.
    pub(crate) fn udp(&self, ip: Ipv4Addr, port: u16) -> UdpSocket {
        self.run(move || UdpSocket::bind((ip, port)).expect("bind a UDP socket"))
    }
}

/// Those of the addresses of which something answers `netns`, on TCP port 80 or to an echo request.
pub(crate) fn reached(netns: &Netns, addresses: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let answers = |ip| !netns.is_kept_from(ip, 80) || !netns.pings_in_vain(ip);
    addresses
        .iter()
        .copied()
        .filter(|ip| answers(*ip))
        .collect()
}

/// Whether a datagram arrives.
pub(crate) fn receives(socket: &UdpSocket) -> bool {
    receives_within(PATIENCE, socket)
}

/// Whether no datagram arrives.
pub(crate) fn hears_nothing(socket: &UdpSocket) -> bool {
    !receives_within(SILENCE, socket)
}

fn receives_within(time: Duration, socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(time)).expect("set a timeout");
    socket.recv(&mut [0; 64]).is_ok()
}

/// Whether bytes written to one end arrive at the other.
pub(crate) fn passes(from: &TcpStream, to: &TcpStream) -> bool {
    passes_within(PATIENCE, from, to)
}

/// Whether bytes written to one end do not arrive at the other.
pub(crate) fn is_cut(from: &TcpStream, to: &TcpStream) -> bool {
    !passes_within(SILENCE, from, to)
}

fn passes_within(time: Duration, mut from: &TcpStream, mut to: &TcpStream) -> bool {
    to.set_read_timeout(Some(time)).expect("set a timeout");
    from.write_all(b"x").expect("write");
    to.read_exact(&mut [0]).is_ok()
}

fn spawn<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    match thread::spawn(action).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs a shell script in the network namespace of the calling thread; what it wrote.
pub(crate) fn shell(script: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", script])
        .output()
        .expect("run sh");
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// The machine and its surroundings.
pub(crate) struct Lab {
    /// The machine itself.
    pub(crate) machine: Netns,
    /// What is outside.
    pub(crate) outside: Netns,
    /// A container of somebody else on the machine.
    pub(crate) neighbour: Netns,
    runtime: OnceCell<Runtime>,
}

impl Lab {
    fn build() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
        let machine = Netns::current();
        let outside = Netns::new();
        let neighbour = Netns::new();
        shell(&format!(
            "ip link set lo up
             ip link add eth0 type veth peer name eth0 netns {}
             ip address add {MACHINE}/24 dev eth0
             ip link set eth0 up",
            outside.path().display()
        ));
        outside.shell(&format!(
            "ip link set lo up
             ip address add {ROUTER}/24 dev eth0
             ip address add {SERVER}/32 dev lo
             ip address add {METADATA}/32 dev lo
             ip link set eth0 up"
        ));
        shell(&format!(
            "ip route add default via {ROUTER}
             ip link add docker0 type bridge
             ip address add {DOCKER0}/16 dev docker0
             ip link set docker0 up
             ip link add other type veth peer name eth0 netns {}
             ip link set other master docker0 up",
            neighbour.path().display()
        ));
        neighbour.shell(&format!(
            "ip link set lo up
             ip address add {NEIGHBOUR}/16 dev eth0
             ip link set eth0 up
             ip route add default via {DOCKER0}"
        ));
        // The end of a pair that was put into operation first drops what it should send until the kernel has seen the other.
        let settled = |netns: &Netns, link: &str| {
            wait_until("the link is in operation", || {
                netns
                    .shell(&format!("ip -o link show {link}"))
                    .contains("state UP")
            });
        };
        settled(&machine, "eth0");
        settled(&machine, "other");
        Self {
            machine,
            outside,
            neighbour,
            runtime: OnceCell::new(),
        }
    }

    /// Threads that begin in the namespace of the machine.
    fn runtime(&self) -> &Runtime {
        self.runtime.get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("start a runtime")
        })
    }

    /// Waits for a future.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    /// Starts a task.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime().spawn(task)
    }

    /// The interfaces and packet filter rules of the machine.
    pub(crate) fn state(&self) -> String {
        self.machine
            .shell("ip -o link show | cut -d: -f2; ip -o -4 address; nft list ruleset")
    }
}

/// Runs a test on a machine of its own, or says why that cannot be done here. The test's thread is in the machine.
pub(crate) fn in_lab(test: impl FnOnce(&Lab) + Send + 'static) {
    if has_what_it_takes() {
        // The test program may run all its tests on one thread, and others want to find themselves in the real network.
        spawn(|| test(&Lab::build()));
    }
}

/// Whether tests can be run here. Says so if not.
pub(crate) fn has_what_it_takes() -> bool {
    let programs = ["ip", "nft"];
    let missing: Vec<_> = programs
        .into_iter()
        .filter(|program| Command::new(program).arg("-V").output().is_err())
        .collect();
    let lack = if !geteuid().is_root() {
        "root".to_owned()
    } else if !missing.is_empty() {
        format!("the programs {}", missing.join(" and "))
    } else {
        return true;
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "nothing may be skipped here, but this needs {lack}"
    );
    skip(&lack);
    false
}

#[allow(
    clippy::print_stderr,
    reason = "who runs the tests must see what was not tested"
)]
fn skip(lack: &str) {
    eprintln!("skipped: needs {lack}");
}
