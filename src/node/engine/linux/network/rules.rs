//! What may reach what: the packet filter of the machine and that of the node's network namespace.
//!
//! ```text
//!   container ──veth── node's namespace ──uplink── machine ── outside
//!                      (table `tfnz`)              (table `tfnz-SLOT`)
//! ```
//!
//! Each of the two alone keeps containers off the services of the machine. The machine's rules hold for every address that it
//! ever has, but they end with the process, a moment before the last container may. The node's rules know only the addresses
//! from when it was made, but they last as long as anything can be sent.
//!
//! Between containers there is no link layer that they share: each has a veth pair of its own, and what one sends to another
//! is routed. So there is nothing to spoof with ARP, and the strict reverse path filter drops whatever does not come
//! from the address that is routed to the interface it came in through.

use std::net::Ipv4Addr;

use super::nft::{Batch, Family, Hook, Key};
use super::rtnl::Link;
use super::rule::{Rule, Verdict, interface_key};

/// Name of the node's end of the uplink.
pub(super) const UPLINK: &str = "uplink";

/// The table in the node's network namespace.
const NODE_TABLE: &str = "tfnz";

const INPUT: &str = "input";
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";

/// The pairs of containers of which the first may connect to the second.
const PAIRS: &str = "pairs";

/// The rules of the node's network namespace. `machine` are the addresses of the machine.
pub(super) fn node(machine: &[Ipv4Addr]) -> Batch {
    const MACHINE: &str = "machine";
    const DNS: u16 = 53;
    let machine: Vec<_> = machine
        .iter()
        .map(|address| address.octets().to_vec())
        .collect();
    let forward = [
        Rule::new().not_ipv4().discard(),
        // Those would leave with the container's address, since only valid packets are rewritten.
        Rule::new().invalid().discard(),
        Rule::new().coming_through(UPLINK).established().accept(),
        Rule::new().coming_through(UPLINK).discard(),
        Rule::new().destination_in(MACHINE).discard(),
        // There a cloud hands out the machine's credentials. Its name server may be there, too.
        Rule::new()
            .link_local_destination()
            .not_to_port(DNS)
            .discard(),
        Rule::new().leaving_through(UPLINK).accept(),
        // Answers pass only while the pair is open, so that closing it ends its connections, too.
        Rule::new().pair_in(PAIRS).accept(),
        Rule::new().reversed_pair_in(PAIRS).established().accept(),
    ];
    Batch::new(Family::Inet, NODE_TABLE)
        .new_table()
        .set(MACHINE, 1, Key::Address)
        .add_elements(MACHINE, &machine)
        .set(PAIRS, 2, Key::AddressPair)
        .chain(INPUT, Hook::Input, Verdict::Drop)
        .chain(FORWARD, Hook::Forward, Verdict::Drop)
        .append(FORWARD, forward)
        .chain(POSTROUTING, Hook::SourceNat, Verdict::Accept)
        .append(
            POSTROUTING,
            [Rule::new().leaving_through(UPLINK).masquerade()],
        )
}

/// Lets pairs of containers through that [`node`] does not, each written as [`super::nft::pair_key`] does.
pub(super) fn open_pairs(pairs: &[Vec<u8>]) -> Batch {
    Batch::new(Family::Inet, NODE_TABLE).add_elements(PAIRS, pairs)
}

/// Stops letting pairs through.
pub(super) fn close_pairs(pairs: &[Vec<u8>]) -> Batch {
    Batch::new(Family::Inet, NODE_TABLE).remove_elements(PAIRS, pairs)
}

/// Stops letting any pairs through.
pub(super) fn close_all_pairs() -> Batch {
    Batch::new(Family::Inet, NODE_TABLE).empty(PAIRS)
}

/// The rules of the machine for the uplink interface `uplink`, after which the table is named. `outside` are the interfaces of
/// the machine's default routes.
pub(super) fn machine(uplink: &str, outside: &[Link]) -> Batch {
    const OUTSIDE: &str = "outside";
    let outside: Vec<_> = outside
        .iter()
        .map(|link| interface_key(&link.name).to_vec())
        .collect();
    let inward = |kind| {
        Rule::new()
            .leaving_through_kind(kind)
            .leaving_through_none_of(OUTSIDE)
    };
    let forward = [
        Rule::new().leaving_through(uplink).established().accept(),
        Rule::new().leaving_through(uplink).discard(),
        Rule::new().not_coming_through(uplink).accept(),
        Rule::new().not_ipv4().discard(),
        Rule::new().invalid().discard(),
        // A port that some other software publishes on an address of the machine and serves elsewhere, as Docker does.
        Rule::new().redirected().discard(),
        // The networks of containers and virtual machines on this machine are not outside, unless the default route is one.
        inward("bridge").discard(),
        inward("veth").discard(),
    ];
    Batch::new(Family::Inet, uplink)
        .new_owned_table()
        .set(OUTSIDE, 1, Key::Interface)
        .add_elements(OUTSIDE, &outside)
        .chain(INPUT, Hook::Input, Verdict::Accept)
        .append(INPUT, [Rule::new().coming_through(uplink).discard()])
        .chain(FORWARD, Hook::Forward, Verdict::Accept)
        .append(FORWARD, forward)
        .chain(POSTROUTING, Hook::SourceNat, Verdict::Accept)
        .append(
            POSTROUTING,
            [Rule::new().coming_through(uplink).masquerade()],
        )
}
