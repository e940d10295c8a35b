//! The network of the Linux engine: how containers reach the outside, each other and nothing else.
//!
//! ```text
//!  container            node's namespace               machine
//!  eth0 10.213.0.2/32 ── c1000
//!  eth0 10.213.0.3/32 ── c1001   lo 10.213.0.1
//!                          uplink 198.18.0.1/31 ── tfnz-0 198.18.0.0/31   eth0 ── outside
//! ```
//!
//! Each engine has a network namespace of its own. A container has a veth pair to it, and a route rather than a bridge:
//! containers share no link, so that none of them can take over another's address or listen to another's traffic. What
//! leaves is translated twice, to the uplink's address and then to the machine's; the addresses of containers are visible
//! nowhere else, so two engines may use the same ones. What may reach what is in [`rules`].
//!
//! The machine itself gets one interface, one packet filter table, and the setting `net.ipv4.ip_forward=1`, which stays set
//! because others may have come to rely on it. The kernel removes interface and table when the process ends, however it ends.
//!
//! Independent of the rest of the engine: it is given network namespaces and does not know who lives in them.

mod firewall;
mod namespace;
mod netlink;
mod nft;
mod node;
mod pool;
mod resolvers;
mod rtnl;
mod rule;
mod rules;
mod survey;
mod uplink;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockProtocol};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::firewall::Firewall;
use self::namespace::{Entrance, Namespace};
use self::netlink::Socket;
use self::node::{Lease, Node, Remover};
use self::pool::Pool;
use self::survey::{Subnet, Survey};
use self::uplink::Uplink;
use crate::node::engine::EngineError;

/// Ranges for the addresses of containers, of which one is taken that the machine has no route to: what it can reach,
/// containers can reach, too.
const CONTAINERS: [Subnet; 5] = [
    Subnet::new(Ipv4Addr::new(10, 213, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(172, 27, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(10, 87, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(192, 168, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(100, 125, 0, 0), 16),
];

/// How long a connection inside a container may take. There is no distance: it waits only when the server's queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The network of one engine. Dropping it cuts off all its containers.
#[derive(Debug)]
pub struct Network {
    node: Arc<Node>,
    entrance: Entrance,
    remover: Remover,
    /// The way out, and the index of its end in the node's namespace; none where the kernel cannot keep containers apart
    /// from the machine, and none after the end.
    uplink: Mutex<Option<(Uplink, u32)>>,
    /// Addresses of the machine when the network was made.
    machine: Vec<Ipv4Addr>,
}

impl Network {
    /// Makes the network of the engine that has this slot, a number that no other living engine of the machine has.
    ///
    /// Where the kernel has no `nf_tables` with address translation, containers are attached and isolated as everywhere, but
    /// have no access to the outside; a warning says so.
    ///
    /// # Errors
    ///
    /// Without the privilege to make network namespaces, when another engine has the slot, and when the machine uses all
    /// of the address ranges. Then nothing is left behind.
    pub async fn create(slot: u16) -> Result<Self, EngineError> {
        blocking(move || Self::create_now(slot)).await
    }

    fn create_now(slot: u16) -> Result<Self, EngineError> {
        let failed = |step: &'static str| move |error| failure(step, error);
        let mut route =
            Socket::open(SockProtocol::NetlinkRoute).map_err(failed("open a netlink socket"))?;
        let survey =
            Survey::take(&mut route).map_err(failed("read the addresses of the machine"))?;
        let (Some(containers), Some(addresses)) = (
            survey.choose(&CONTAINERS, |range| range),
            uplink::Addresses::choose(slot, &survey),
        ) else {
            return Err(EngineError::Unsupported(format!(
                "the machine has routes to all of the address ranges that containers could have; one of {} must be free",
                CONTAINERS
                    .map(|range| format!("{}/{}", range.first, range.prefix))
                    .join(", ")
            )));
        };

        let mut machine = survey.addresses.clone();
        machine.push(addresses.machine);
        let namespace =
            Namespace::create(rules::node(&machine)).map_err(failed("make a network namespace"))?;
        let (firewall, lack) = match namespace.filter {
            Ok(filter) => (Some(Firewall::new(filter)), None),
            Err(error) if uplink::is_unsupported(&error) => (None, Some(error)),
            Err(error) => return Err(failure("set up the packet filter of the containers", error)),
        };
        let node = Node::new(
            namespace.route,
            Pool::new(containers),
            firewall,
            survey.mtu(),
        )
        .map_err(failed("set up the network namespace"))?;
        let node = Arc::new(node);
        let remover = Remover::start(&node, namespace.slow_route)
            .map_err(failed("start a thread for the network"))?;
        let opened = match lack {
            Some(error) => Err(error),
            None => Uplink::create(
                slot,
                namespace.netns.as_fd(),
                addresses,
                &survey,
                &mut route,
            ),
        };
        let uplink = match opened {
            Ok(uplink) => {
                let index = node
                    .open_uplink(
                        rules::UPLINK,
                        addresses.node,
                        uplink::PAIR,
                        addresses.machine,
                    )
                    .and_then(|index| forward_packets().map(|()| index))
                    .map_err(failed("connect the containers with the machine's network"))?;
                Some((uplink, index))
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                return Err(EngineError::InUse(format!(
                    "the network interface {}",
                    uplink::interface(slot)
                )));
            }
            Err(error) if uplink::is_unsupported(&error) => {
                tracing::warn!(
                    "containers have no access to the outside: it takes Linux 5.12 or later with nf_tables and address \
                     translation (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT, CONFIG_NFT_MASQ): {error}"
                );
                None
            }
            Err(error) => {
                return Err(failure(
                    "connect the containers with the machine's network",
                    error,
                ));
            }
        };
        Ok(Self {
            node,
            entrance: namespace.entrance,
            remover,
            uplink: Mutex::new(uplink),
            machine: survey.addresses,
        })
    }

    /// Connects a container's network namespace, which is new and empty: brings up `lo`, makes `eth0` with an address and the
    /// default route.
    ///
    /// # Errors
    ///
    /// When all addresses are taken, after [`Network::shutdown`], and when the kernel refuses a step.
    pub async fn attach(&self, netns: OwnedFd) -> Result<Attachment, EngineError> {
        if self.node.is_closing() {
            return Err(EngineError::Ended);
        }
        let lease = self.node.lease(&self.remover).ok_or_else(|| {
            EngineError::InUse("every network address that containers can have".to_owned())
        })?;
        let netns = Arc::new(netns);
        let mut inside = self
            .entrance
            .prepare(&netns)
            .await
            .map_err(|error| failure("enter the container's network namespace", error))?;
        let attachment = Attachment {
            lease,
            netns,
            entrance: self.entrance.clone(),
        };
        let node = Arc::clone(&self.node);
        // The attachment goes along: should nobody wait for the result any more, it is undone.
        blocking(move || {
            node.attach(&attachment.lease, attachment.netns.as_fd(), &mut inside)
                .map_err(|error| failure("connect the container to the network", error))?;
            Ok(attachment)
        })
        .await
    }

    /// The content of `/etc/resolv.conf` for containers: the name servers that the machine really asks.
    #[must_use]
    pub fn resolv_conf(&self) -> String {
        resolvers::resolv_conf(&self.machine)
    }

    /// Lets the container that has the address `from` connect to the one that has the address `to`, until one of them ends.
    ///
    /// # Errors
    ///
    /// When one of the addresses is no container's, and when the kernel has no `nf_tables`.
    pub async fn allow(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), EngineError> {
        let node = Arc::clone(&self.node);
        blocking(move || node.allow(from, to)).await
    }

    /// Takes back what [`Network::allow`] did. Connections that exist are cut off, too.
    ///
    /// # Errors
    ///
    /// When the kernel has no `nf_tables`.
    pub async fn disallow(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), EngineError> {
        let node = Arc::clone(&self.node);
        blocking(move || node.disallow(from, to)).await
    }

    /// Takes from the machine what [`Network::create`] added. The interface goes a moment later: nobody needs to wait for it,
    /// and it goes also if the process ends before. What [`Network::attach`] made follows when it is dropped.
    pub async fn shutdown(&self) {
        if let Some(uplink) = self.close() {
            // The only error is that the runtime ends, and then the value has been dropped all the same.
            let _ = spawn_blocking(move || drop(uplink)).await;
        }
    }

    fn close(&self) -> Option<Uplink> {
        self.node.close();
        let (uplink, index) = self
            .uplink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        self.remover.remove_link(index);
        Some(uplink)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.close();
    }
}

/// A container's connection to the network. Dropping it frees its address.
#[derive(Debug)]
pub struct Attachment {
    lease: Lease,
    netns: Arc<OwnedFd>,
    entrance: Entrance,
}

impl Attachment {
    /// The container's address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.lease.address
    }

    /// Connects to a TCP port from inside the container: to 127.0.0.1 first, then to its own address, then to `::1`.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` when nothing listens on any of them, `TimedOut` when what listens does not accept.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        match timeout(CONNECT_TIMEOUT, self.connect_to_any(port)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn connect_to_any(&self, port: u16) -> io::Result<TcpStream> {
        for ip in [Ipv4Addr::LOCALHOST, self.ip()] {
            let socket = self.entrance.tcp(&self.netns, AddressFamily::Inet).await?;
            match socket.connect(SocketAddr::new(IpAddr::V4(ip), port)).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                other => return other,
            }
        }
        let last = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        match self.entrance.tcp(&self.netns, AddressFamily::Inet6).await {
            Ok(socket) => socket.connect(last).await,
            Err(error) => Err(error),
        }
        // A kernel without IPv6 has nothing that listens there.
        .map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }
}

/// Removes what an instance that had this slot and is dead left on the machine. Blocks, for tens of milliseconds if there is
/// something left.
///
/// # Errors
///
/// When the kernel refuses.
pub fn sweep(slot: u16) -> Result<(), EngineError> {
    uplink::sweep(slot).map_err(|error| failure("remove what a previous network left", error))
}

/// Lets the machine pass packets on from one interface to another.
fn forward_packets() -> io::Result<()> {
    const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
    if fs::read_to_string(SETTING)?.trim_end() == "0" {
        fs::write(SETTING, "1")?;
        tracing::info!("set net.ipv4.ip_forward=1, which containers need to reach the outside");
    }
    Ok(())
}

/// Runs what blocks on a thread that may block.
async fn blocking<T: Send + 'static>(
    action: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match spawn_blocking(action).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(EngineError::Ended),
        },
    }
}

fn failure(step: &str, source: io::Error) -> EngineError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => EngineError::Privilege(format!(
            "cannot {step}: {source}; it takes root, or the capabilities CAP_SYS_ADMIN and CAP_NET_ADMIN"
        )),
        io::ErrorKind::ReadOnlyFilesystem => EngineError::Privilege(format!(
            "cannot {step}: {source}; /proc/sys must be writable, which it is not in an unprivileged container"
        )),
        _ => EngineError::Failed {
            step: step.to_owned(),
            source,
        },
    }
}
