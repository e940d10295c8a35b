//! Messages of rtnetlink: links, addresses and routes. IPv4 only, as containers are.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::netlink::{Attributes, Message, Socket, attribute, attributes, number, text};
use crate::tcp::UNPACED;

/// Octets of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Octets of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Octets of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;

/// `VETH_INFO_PEER` of `linux/veth.h`.
const VETH_PEER: u16 = 1;
/// `IFLA_INET6_ADDR_GEN_MODE` of `linux/if_link.h`.
const INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`: the kernel gives the interface no address by itself.
const ADDR_GEN_NONE: u8 = 1;
/// `RTNH_F_ONLINK`: the gateway is reachable through the interface although no route says so.
const ONLINK: u32 = 4;
/// `RTAX_CC_ALGO` of `linux/rtnetlink.h`: the congestion control of connections that take the route.
const CONGESTION_CONTROL: u16 = 16;

const CREATE: libc::c_int = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const UP: u32 = libc::IFF_UP.cast_unsigned();

/// Index of the loopback interface, in every network namespace.
pub(super) const LOOPBACK: u32 = 1;

/// One end of a veth pair that is to be made.
pub(super) struct VethEnd<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its interface index; 0 lets the kernel choose.
    pub(super) index: u32,
    /// Largest packet, in octets.
    pub(super) mtu: u32,
}

fn link_header(index: u32, flags: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    // Which of the flags are to change.
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn veth_end(end: &VethEnd<'_>, attributes: Attributes) -> Attributes {
    attributes
        .with_text(libc::IFLA_IFNAME, end.name)
        .with(libc::IFLA_MTU, end.mtu.to_ne_bytes())
}

/// Makes a veth pair, both ends down, with the peer born in the namespace `peer_netns`.
pub(super) fn add_veth(
    end: &VethEnd<'_>,
    peer: &VethEnd<'_>,
    peer_netns: BorrowedFd<'_>,
) -> Message {
    let header = link_header(peer.index, 0);
    let peer = veth_end(peer, Attributes::behind(&header))
        .with(libc::IFLA_NET_NS_FD, peer_netns.as_raw_fd().to_ne_bytes());
    let info = Attributes::new()
        .with_text(libc::IFLA_INFO_KIND, "veth")
        .with_nested(
            libc::IFLA_INFO_DATA,
            Attributes::new().with_nested(VETH_PEER, peer),
        );
    let all = veth_end(end, Attributes::new()).with_nested(libc::IFLA_LINKINFO, info);
    Message::new(libc::RTM_NEWLINK, CREATE, &link_header(end.index, 0), all)
}

/// Puts an interface into operation.
pub(super) fn set_up(index: u32) -> Message {
    Message::new(
        libc::RTM_SETLINK,
        0,
        &link_header(index, UP),
        Attributes::new(),
    )
}

/// Keeps the kernel from giving an interface an IPv6 address by itself. Where the kernel has no IPv6 there is nothing to say.
pub(super) fn without_ipv6_address(index: u32) -> Option<Message> {
    if !has_ipv6() {
        return None;
    }
    let inet6 = Attributes::new().with(INET6_ADDR_GEN_MODE, [ADDR_GEN_NONE]);
    let families = Attributes::new().with_nested(address_family(libc::AF_INET6), inet6);
    let all = Attributes::new().with_nested(libc::IFLA_AF_SPEC, families);
    let header = link_header(index, 0);
    Some(Message::new(libc::RTM_SETLINK, 0, &header, all))
}

/// Whether the kernel has IPv6. Asking makes it load the module if there is one, so that no container can do that later, when
/// its interface is there and would get an address.
pub(super) fn has_ipv6() -> bool {
    static ANSWER: LazyLock<bool> = LazyLock::new(|| {
        let made = socket(
            AddressFamily::Inet6,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        !matches!(made, Err(Errno::EAFNOSUPPORT))
    });
    *ANSWER
}

fn address_family(family: libc::c_int) -> u16 {
    u16::try_from(family).expect("address families are small")
}

/// Removes an interface, and its peer with it.
pub(super) fn delete_link(index: u32) -> Message {
    Message::new(
        libc::RTM_DELLINK,
        0,
        &link_header(index, 0),
        Attributes::new(),
    )
}

/// Asks for the interface of this name.
fn get_link_named(name: &str) -> Message {
    let name = Attributes::new().with_text(libc::IFLA_IFNAME, name);
    Message::new(libc::RTM_GETLINK, 0, &link_header(0, 0), name)
}

/// Asks for the interface of this index.
pub(super) fn get_link(index: u32) -> Message {
    Message::new(
        libc::RTM_GETLINK,
        0,
        &link_header(index, 0),
        Attributes::new(),
    )
}

/// Asks for all interfaces.
pub(super) fn list_links() -> Message {
    Message::new(
        libc::RTM_GETLINK,
        libc::NLM_F_DUMP,
        &link_header(0, 0),
        Attributes::new(),
    )
}

/// Lets an interface transmit from now on. The end of a veth pair that is put into operation first drops what it should send
/// until the kernel gets around to noticing that the other end is there, too; asking for the state makes it notice.
pub(super) fn settle(index: u32) -> Message {
    get_link(index)
}

/// Gives an interface an address within a subnet.
pub(super) fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> Message {
    let mut header = [0; ADDRESS_HEADER];
    header[0] = octet(libc::AF_INET);
    header[1] = prefix;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let all = Attributes::new()
        .with(libc::IFA_LOCAL, address.octets())
        .with(libc::IFA_ADDRESS, address.octets());
    Message::new(libc::RTM_NEWADDR, CREATE, &header, all)
}

/// Routes a single address to an interface, whatever route it had before.
pub(super) fn route_to(address: Ipv4Addr, index: u32, source: Ipv4Addr) -> Message {
    let header = route_header(32, libc::RT_SCOPE_LINK, 0);
    let all = Attributes::new()
        .with(libc::RTA_DST, address.octets())
        .with(libc::RTA_OIF, index.to_ne_bytes())
        .with(libc::RTA_PREFSRC, source.octets());
    let replace = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    Message::new(libc::RTM_NEWROUTE, replace, &header, all)
}

/// Routes everything to a gateway behind an interface.
pub(super) fn default_route(gateway: Ipv4Addr, index: u32) -> Message {
    let header = route_header(0, libc::RT_SCOPE_UNIVERSE, ONLINK);
    let all = Attributes::new()
        .with(libc::RTA_GATEWAY, gateway.octets())
        .with(libc::RTA_OIF, index.to_ne_bytes());
    Message::new(libc::RTM_NEWROUTE, CREATE, &header, all)
}

/// Connections to 127.0.0.1 send at once what they may send, both ways, whatever the machine's congestion control is: see
/// [`crate::tcp`]. All that comes through a tunnel takes this way.
pub(super) fn unpaced_loopback() -> Message {
    let mut header = route_header(32, libc::RT_SCOPE_HOST, 0);
    header[4] = libc::RT_TABLE_LOCAL;
    header[5] = libc::RTPROT_KERNEL;
    header[7] = libc::RTN_LOCAL;
    let address = Ipv4Addr::LOCALHOST;
    let all = Attributes::new()
        .with(libc::RTA_DST, address.octets())
        .with(libc::RTA_OIF, LOOPBACK.to_ne_bytes())
        .with(libc::RTA_PREFSRC, address.octets())
        .with_nested(
            libc::RTA_METRICS,
            Attributes::new().with_text(CONGESTION_CONTROL, UNPACED),
        );
    let replace = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    Message::new(libc::RTM_NEWROUTE, replace, &header, all)
}

fn route_header(prefix: u8, scope: u8, flags: u32) -> [u8; ROUTE_HEADER] {
    let mut header = [0; ROUTE_HEADER];
    header[0] = octet(libc::AF_INET);
    header[1] = prefix;
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = libc::RTPROT_BOOT;
    header[6] = scope;
    header[7] = libc::RTN_UNICAST;
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn octet(value: libc::c_int) -> u8 {
    u8::try_from(value).expect("the constant is an octet")
}

/// Asks for all IPv4 addresses.
pub(super) fn list_addresses() -> Message {
    let mut header = [0; ADDRESS_HEADER];
    header[0] = octet(libc::AF_INET);
    Message::new(
        libc::RTM_GETADDR,
        libc::NLM_F_DUMP,
        &header,
        Attributes::new(),
    )
}

/// Asks for all IPv4 routes, of all tables.
pub(super) fn list_routes() -> Message {
    let mut header = [0; ROUTE_HEADER];
    header[0] = octet(libc::AF_INET);
    Message::new(
        libc::RTM_GETROUTE,
        libc::NLM_F_DUMP,
        &header,
        Attributes::new(),
    )
}

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its index.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// Largest packet, in octets.
    pub(super) mtu: u32,
}

impl Link {
    /// Reads the answer to a request for a link.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (header, rest) = body.split_at_checked(LINK_HEADER)?;
        Some(Self {
            index: number(&header[4..8])?,
            name: text(attribute(rest, libc::IFLA_IFNAME)?)?.to_owned(),
            mtu: number(attribute(rest, libc::IFLA_MTU)?)?,
        })
    }
}

/// The interface of this name in the network namespace of the socket.
pub(super) fn find(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    Ok(socket
        .get(get_link_named(name))?
        .and_then(|body| Link::parse(&body)))
}

/// The address in the answer to a request for addresses.
pub(super) fn parse_address(body: &[u8]) -> Option<Ipv4Addr> {
    let rest = body.get(ADDRESS_HEADER..)?;
    let value = attribute(rest, libc::IFA_LOCAL).or_else(|| attribute(rest, libc::IFA_ADDRESS))?;
    ipv4(value)
}

/// Where packets to some addresses go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// First of the addresses.
    pub(super) destination: Ipv4Addr,
    /// How many leading bits the addresses share.
    pub(super) prefix: u8,
    /// The interfaces that lead there.
    pub(super) interfaces: Vec<u32>,
}

impl Route {
    /// Reads the answer to a request for routes.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (header, rest) = body.split_at_checked(ROUTE_HEADER)?;
        let destination =
            attribute(rest, libc::RTA_DST).map_or(Some(Ipv4Addr::UNSPECIFIED), ipv4)?;
        let mut interfaces = Vec::new();
        for (kind, value) in attributes(rest) {
            match kind {
                libc::RTA_OIF => interfaces.extend(number(value)),
                libc::RTA_MULTIPATH => interfaces.extend(next_hops(value)),
                _ => {}
            }
        }
        Some(Self {
            destination,
            prefix: header[1],
            interfaces,
        })
    }
}

/// The interface indexes in a list of `struct rtnexthop`, each of which has the layout length, flags, weight, index.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut interfaces = Vec::new();
    while let Some((hop, _)) = bytes.split_first_chunk::<8>() {
        interfaces.extend(number(&hop[4..8]));
        let length = usize::from(u16::from_ne_bytes([hop[0], hop[1]])).max(8);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    interfaces
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_of_a_multipath_route() {
        let mut bytes = Vec::new();
        for index in [7_u32, 9] {
            bytes.extend_from_slice(&[8, 0, 0, 0]);
            bytes.extend_from_slice(&index.to_ne_bytes());
        }
        assert_eq!(next_hops(&bytes), [7, 9]);
        assert_eq!(next_hops(&[0; 8]), [0], "a length of zero does not loop");
    }

    #[test]
    fn short_answers_are_none() {
        for length in 0..ROUTE_HEADER {
            assert_eq!(Link::parse(&vec![0; length]), None);
            assert_eq!(Route::parse(&vec![0; length]), None);
            assert_eq!(parse_address(&vec![0; length]), None);
        }
    }
}
