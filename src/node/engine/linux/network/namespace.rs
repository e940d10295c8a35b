//! The node's network namespace, and a thread that makes sockets in the namespaces of containers.
//!
//! The namespace has no name: it is held by the sockets and the thread of this process alone, so that the kernel removes it
//! with everything in it when the process ends, however it ends.
//!
//! A thread's network namespace is a property that outlives what it was changed for. Therefore no thread that anything else
//! runs on ever changes it: the one here does nothing but enter a namespace, make a socket, hand it over and return. A
//! socket stays in the namespace where it was made, so whoever gets it uses it from any thread.

use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::netlink::Socket;
use super::nft::{Batch, Filter};
use super::rtnl;

/// Settings of a network namespace that begins as a copy of what the machine's administrator has set: each is made what the
/// rules of [`super::rules`] assume. Of the settings for `all` and for one interface, the kernel takes the greater or the
/// one that is on, and a new interface begins with those of `default`.
const SETTINGS: [(&str, &str); 9] = [
    // Only what comes from the address that is routed to the interface is taken from it.
    ("rp_filter", "1"),
    // The gateway's address is that of the loopback interface, and is asked for through all others.
    ("arp_ignore", "0"),
    ("arp_announce", "0"),
    ("arp_filter", "0"),
    // Containers have neither neighbours nor better gateways.
    ("proxy_arp", "0"),
    ("send_redirects", "0"),
    ("accept_redirects", "0"),
    // The sender of a packet does not decide which way it takes.
    ("accept_source_route", "0"),
    ("route_localnet", "0"),
];

/// Settings of containers' network namespaces, as Docker has them. They concern nobody outside.
const CONTAINER_SETTINGS: [(&str, &str); 2] = [
    // Programs need no privilege to listen on low ports, nor to ping.
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", "0 2147483647"),
];

/// A request for a socket in another network namespace.
enum Job {
    /// For a TCP connection.
    Tcp {
        netns: Arc<OwnedFd>,
        family: AddressFamily,
        reply: oneshot::Sender<io::Result<OwnedFd>>,
    },
    /// For setting up what is in there, which this begins with the settings.
    Prepare {
        netns: Arc<OwnedFd>,
        reply: oneshot::Sender<io::Result<Socket>>,
    },
}

/// What there is to work on the node's network namespace with.
pub(super) struct Namespace {
    /// The namespace itself.
    pub(super) netns: OwnedFd,
    /// Its links, addresses and routes.
    pub(super) route: Socket,
    /// The same once more, for what takes long.
    pub(super) slow_route: Socket,
    /// Its packet filter, or why there is none.
    pub(super) filter: io::Result<Filter>,
    /// The way into other namespaces.
    pub(super) entrance: Entrance,
}

impl Namespace {
    /// Makes a namespace with these packet filter rules. Without a packet filter it forwards nothing.
    pub(super) fn create(rules: Batch) -> io::Result<Self> {
        Self::start(move || enter_new(rules))
    }

    /// Works on a namespace that an earlier process has made. `filtered` says whether it has a packet filter.
    pub(super) fn resume(netns: OwnedFd, filtered: bool) -> io::Result<Self> {
        Self::start(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            Parts::open(if filtered {
                Filter::open()
            } else {
                Err(io::ErrorKind::Unsupported.into())
            })
        })
    }

    /// Starts the thread, which enters the namespace with `enter`.
    fn start(enter: impl FnOnce() -> io::Result<Parts> + Send + 'static) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let (ready, made) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("tf-netns".to_owned())
            .spawn(move || {
                let namespace = enter();
                let home = namespace
                    .as_ref()
                    .ok()
                    .and_then(|parts| parts.netns.try_clone().ok());
                // Nobody waits for the answer any more if the send fails, and then nobody sends jobs either.
                let _ = ready.send(namespace);
                if let Some(home) = home {
                    serve(&home, &inbox);
                }
            })?;
        let parts = made.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok(Self {
            netns: parts.netns,
            route: parts.route,
            slow_route: parts.slow_route,
            filter: parts.filter,
            entrance: Entrance { jobs },
        })
    }
}

struct Parts {
    netns: OwnedFd,
    route: Socket,
    slow_route: Socket,
    filter: io::Result<Filter>,
}

impl Parts {
    /// Those of the namespace that the calling thread is in.
    fn open(filter: io::Result<Filter>) -> io::Result<Self> {
        Ok(Self {
            netns: File::open("/proc/thread-self/ns/net")?.into(),
            route: Socket::open(SockProtocol::NetlinkRoute)?,
            slow_route: Socket::open(SockProtocol::NetlinkRoute)?,
            filter,
        })
    }
}

fn enter_new(rules: Batch) -> io::Result<Parts> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for (name, value) in SETTINGS {
        for scope in ["default", "all"] {
            write_setting(&format!("ipv4/conf/{scope}/{name}"), value)?;
        }
    }
    if rtnl::has_ipv6() {
        for scope in ["default", "all"] {
            write_setting(&format!("ipv6/conf/{scope}/disable_ipv6"), "1")?;
        }
    }
    let filter = Filter::open().and_then(|mut filter| filter.commit(rules).map(|()| filter));
    write_setting("ipv4/ip_forward", if filter.is_ok() { "1" } else { "0" })?;
    Parts::open(filter)
}

/// Writes a setting of the network namespace of the calling thread.
fn write_setting(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys/net").join(name), value)
}

fn serve(home: &OwnedFd, inbox: &mpsc::Receiver<Job>) {
    for job in inbox {
        // A reply that nobody waits for any more closes the socket, which is all there is to do then.
        match job {
            Job::Tcp {
                netns,
                family,
                reply,
            } => {
                let _ = reply.send(within(&netns, || tcp_socket(family)));
            }
            Job::Prepare { netns, reply } => {
                let _ = reply.send(within(&netns, || {
                    for (name, value) in CONTAINER_SETTINGS {
                        write_setting(name, value)?;
                    }
                    Socket::open(SockProtocol::NetlinkRoute)
                }));
            }
        }
        // A thread in a namespace keeps it alive.
        if let Err(error) = setns(home, CloneFlags::CLONE_NEWNET) {
            tracing::warn!("cannot leave a container's network namespace: {error}");
        }
    }
}

/// Does something in another network namespace, or nothing if that cannot be entered.
fn within<T>(netns: &OwnedFd, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
    action()
}

fn tcp_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, SockType::Stream, flags, SockProtocol::Tcp)?)
}

/// Makes sockets in network namespaces. The thread behind it ends with its last clone.
#[derive(Debug, Clone)]
pub(super) struct Entrance {
    jobs: mpsc::Sender<Job>,
}

impl Entrance {
    /// A socket for one TCP connection from inside the namespace.
    pub(super) async fn tcp(
        &self,
        netns: &Arc<OwnedFd>,
        family: AddressFamily,
    ) -> io::Result<TcpSocket> {
        let netns = Arc::clone(netns);
        let fd = self
            .ask(|reply| Job::Tcp {
                netns,
                family,
                reply,
            })
            .await?;
        Ok(TcpSocket::from_std_stream(TcpStream::from(fd)))
    }

    /// Writes the settings of a container's namespace. Returns a socket to set up the links, addresses and routes of the namespace with.
    pub(super) async fn prepare(&self, netns: &Arc<OwnedFd>) -> io::Result<Socket> {
        let netns = Arc::clone(netns);
        self.ask(|reply| Job::Prepare { netns, reply }).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Job,
    ) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send(job(reply))
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        answer.await.map_err(|_| io::ErrorKind::BrokenPipe)?
    }
}
