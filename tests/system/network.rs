//! The network of the Linux engine, on a machine made of network namespaces.

mod alone;
mod isolation;
pub(super) mod lab;
mod lifetime;
mod reach;

use std::net::Ipv4Addr;

use tfnz::node::engine::linux::network::{Attachment, Network};

use self::lab::{Lab, Netns};

/// The gateway of the containers, an address of the node's network namespace.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);

/// The machine's end of the uplink of slot 0.
pub(crate) const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

pub(crate) fn create(lab: &Lab, slot: u16) -> Network {
    lab.wait(Network::create(slot)).expect("create a network")
}

/// A network namespace that stands in for a container, and its attachment.
pub(crate) fn container(lab: &Lab, network: &Network) -> (Netns, Attachment) {
    let netns = Netns::new();
    let attachment = lab
        .wait(network.attach(netns.fd()))
        .expect("attach a container");
    (netns, attachment)
}

/// What is to be reached when nothing is.
pub(crate) const NONE: [Ipv4Addr; 0] = [];
