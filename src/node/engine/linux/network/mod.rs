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
//! nowhere else, so two engines may use the same ones. What may reach what is in `rules`.
//!
//! The machine itself gets one interface, one packet filter table, and the setting `net.ipv4.ip_forward=1`, which stays set
//! because others may have come to rely on it. The kernel removes interface and table when the process ends, however it ends.
//!
//! Independent of the rest of the engine: it is given network namespaces and does not know who lives in them.

mod attachment;
mod firewall;
mod legacy;
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

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::SockProtocol;
use tokio::task::spawn_blocking;

pub use self::attachment::Attachment;
use self::firewall::Firewall;
pub use self::legacy::Legacy;
use self::namespace::{Entrance, Namespace};
use self::netlink::Socket;
use self::node::{Node, Remover};
use self::pool::Pool;
use self::survey::{Subnet, Survey};
use self::uplink::Uplink;
use crate::node::engine::EngineError;

/// Ranges for the addresses of containers. One is taken that the machine has no route to, since containers can reach what it
/// can. The last is set aside for laboratories, for machines that have routes to all private addresses.
const CONTAINERS: [Subnet; 6] = [
    Subnet::new(Ipv4Addr::new(10, 213, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(172, 27, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(10, 87, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(192, 168, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(100, 125, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(198, 19, 0, 0), 16),
];

/// The network of one engine. Dropping it cuts off all its containers, and may block for some milliseconds, which
/// [`Network::shutdown`] does not.
#[derive(Debug)]
pub struct Network {
    node: Arc<Node>,
    netns: OwnedFd,
    containers: Subnet,
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
        let mut route = Socket::open(SockProtocol::NetlinkRoute)
            .map_err(|error| failure("open a netlink socket", error))?;
        let survey = Survey::take(&mut route)
            .map_err(|error| failure("read the addresses of the machine", error))?;
        let plan = Plan::new(slot, &survey)?;

        let mut machine = survey.addresses.clone();
        machine.push(plan.uplink.machine);
        let namespace = Namespace::create(rules::node(&machine))
            .map_err(|error| failure("make a network namespace", error))?;
        let (firewall, lack) = match namespace.filter {
            Ok(filter) => (Some(Firewall::new(filter)), None),
            Err(error) if uplink::is_unsupported(&error) => (None, Some(error)),
            Err(error) => return Err(failure("set up the packet filter of containers", error)),
        };
        let pool = Pool::new(plan.containers);
        let node = Node::new(namespace.route, pool, firewall, survey.mtu())
            .map_err(|error| failure("set up the network namespace", error))?;
        let node = Arc::new(node);
        let remover = Remover::start(&node, namespace.slow_route)
            .map_err(|error| failure("start a thread for the network", error))?;

        let netns = namespace.netns.as_fd();
        let opened = match lack {
            Some(error) => Err(uplink::Error::Unsupported(error)),
            None => Uplink::create(slot, netns, plan.uplink, &survey, &mut route),
        };
        let opened = opened.and_then(|uplink| {
            let index = node.open_uplink(rules::UPLINK, plan.uplink)?;
            uplink.settle(&mut route)?;
            uplink::forward_packets()?;
            Ok((uplink, index))
        });
        let uplink = match opened {
            Ok(uplink) => Some(uplink),
            Err(uplink::Error::Unsupported(error)) => {
                tracing::warn!(
                    "containers have no access to the outside: it takes Linux 5.12 or later with nf_tables and address \
                     translation (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT, CONFIG_NFT_MASQ): {error}"
                );
                None
            }
            Err(uplink::Error::Taken(name)) => {
                return Err(EngineError::InUse(format!("the network interface {name}")));
            }
            Err(uplink::Error::Failed(error)) => {
                return Err(failure(
                    "connect the containers with the machine's network",
                    error,
                ));
            }
        };
        Ok(Self {
            node,
            netns: namespace.netns,
            containers: plan.containers,
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
        let attachment = Attachment::new(lease, netns, self.entrance.clone());
        let node = Arc::clone(&self.node);
        // The attachment goes along: should nobody wait for the result any more, it is undone.
        blocking(move || {
            node.attach(attachment.lease(), attachment.netns(), &mut inside)
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

    /// As [`Network::shutdown`], and may block for some milliseconds.
    pub fn end(&self) {
        drop(self.close());
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

/// The addresses of a network.
struct Plan {
    containers: Subnet,
    uplink: uplink::Addresses,
}

impl Plan {
    /// Chooses what the machine does not use.
    fn new(slot: u16, survey: &Survey) -> Result<Self, EngineError> {
        let none_free = |what: &str, ranges: &[Subnet]| {
            let ranges: Vec<_> = ranges.iter().map(Subnet::to_string).collect();
            EngineError::Unsupported(format!(
                "the machine has routes into every range that {what} could have addresses of: it takes one of {}",
                ranges.join(", ")
            ))
        };
        let containers = survey
            .choose(&CONTAINERS, |range| range)
            .ok_or_else(|| none_free("containers", &CONTAINERS))?;
        let uplink = uplink::Addresses::choose(slot, survey)
            .ok_or_else(|| none_free("the way out of them", &uplink::RANGES))?;
        Ok(Self { containers, uplink })
    }
}

/// Whether the machine still has the interface of an instance that had this slot. The kernel removes it a moment after the
/// network has ended.
///
/// # Errors
///
/// When the kernel refuses to say.
pub fn lingers(slot: u16) -> Result<bool, EngineError> {
    uplink::exists(slot).map_err(|error| failure("look for a network interface", error))
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
