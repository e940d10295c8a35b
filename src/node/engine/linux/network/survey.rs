//! What the machine's own network uses, so that ours keeps out of its way.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::netlink::Socket;
use super::rtnl::{self, Link, Route};

/// Largest packet where nothing says otherwise, in octets.
const ETHERNET_MTU: u32 = 1500;

/// What the packets of a veth pair can be limited to, in octets; below the minimum nothing works well.
const VETH_MTU: RangeInclusive<u32> = 576..=65535;

/// Routes that share at most this many bits are taken for ways to everywhere: some VPNs split the default route in two.
const DEFAULT_ROUTE_BITS: u8 = 1;

/// A range of IPv4 addresses that share their leading bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    /// First address.
    pub(super) first: Ipv4Addr,
    /// How many leading bits the addresses share.
    pub(super) prefix: u8,
}

impl Subnet {
    /// The range that begins at `first`.
    pub(super) const fn new(first: Ipv4Addr, prefix: u8) -> Self {
        Self { first, prefix }
    }

    /// How many addresses it has, without the first and the last one, which other systems may take for special.
    pub(super) fn hosts(self) -> u32 {
        (u32::MAX >> self.prefix).saturating_sub(1)
    }

    /// The address so many places behind the first.
    pub(super) fn at(self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits().wrapping_add(place))
    }

    /// Whether the ranges have an address in common.
    pub(super) fn overlaps(self, other: Self) -> bool {
        let shared = self.prefix.min(other.prefix);
        let mask = u32::MAX.checked_shl(32 - u32::from(shared)).unwrap_or(0);
        (self.first.to_bits() ^ other.first.to_bits()) & mask == 0
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// What there is in the network namespace of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Its own addresses.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// What its routes lead to, default routes aside.
    pub(super) used: Vec<Subnet>,
    /// The interfaces of its default routes.
    pub(super) outside: Vec<Link>,
}

impl Survey {
    /// Looks at the network namespace that `socket` was opened in.
    pub(super) fn take(socket: &mut Socket) -> io::Result<Self> {
        let addresses = socket.list(&rtnl::list_addresses())?;
        let addresses: Vec<_> = addresses
            .iter()
            .filter_map(|body| rtnl::parse_address(body))
            .collect();
        let routes = socket.list(&rtnl::list_routes())?;
        let (default, others): (Vec<_>, Vec<_>) = routes
            .iter()
            .filter_map(|body| Route::parse(body))
            .partition(|route| route.prefix <= DEFAULT_ROUTE_BITS);

        let mut indexes: Vec<_> = default
            .into_iter()
            .flat_map(|route| route.interfaces)
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut outside = Vec::new();
        for index in indexes {
            outside.extend(
                socket
                    .get(rtnl::get_link(index))?
                    .and_then(|body| Link::parse(&body)),
            );
        }
        let used = others
            .into_iter()
            .map(|route| Subnet::new(route.destination, route.prefix))
            .chain(addresses.iter().map(|address| Subnet::new(*address, 32)))
            .collect();
        Ok(Self {
            addresses,
            used,
            outside,
        })
    }

    /// The first of the candidates that is free, judged by the part of it that `part` says is needed. If none is, the one that
    /// lies within the widest route: a VPN that claims all private addresses hardly uses them all, and ours hide only those
    /// that are in use. `None` if there are narrower routes into each.
    pub(super) fn choose(
        &self,
        candidates: &[Subnet],
        part: impl Fn(Subnet) -> Subnet,
    ) -> Option<Subnet> {
        let narrowest = |wanted: Subnet| {
            let overlapping = self.used.iter().filter(|used| used.overlaps(wanted));
            overlapping.map(|used| used.prefix).max()
        };
        candidates
            .iter()
            .copied()
            .map(part)
            .filter(|wanted| narrowest(*wanted).is_none_or(|prefix| prefix < wanted.prefix))
            .min_by_key(|wanted| narrowest(*wanted))
    }

    /// The largest packet that all ways outside carry, in octets.
    pub(super) fn mtu(&self) -> u32 {
        let narrowest = self.outside.iter().map(|link| link.mtu).min();
        narrowest
            .unwrap_or(ETHERNET_MTU)
            .clamp(*VETH_MTU.start(), *VETH_MTU.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        let (first, prefix) = text.split_once('/').expect("an address and a prefix");
        Subnet::new(
            first.parse().expect("an address"),
            prefix.parse().expect("a number"),
        )
    }

    #[test]
    fn overlap_is_mutual() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.213.0.0/16", true),
            ("10.213.7.9/32", "10.213.0.0/16", true),
            ("10.212.0.0/16", "10.213.0.0/16", false),
            ("0.0.0.0/0", "10.213.0.0/16", true),
            ("198.18.0.2/31", "198.18.0.0/31", false),
        ] {
            assert_eq!(
                subnet(one).overlaps(subnet(other)),
                expected,
                "{one} {other}"
            );
            assert_eq!(
                subnet(other).overlaps(subnet(one)),
                expected,
                "{other} {one}"
            );
        }
    }

    #[test]
    fn chooses_what_is_free() {
        let survey = Survey {
            used: vec![subnet("10.0.0.0/8"), subnet("172.27.3.0/24")],
            ..Survey::default()
        };
        let candidates = ["10.213.0.0/16", "172.27.0.0/16", "192.168.0.0/16"].map(subnet);
        assert_eq!(survey.choose(&candidates, |all| all), Some(candidates[2]));
        // The route to 10.0.0.0/8 is wide, the one to 172.27.3.0/24 is not.
        assert_eq!(
            survey.choose(&candidates[..2], |all| all),
            Some(candidates[0])
        );
        assert_eq!(survey.choose(&candidates[1..2], |all| all), None);
        let part = |all: Subnet| Subnet::new(all.first, 24);
        assert_eq!(
            survey.choose(&candidates, part),
            Some(subnet("172.27.0.0/24"))
        );
    }

    #[test]
    fn hosts_exclude_both_ends() {
        assert_eq!(subnet("10.0.0.0/24").hosts(), 254);
        assert_eq!(subnet("10.0.0.0/16").at(2), Ipv4Addr::new(10, 0, 0, 2));
    }
}
