//! What may reach what: the packet filter of the machine and that of the node's network namespace.
//!
//! ```text
//!   container ──veth── node's namespace ──uplink── machine ── outside
//!                      (table `tfnz`)              (table `tfnz-SLOT`)
//! ```
//!
//! Each of the two alone keeps containers off the services of the machine. The machine's rules know every address that it
//! has at that moment, but an administrator can flush them, and they end with the process. The node's rules know only the
//! addresses from when it was made, but nobody else sees them and they last as long as any container can send.
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

/// The pairs of containers of which the first may connect to the second.
const PAIRS: &str = "pairs";

/// The rules of the node's network namespace. `machine` are the addresses of the machine.
pub(super) fn node(machine: &[Ipv4Addr]) -> Batch {
    const MACHINE: &str = "machine";
    const FORWARD: &str = "forward";
    let machine: Vec<_> = machine
        .iter()
        .map(|address| address.octets().to_vec())
        .collect();
    Batch::new(Family::Inet, NODE_TABLE)
        .new_table()
        .set(MACHINE, 1, Key::Address)
        .add_elements(MACHINE, &machine)
        .set(PAIRS, 2, Key::AddressPair)
        .chain("input", Hook::Input, Verdict::Drop)
        .chain(FORWARD, Hook::Forward, Verdict::Drop)
        .append(FORWARD, Rule::new().not_ipv4().verdict(Verdict::Drop))
        // Those would leave with the container's address, since only valid packets are rewritten.
        .append(FORWARD, Rule::new().invalid().verdict(Verdict::Drop))
        .append(
            FORWARD,
            Rule::new()
                .coming_through(UPLINK)
                .established()
                .verdict(Verdict::Accept),
        )
        .append(
            FORWARD,
            Rule::new()
                .leaving_through(UPLINK)
                .destination_in(MACHINE)
                .verdict(Verdict::Drop),
        )
        .append(
            FORWARD,
            Rule::new()
                .not_coming_through(UPLINK)
                .leaving_through(UPLINK)
                .verdict(Verdict::Accept),
        )
        // Answers are let through only while the pair is open, so that closing it ends its connections, too.
        .append(FORWARD, Rule::new().pair_in(PAIRS).verdict(Verdict::Accept))
        .append(
            FORWARD,
            Rule::new()
                .reversed_pair_in(PAIRS)
                .established()
                .verdict(Verdict::Accept),
        )
        .chain("postrouting", Hook::SourceNat, Verdict::Accept)
        .append(
            "postrouting",
            Rule::new().leaving_through(UPLINK).masquerade(),
        )
}

/// Changes of the rules in [`node`].
pub(super) fn change_node() -> PairChanges {
    PairChanges(Batch::new(Family::Inet, NODE_TABLE))
}

/// Opens and closes pairs of containers.
#[derive(Debug)]
pub(super) struct PairChanges(Batch);

impl PairChanges {
    /// Lets pairs through, each an element by [`super::nft::pair_key`].
    pub(super) fn open(self, pairs: &[Vec<u8>]) -> Batch {
        self.0.add_elements(PAIRS, pairs)
    }

    /// Stops letting pairs through.
    pub(super) fn close(self, pairs: &[Vec<u8>]) -> Batch {
        self.0.remove_elements(PAIRS, pairs)
    }
}

/// The rules of the machine for the uplink interface `uplink`, after which the table is named. `outside` are the interfaces of
/// the machine's default routes.
pub(super) fn machine(uplink: &str, outside: &[Link]) -> Batch {
    const OUTSIDE: &str = "outside";
    const FORWARD: &str = "forward";
    let outside: Vec<_> = outside
        .iter()
        .map(|link| interface_key(&link.name).to_vec())
        .collect();
    let mut batch = Batch::new(Family::Inet, uplink)
        .new_owned_table()
        .set(OUTSIDE, 1, Key::Interface)
        .add_elements(OUTSIDE, &outside)
        .chain("input", Hook::Input, Verdict::Accept)
        .append(
            "input",
            Rule::new().coming_through(uplink).verdict(Verdict::Drop),
        )
        .chain(FORWARD, Hook::Forward, Verdict::Accept)
        .append(
            FORWARD,
            Rule::new()
                .leaving_through(uplink)
                .established()
                .verdict(Verdict::Accept),
        )
        .append(
            FORWARD,
            Rule::new().leaving_through(uplink).verdict(Verdict::Drop),
        )
        .append(
            FORWARD,
            Rule::new()
                .not_coming_through(uplink)
                .verdict(Verdict::Accept),
        )
        .append(FORWARD, Rule::new().not_ipv4().verdict(Verdict::Drop))
        .append(FORWARD, Rule::new().invalid().verdict(Verdict::Drop))
        // A port that some other software publishes on an address of the machine and serves elsewhere, as Docker does.
        .append(FORWARD, Rule::new().redirected().verdict(Verdict::Drop));
    // The networks of containers and virtual machines on this machine are not outside, unless the default route is one.
    for kind in ["bridge", "veth"] {
        let inward = Rule::new()
            .leaving_through_kind(kind)
            .leaving_through_none_of(OUTSIDE);
        batch = batch.append(FORWARD, inward.verdict(Verdict::Drop));
    }
    batch
        .chain("postrouting", Hook::SourceNat, Verdict::Accept)
        .append(
            "postrouting",
            Rule::new().coming_through(uplink).masquerade(),
        )
}
