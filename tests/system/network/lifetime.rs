//! What a network leaves when it ends, in whatever way.

use std::fs::File;

use tfnz::node::engine::EngineError;
use tfnz::node::engine::linux::network::{self, Network};

use super::alone::{Owner, alone, has_run_alone, is_alone, node_netns, threads};
use super::lab::{DOCKER0, MACHINE, Netns, SERVER, in_lab, reached, shell};
use super::{NONE, UPLINK, container, create};
use crate::common::wait_until;

#[test]
fn slot_in_use_is_refused_and_nothing_changes() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let before = lab.state();
        let refused = lab
            .wait(Network::create(0))
            .expect_err("the slot is in use");
        assert!(matches!(refused, EngineError::InUse(_)), "{refused:?}");
        assert_eq!(lab.state(), before);
        let (netns, _attachment) = container(lab, &network);
        let _outside = lab.outside.listen("0.0.0.0", 80);
        assert!(netns.reaches(SERVER, 80), "the first is unharmed");
    });
}

#[test]
fn failed_create_leaves_nothing() {
    in_lab(|lab| {
        shell("ip link add tfnz-0 type bridge");
        let before = lab.state();
        let refused = lab.wait(Network::create(0)).expect_err("the name is taken");
        assert!(matches!(refused, EngineError::InUse(_)), "{refused:?}");
        assert_eq!(lab.state(), before);
        network::sweep(0).expect("sweep");
        create(lab, 0);
    });
}

#[test]
fn nothing_is_left_after_shutdown_or_drop() {
    in_lab(|lab| {
        let before = lab.state();
        for explicit in [true, false] {
            let network = create(lab, 0);
            let (netns, attachment) = container(lab, &network);
            if explicit {
                lab.wait(network.shutdown());
                let refused = lab
                    .wait(network.attach(Netns::new().fd()))
                    .expect_err("it has ended");
                assert!(matches!(refused, EngineError::Ended), "{refused:?}");
            }
            drop(network);
            drop(attachment);
            wait_until("the machine is as before", || lab.state() == before);
            wait_until("the container has no link", || {
                !netns.shell("ip -o link").contains("eth0")
            });
        }
    });
}

#[test]
fn kernel_removes_the_network_of_a_killed_owner() {
    if is_alone() {
        return own_a_network();
    }
    in_lab(|lab| {
        shell("nft add table ip filter; nft add chain ip filter DOCKER-USER");
        let before = lab.state();
        let container = Netns::new();
        let mut role = alone(
            module_path!(),
            "kernel_removes_the_network_of_a_killed_owner",
        );
        let mut owner = Owner::start(role.env(CONTAINER, container.path()));
        let _outside = lab.outside.listen("0.0.0.0", 80);
        wait_until("the container reaches the outside", || {
            let ended = owner.0.try_wait().expect("wait");
            assert!(ended.is_none(), "the owner ended by itself: {ended:?}");
            container.reaches(SERVER, 80)
        });
        assert!(lab.state().contains("table inet tfnz-0"));

        // Somebody looks into the node's namespace, which keeps it in being a little longer.
        let node = node_netns(&owner.0.id().to_string());
        let _listener = lab.machine.listen("0.0.0.0", 80);
        drop(owner);
        assert!(!lab.state().contains("table inet tfnz-0"));
        assert!(node.shell("ip -o link").contains("uplink"));
        assert_eq!(reached(&container, &[MACHINE, DOCKER0, UPLINK]), NONE);

        drop(node);
        wait_until("the links are gone", || {
            !lab.state().contains(": tfnz-0") && !container.shell("ip -o link").contains("eth0")
        });
        assert_ne!(
            lab.state(),
            before,
            "the rules in the table of others wait for the sweep"
        );
        network::sweep(0).expect("sweep");
        assert_eq!(lab.state(), before);
        network::sweep(0).expect("sweep where there is nothing");
    });
}

#[test]
fn another_process_goes_on_with_the_network_of_a_killed_one() {
    in_lab(|lab| {
        let killed = create(lab, 0);
        let (kept, attachment) = container(lab, &killed);
        let (peer, peer_attachment) = container(lab, &killed);
        let (half_made, half_attachment) = container(lab, &killed);
        let (ip, peer_ip) = (attachment.ip(), peer_attachment.ip());
        let interfaces = [attachment.interface(), peer_attachment.interface()];
        lab.wait(killed.allow(ip, peer_ip)).expect("allowed");
        let _peer_server = peer.listen("0.0.0.0", 80);
        assert!(kept.reaches(peer_ip, 80));
        let (legacy, node, filter) = killed.leave().expect("left");
        // What a process has that is killed, it does not clear away.
        std::mem::forget((killed, attachment, peer_attachment, half_attachment));

        let next = Network::resume(0, &legacy, node, filter).expect("resumed");
        let reattach = |ip, interface, netns: &Netns| next.reattach(ip, interface, netns.fd());
        let attachment = reattach(ip, interfaces[0], &kept).expect("reattached");
        let _peer_attachment = reattach(peer_ip, interfaces[1], &peer).expect("reattached");
        assert!(matches!(
            reattach(ip, interfaces[0], &kept),
            Err(EngineError::InUse(_))
        ));
        lab.wait(next.retain(interfaces.to_vec())).expect("listed");

        let _outside = lab.outside.listen("0.0.0.0", 80);
        let _listener = lab.machine.listen("0.0.0.0", 80);
        assert!(kept.reaches(SERVER, 80));
        assert_eq!(reached(&kept, &[MACHINE, DOCKER0, UPLINK]), NONE);
        let _server = kept.listen("127.0.0.1", 81);
        lab.wait(attachment.connect(81)).expect("connected");
        wait_until("what was half made is gone", || {
            !half_made.shell("ip -o link").contains("eth0")
        });
        assert!(kept.is_kept_from(peer_ip, 80), "the pair is closed");
        lab.wait(next.allow(ip, peer_ip)).expect("allowed");
        assert!(kept.reaches(peer_ip, 80));
        let (fresh, fresh_attachment) = container(lab, &next);
        assert!(![ip, peer_ip].contains(&fresh_attachment.ip()));
        assert!(fresh.reaches(SERVER, 80));
        drop(attachment);
        wait_until("its link is gone", || {
            !kept.shell("ip -o link").contains("eth0")
        });
        lab.wait(next.shutdown());
        wait_until("the uplink is gone", || !lab.state().contains(": tfnz-0"));
    });
}

/// Where the child finds the network namespace of its container.
const CONTAINER: &str = "TF_TEST_NETWORK_CONTAINER";

/// Has a network with one container until it is killed.
fn own_a_network() {
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    runtime.block_on(async {
        let network = Network::create(0).await.expect("create a network");
        let path = std::env::var_os(CONTAINER).expect("the path of a network namespace");
        let netns = File::open(path).expect("open the network namespace");
        let _attachment = network.attach(netns.into()).await.expect("attach");
        std::future::pending::<()>().await;
    });
}

#[test]
fn hundred_containers_leave_nothing() {
    if has_run_alone(module_path!(), "hundred_containers_leave_nothing") {
        return;
    }
    in_lab(|lab| {
        let network = create(lab, 0);
        let cycle = |count| {
            for _ in 0..count {
                let (netns, attachment) = container(lab, &network);
                let _listener = netns.listen("127.0.0.1", 80);
                lab.wait(attachment.connect(80)).expect("connect");
                // One that is given up halfway.
                lab.wait(async {
                    tokio::select! {
                        biased;
                        attached = network.attach(Netns::new().fd()) => drop(attached),
                        () = tokio::task::yield_now() => {}
                    }
                });
            }
        };
        cycle(5);
        // Besides them there are the loopback interface and the uplink.
        let are_gone = || node_netns("self").shell("ip -o link").lines().count() == 2;
        wait_until("the first are gone", are_gone);
        let before = possessions();
        cycle(100);
        wait_until("the others are gone", || {
            are_gone() && possessions() == before
        });
        drop(network);
        wait_until("all of it is gone", || {
            let (descriptors, threads) = possessions();
            threads == 0 && descriptors < before.0
        });
    });
}

/// What this process has: descriptors, and threads of networks.
fn possessions() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("list the descriptors");
    (descriptors.count(), threads("self").len())
}
