//! What a network leaves to the process after the one that made it: the namespace, and the socket that the machine's packet
//! filter table is tied to. As long as somebody has these open, the containers stay connected.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::SockProtocol;
use serde::{Deserialize, Serialize};

use super::attachment::Attachment;
use super::firewall::Firewall;
use super::namespace::Namespace;
use super::netlink::Socket;
use super::node::{Node, Remover};
use super::pool::Pool;
use super::rules::{self, UPLINK};
use super::survey::{Subnet, Survey};
use super::uplink::Uplink;
use super::{Network, blocking, failure};
use crate::node::engine::EngineError;

/// What describes a network that is left. Its descriptors come with it: see [`Network::leave`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legacy {
    /// First of the addresses that containers can have.
    first: Ipv4Addr,
    /// How many leading bits they share.
    prefix: u8,
    /// Whether the namespace has a packet filter.
    filtered: bool,
}

#[cfg(test)]
impl Legacy {
    /// One of no network, for what is said of its form.
    pub(in super::super) fn sample() -> Self {
        Self {
            first: Ipv4Addr::LOCALHOST,
            prefix: 8,
            filtered: true,
        }
    }
}

impl Network {
    /// What another process needs to go on with this network when this one has died: a description, the namespace, and what
    /// holds the machine's packet filter in place, where there is one.
    ///
    /// # Errors
    ///
    /// When the process can have no more descriptors.
    pub fn leave(&self) -> io::Result<(Legacy, OwnedFd, Option<OwnedFd>)> {
        let uplink = self.uplink.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = uplink
            .as_ref()
            .map(|(uplink, _)| uplink.try_clone_filter())
            .transpose()?;
        let legacy = Legacy {
            first: self.containers.first,
            prefix: self.containers.prefix,
            filtered: self.node.is_filtered(),
        };
        Ok((legacy, self.netns.try_clone()?, filter))
    }

    /// Goes on with the network of the engine that had this slot and has died. Pairs of containers that could connect to each
    /// other cannot any more. Blocks for some milliseconds, so that there is no moment in which nobody has what is left.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a step.
    pub fn resume(
        slot: u16,
        legacy: &Legacy,
        netns: OwnedFd,
        filter: Option<OwnedFd>,
    ) -> Result<Self, EngineError> {
        Self::try_resume(slot, legacy, netns, filter)
            .map_err(|error| failure("go on with the network of an earlier process", error))
    }

    fn try_resume(
        slot: u16,
        legacy: &Legacy,
        netns: OwnedFd,
        filter: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let survey = Survey::take(&mut Socket::open(SockProtocol::NetlinkRoute)?)?;
        let containers = Subnet::new(legacy.first, legacy.prefix);
        let namespace = Namespace::resume(netns, legacy.filtered)?;
        let firewall = if legacy.filtered {
            let mut filter = namespace.filter?;
            filter.commit(rules::close_all_pairs())?;
            Some(Firewall::new(filter))
        } else {
            None
        };
        let pool = Pool::new(containers);
        let node = Node::resume(namespace.route, pool, firewall, survey.mtu())?;
        let node = Arc::new(node);
        let remover = Remover::start(&node, namespace.slow_route)?;
        let uplink = match filter {
            Some(filter) => {
                let index = node.find(UPLINK)?.ok_or(io::ErrorKind::NotFound)?;
                Some((Uplink::resume(slot, filter)?, index))
            }
            None => None,
        };
        Ok(Self {
            node,
            netns: namespace.netns,
            containers,
            entrance: namespace.entrance,
            remover,
            uplink: Mutex::new(uplink),
            machine: survey.addresses,
        })
    }

    /// The connection of a container that has this address and this interface already. `netns` is its network namespace.
    ///
    /// # Errors
    ///
    /// When the address is none of this network's, or another container's.
    pub fn reattach(
        &self,
        ip: Ipv4Addr,
        interface: u32,
        netns: OwnedFd,
    ) -> Result<Attachment, EngineError> {
        let lease = self.node.lease_again(ip, interface, &self.remover);
        let lease = lease.ok_or_else(|| EngineError::InUse(format!("the address {ip}")))?;
        Ok(Attachment::new(
            lease,
            Arc::new(netns),
            self.entrance.clone(),
        ))
    }

    /// Removes the interfaces of containers apart from these: they are of such as were only half made when their engine died,
    /// or have ended since.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to say which there are.
    pub async fn retain(&self, interfaces: Vec<u32>) -> Result<(), EngineError> {
        let (node, remover) = (Arc::clone(&self.node), self.remover.clone());
        blocking(move || {
            node.retain(&interfaces, &remover)
                .map_err(|error| failure("list the interfaces of containers", error))
        })
        .await
    }
}
