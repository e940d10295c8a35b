//! What containers reach, and how they are reached.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Command;
use std::sync::Arc;

use tfnz::node::engine::EngineError;
use tfnz::node::engine::linux::network::Network;

use super::alone::Owner;
use super::lab::{MACHINE, NEIGHBOUR, Netns, ROUTER, SERVER, in_lab, passes, receives, shell};
use super::{GATEWAY, container, create};
use crate::common::wait_until;

#[test]
fn connect_reaches_servers_on_any_address_of_the_container() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, attachment) = container(lab, &network);
        for ip in [
            "127.0.0.1",
            &attachment.ip().to_string(),
            "::1",
            "0.0.0.0",
            "::",
        ] {
            let listener = netns.listen(ip, 80);
            let client = lab.wait(attachment.connect(80)).expect("connect");
            let (_server, peer) = listener.accept().expect("accept");
            let local = client.local_addr().expect("an address");
            assert_eq!(
                (local.ip(), local.port()),
                (peer.ip().to_canonical(), peer.port()),
                "{ip}"
            );
        }
        let refused = lab
            .wait(attachment.connect(80))
            .expect_err("nothing listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn connect_prefers_localhost() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, attachment) = container(lab, &network);
        let _other = netns.listen(&attachment.ip().to_string(), 80);
        let listener = netns.listen("127.0.0.1", 80);
        lab.wait(attachment.connect(80)).expect("connect");
        listener.set_nonblocking(true).expect("make non-blocking");
        listener.accept().expect("the connection went to localhost");
    });
}

#[test]
fn container_has_one_address_and_only_ipv4() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, attachment) = container(lab, &network);
        let addresses = netns.shell("ip -o address show dev eth0");
        assert_eq!(addresses.lines().count(), 1, "{addresses}");
        assert!(
            addresses.contains(&format!("{}/32", attachment.ip())),
            "{addresses}"
        );
        assert!(netns.shell("ip -o address show dev lo").contains("::1/128"));
        assert!(
            netns
                .shell("ip route")
                .contains(&format!("default via {GATEWAY} dev eth0"))
        );
        // What Docker's containers can do without a privilege.
        assert_eq!(
            netns
                .shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
                .trim(),
            "0"
        );
    });
}

#[test]
fn container_of_another_user_namespace_is_attached() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let owner = Owner::start(Command::new("unshare").args([
            "--user",
            "--map-root-user",
            "--net",
            "sleep",
            "1000",
        ]));
        let path = format!("/proc/{}/ns/net", owner.0.id());
        let link = |path: &str| std::fs::read_link(path).expect("read a link");
        wait_until("it has a network namespace", || {
            link(&path) != link("/proc/thread-self/ns/net")
        });
        let file = File::open(&path).expect("open the network namespace");
        let attachment = lab.wait(network.attach(file.into())).expect("attach");
        let refused = lab
            .wait(attachment.connect(80))
            .expect_err("nothing listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn containers_are_attached_at_the_same_time() {
    in_lab(|lab| {
        let network = Arc::new(create(lab, 0));
        let _outside = lab.outside.listen("0.0.0.0", 80);
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let netns = Netns::new();
                let (network, fd) = (Arc::clone(&network), netns.fd());
                (netns, lab.start(async move { network.attach(fd).await }))
            })
            .collect();
        let mut addresses = BTreeSet::new();
        for (netns, task) in tasks {
            let attachment = lab.wait(task).expect("the task ends").expect("attach");
            assert!(netns.reaches(SERVER, 80));
            assert!(
                addresses.insert(attachment.ip()),
                "{} twice",
                attachment.ip()
            );
        }
    });
}

#[test]
fn container_reaches_the_outside_and_the_answer_comes_back() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, attachment) = container(lab, &network);

        let listener = lab.outside.listen(&SERVER.to_string(), 80);
        let client = netns.connect(SERVER, 80).expect("connect");
        let (server, peer) = listener.accept().expect("accept");
        assert_eq!(peer.ip(), MACHINE, "the address is translated");
        assert!(passes(&client, &server) && passes(&server, &client));

        let resolver = lab.outside.udp(SERVER, 53);
        let query = netns.udp(attachment.ip(), 0);
        query.send_to(b"?", (SERVER, 53)).expect("send");
        let (_, from) = resolver.recv_from(&mut [0; 8]).expect("receive");
        resolver.send_to(b"!", from).expect("send");
        assert!(receives(&query));

        assert!(netns.pings(SERVER));
    });
}

#[test]
fn packets_are_no_larger_than_the_way_out_carries() {
    in_lab(|lab| {
        shell("ip link set eth0 mtu 1400");
        let network = create(lab, 0);
        let (netns, _attachment) = container(lab, &network);
        assert!(netns.shell("ip link show dev eth0").contains("mtu 1400"));
    });
}

#[test]
fn addresses_that_the_machine_uses_are_avoided() {
    in_lab(|lab| {
        shell(&format!(
            "ip route add 10.0.0.0/8 via {ROUTER}; ip route add 198.18.0.0/24 via {ROUTER}"
        ));
        let network = create(lab, 0);
        let (netns, attachment) = container(lab, &network);
        assert!(
            attachment.ip().to_string().starts_with("172.27."),
            "{}",
            attachment.ip()
        );
        let addresses = shell("ip -o -4 address show dev tfnz-0");
        assert!(!addresses.contains("198.18.0."), "{addresses}");
        let _outside = lab.outside.listen("0.0.0.0", 80);
        assert!(netns.reaches(SERVER, 80));

        shell(
            "for net in 10.213 10.87 172.27 192.168 100.125 198.19; do
             ip route add $net.7.0/24 dev docker0
         done",
        );
        let refused = lab
            .wait(Network::create(1))
            .expect_err("all ranges are taken");
        assert!(
            matches!(&refused, EngineError::Unsupported(text) if text.contains("10.213.0.0/16")),
            "{refused:?}"
        );
    });
}

#[test]
fn forwarding_rules_of_docker_are_passed_and_left_as_they_were() {
    in_lab(|lab| {
        let _outside = lab.outside.listen("0.0.0.0", 80);
        let docker = "nft add table ip filter
         nft add chain ip filter FORWARD '{ type filter hook forward priority filter; policy drop; }'";
        let user = "nft add chain ip filter DOCKER-USER
         nft add rule ip filter DOCKER-USER counter return
         nft insert rule ip filter FORWARD counter jump DOCKER-USER";
        for script in [docker, user] {
            shell(script);
            let before = shell("nft -s list ruleset");
            let network = create(lab, 0);
            let (netns, _attachment) = container(lab, &network);
            assert!(netns.reaches(SERVER, 80));
            let _direct = lab.neighbour.listen("0.0.0.0", 80);
            assert!(netns.is_kept_from(NEIGHBOUR, 80));
            lab.wait(network.shutdown());
            assert_eq!(shell("nft -s list ruleset"), before);
        }
    });
}
