//! The way out: what one engine adds to the machine's own network, and how it goes away again.
//!
//! That is a veth pair of which one end is in the node's network namespace, a packet filter table, and, where the rules of
//! Docker or of a firewall would drop forwarded packets, two rules among theirs. The link ends with the node's namespace
//! and the table with the socket that made it, so the kernel removes both even after `kill -9`; only the two rules, which
//! then apply to nothing, wait for [`sweep`].

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::sys::socket::SockProtocol;

use super::netlink::{Socket, is_absent};
use super::nft::{Batch, Family, Filter};
use super::rtnl::{self, VethEnd};
use super::rule::Rule;
use super::rules::{self, UPLINK};
use super::survey::{Subnet, Survey};

/// How many leading bits the two addresses of an uplink share.
pub(super) const PAIR: u8 = 31;

/// Ranges of which each slot has two addresses. The first is set aside for laboratories, so it is hardly ever routed.
pub(super) const RANGES: [Subnet; 4] = [
    Subnet::new(Ipv4Addr::new(198, 18, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(10, 254, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(172, 30, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(100, 126, 0, 0), 16),
];

/// How many slots a range has room for. Should two that are so far apart live at once, the later one takes another range.
const SLOTS: u16 = 1 << 15;

/// The table that `iptables` and Docker keep their forwarding rules in, of the family IPv4.
const IPTABLES: &str = "filter";
/// The chain that Docker leaves to others, before its own rules.
const DOCKER_USER: &str = "DOCKER-USER";
const FORWARD: &str = "FORWARD";

/// Chains that others may drop forwarded packets in, which cannot be changed in a way that lasts: firewalld's, and the one in
/// the example that comes with nftables.
const OTHERS: [(&str, &str); 2] = [(FIREWALLD, "filter_FORWARD"), ("filter", "forward")];
/// firewalld rejects at the end of its chain rather than by the policy of it.
const FIREWALLD: &str = "firewalld";

/// The name of the machine's end of the uplink of a slot.
pub(super) fn interface(slot: u16) -> String {
    format!("tfnz-{slot}")
}

/// The two addresses of a slot's uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Of the machine's end.
    pub(super) machine: Ipv4Addr,
    /// Of the node's end.
    pub(super) node: Ipv4Addr,
}

impl Addresses {
    /// Two that the machine does not use; `None` if all candidates are taken.
    pub(super) fn choose(slot: u16, survey: &Survey) -> Option<Self> {
        let pair = survey.choose(&RANGES, |range| {
            Subnet::new(range.at(2 * u32::from(slot % SLOTS)), PAIR)
        })?;
        Some(Self {
            machine: pair.at(0),
            node: pair.at(1),
        })
    }
}

/// Why there is no uplink.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is an interface of this name.
    #[error("there is an interface {0} already")]
    Taken(String),
    /// The kernel does not have the packet filter that keeps containers apart from the machine.
    #[error("the kernel lacks a packet filter")]
    Unsupported(#[source] io::Error),
    /// A step failed that should not have.
    #[error("the kernel refused")]
    Failed(#[from] io::Error),
}

/// An uplink. Dropping it leaves nothing on the machine but the link, which ends with the node's namespace.
#[derive(Debug)]
pub(super) struct Uplink {
    /// The packet filter of the machine. The table is tied to this very socket.
    filter: Filter,
    /// Name of the machine's end.
    name: String,
}

impl Uplink {
    /// Connects the namespace `node` with the machine, and leaves the machine as it was if that fails.
    pub(super) fn create(
        slot: u16,
        node: BorrowedFd<'_>,
        addresses: Addresses,
        survey: &Survey,
        route: &mut Socket,
    ) -> Result<Self, Error> {
        let name = interface(slot);
        if rtnl::find(route, &name)?.is_some() {
            return Err(Error::Taken(name));
        }
        // The rules come first: there is no moment in which the link is without.
        let rules = rules::machine(&name, &survey.outside);
        let filter = Filter::open().and_then(|mut filter| filter.commit(rules).map(|()| filter));
        let filter = filter.map_err(|error| {
            if is_unsupported(&error) {
                Error::Unsupported(error)
            } else {
                Error::Failed(error)
            }
        })?;
        let mut uplink = Self { filter, name };
        uplink.accept_forwarding()?;
        uplink.add_link(node, addresses, survey.mtu(), route)?;
        Ok(uplink)
    }

    /// Goes on with that of a process that has died, whose table is tied to `filter`.
    pub(super) fn resume(slot: u16, filter: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            filter: Filter::resume(filter)?,
            name: interface(slot),
        })
    }

    /// What keeps the table in place, once more.
    pub(super) fn try_clone_filter(&self) -> io::Result<OwnedFd> {
        self.filter.try_clone()
    }

    /// Lets the machine's end transmit, once the node's end is in operation. See [`rtnl::settle`].
    pub(super) fn settle(&self, route: &mut Socket) -> io::Result<()> {
        let link = rtnl::find(route, &self.name)?.ok_or(io::ErrorKind::NotFound)?;
        route.request(vec![rtnl::settle(link.index)])
    }

    fn add_link(
        &self,
        node: BorrowedFd<'_>,
        addresses: Addresses,
        mtu: u32,
        route: &mut Socket,
    ) -> io::Result<()> {
        let end = |name| VethEnd {
            name,
            index: 0,
            mtu,
        };
        route.request(vec![rtnl::add_veth(&end(&self.name), &end(UPLINK), node)])?;
        let ready = rtnl::find(route, &self.name).and_then(|link| {
            let index = link.ok_or(io::ErrorKind::NotFound)?.index;
            let without_ipv6 = rtnl::without_ipv6_address(index);
            let rest = [
                rtnl::add_address(index, addresses.machine, PAIR),
                rtnl::set_up(index),
            ];
            route.request(without_ipv6.into_iter().chain(rest).collect())
        });
        if ready.is_err() {
            // It would go with the node's namespace, too, but a little later.
            delete(route, &self.name).unwrap_or_else(|error| {
                tracing::warn!("cannot remove the interface {}: {error}", self.name);
            });
        }
        ready
    }

    /// Keeps the rules of Docker or a firewall from dropping what goes in and out through the uplink. Our own rules drop what
    /// must not pass, so that these two need not be exact.
    fn accept_forwarding(&mut self) -> io::Result<()> {
        for (table, chain) in OTHERS {
            if let Some(found) = self.filter.chain(Family::Inet, table, chain)?
                && (found.drops_others || table == FIREWALLD)
            {
                tracing::warn!(
                    "the firewall rules in the table {table} may keep containers from the outside: let them accept what is \
                     forwarded from and to the interface {}",
                    self.name
                );
            }
        }
        let chain = if self
            .filter
            .chain(Family::Ipv4, IPTABLES, DOCKER_USER)?
            .is_some()
        {
            DOCKER_USER
        } else if self
            .filter
            .chain(Family::Ipv4, IPTABLES, FORWARD)?
            .is_some_and(|chain| chain.drops_others)
        {
            FORWARD
        } else {
            return Ok(());
        };
        let accept = |rule: Rule| rule.counted().accept().comment(&self.name);
        let batch = Batch::new(Family::Ipv4, IPTABLES)
            .insert(chain, accept(Rule::new().leaving_through(&self.name)))
            .insert(chain, accept(Rule::new().coming_through(&self.name)));
        self.filter.commit(batch)
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        if let Err(error) = withdraw_forwarding(&mut self.filter, &self.name) {
            tracing::warn!(
                "cannot remove the forwarding rules of {}: {error}",
                self.name
            );
        }
    }
}

/// Removes the rules that [`Uplink::accept_forwarding`] made for this interface.
fn withdraw_forwarding(filter: &mut Filter, name: &str) -> io::Result<()> {
    for chain in [DOCKER_USER, FORWARD] {
        let mut batch = Batch::new(Family::Ipv4, IPTABLES);
        for rule in filter.rules_with_comment(Family::Ipv4, IPTABLES, chain, name)? {
            batch = batch.remove_rule(chain, rule);
        }
        match filter.commit(batch) {
            // Somebody else removed them in the meantime.
            Err(error) if is_absent(&error) => {}
            other => other?,
        }
    }
    Ok(())
}

fn delete(route: &mut Socket, name: &str) -> io::Result<()> {
    let Some(link) = rtnl::find(route, name)? else {
        return Ok(());
    };
    match route.request(vec![rtnl::delete_link(link.index)]) {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether there is a link by the name that this slot's has.
pub(super) fn exists(slot: u16) -> io::Result<bool> {
    let mut route = Socket::open(SockProtocol::NetlinkRoute)?;
    Ok(rtnl::find(&mut route, &interface(slot))?.is_some())
}

/// Removes what an instance that used this slot and is dead left on the machine.
pub(super) fn sweep(slot: u16) -> io::Result<()> {
    let name = interface(slot);
    delete(&mut Socket::open(SockProtocol::NetlinkRoute)?, &name)?;
    match Filter::open() {
        Ok(mut filter) => withdraw_forwarding(&mut filter, &name),
        // A kernel without a packet filter has no rules to remove.
        Err(error) if is_unsupported(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lets the machine pass packets on from one interface to another.
pub(super) fn forward_packets() -> io::Result<()> {
    const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
    if fs::read_to_string(SETTING)?.trim_end() == "0" {
        fs::write(SETTING, "1")?;
        tracing::info!("set net.ipv4.ip_forward=1, which containers need to reach the outside");
    }
    Ok(())
}

/// Whether the error says that the kernel lacks what was asked for: the packet filter, or a kind of rule.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EPROTONOSUPPORT
                | libc::EAFNOSUPPORT
                | libc::EOPNOTSUPP
                | libc::ENOENT
                | libc::EINVAL
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_share_no_address() {
        let mut survey = Survey::default();
        for slot in [0, 1, 2, 127, 128, 32767, 32768, 65534, 65535] {
            let pair = Addresses::choose(slot, &survey).expect("free addresses");
            for address in [pair.machine, pair.node] {
                let address = Subnet::new(address, 32);
                assert!(
                    !survey.used.iter().any(|used| used.overlaps(address)),
                    "{slot}: {pair:?}"
                );
                assert!(
                    RANGES.iter().any(|range| range.overlaps(address)),
                    "{slot}: {pair:?}"
                );
            }
            survey.used.push(Subnet::new(pair.machine, PAIR));
        }
    }

    #[test]
    fn interface_names_fit() {
        assert!(interface(u16::MAX).len() < super::super::rule::INTERFACE_NAME);
    }
}
