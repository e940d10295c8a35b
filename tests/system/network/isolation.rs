//! What containers do not reach, and who does not reach them.

use std::net::Ipv4Addr;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use tfnz::node::engine::EngineError;
use tfnz::node::engine::linux::network;

use super::alone::{has_run_alone, node_netns};
use super::lab::{
    DOCKER0, MACHINE, METADATA, NEIGHBOUR, Netns, SERVER, hears_nothing, in_lab, is_cut, passes,
    reached, receives, shell,
};
use super::{GATEWAY, NONE, UPLINK, container, create};
use crate::common::wait_until;

#[test]
fn containers_cannot_reach_each_other_unless_allowed() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (one, here) = container(lab, &network);
        let (two, there) = container(lab, &network);
        let listener = two.listen("0.0.0.0", 80);
        let _reverse = one.listen("0.0.0.0", 80);
        let socket = two.udp(there.ip(), 5000);
        let sender = one.udp(here.ip(), 0);
        let send = || sender.send_to(b"x", (there.ip(), 5000)).expect("send");

        assert!(one.is_kept_from(there.ip(), 80) && one.pings_in_vain(there.ip()));
        send();
        assert!(hears_nothing(&socket));

        lab.wait(network.allow(here.ip(), there.ip()))
            .expect("allow");
        let client = one.connect(there.ip(), 80).expect("connect");
        let (server, peer) = listener.accept().expect("accept");
        assert_eq!(peer.ip(), here.ip(), "no translation between containers");
        assert!(passes(&client, &server) && passes(&server, &client));
        send();
        assert!(receives(&socket) && one.pings(there.ip()));
        assert!(
            two.is_kept_from(here.ip(), 80),
            "it is open in one direction only"
        );

        lab.wait(network.disallow(here.ip(), there.ip()))
            .expect("disallow");
        assert!(one.is_kept_from(there.ip(), 80));
        assert!(
            is_cut(&client, &server),
            "connections that exist are cut off"
        );
        send();
        assert!(hears_nothing(&socket));
    });
}

#[test]
fn permission_ends_with_the_container() {
    if has_run_alone(module_path!(), "permission_ends_with_the_container") {
        return;
    }
    in_lab(|lab| {
        let network = create(lab, 0);
        let (_one, here) = container(lab, &network);
        let (_two, there) = container(lab, &network);
        let (from, to) = (here.ip(), there.ip());
        lab.wait(network.allow(from, to)).expect("allow");
        let node = node_netns("self");
        let pairs = || node.shell("nft list set inet tfnz pairs");
        assert!(pairs().contains(&format!("{from} . {to}")), "{}", pairs());
        drop(there);
        wait_until("the address is free", || {
            matches!(lab.wait(network.allow(to, from)), Err(EngineError::Ended))
        });
        assert!(!pairs().contains(&to.to_string()), "{}", pairs());
    });
}

#[test]
fn spoofed_addresses_go_nowhere() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (attacker, own) = container(lab, &network);
        let (victim, address) = container(lab, &network);
        let server = lab.outside.udp(SERVER, 5000);
        let victims = victim.udp(address.ip(), 6000);

        // The attacker knows how to get packets onto its link without the help of ARP.
        let gateway = netns_neighbour(&attacker, GATEWAY);
        attacker.shell(&format!(
            "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify
         ip neighbour replace {NEXT_HOP} lladdr {gateway} dev eth0
         ip route replace default via {NEXT_HOP} dev eth0 onlink"
        ));
        // It takes the address of the victim, then that of the gateway, and announces each to everybody.
        for taken in [address.ip(), GATEWAY] {
            attacker.shell(&format!(
                "ip address add {taken}/32 dev eth0
             ip link set eth0 down
             ip link set eth0 up
             ip neighbour replace {NEXT_HOP} lladdr {gateway} dev eth0
             ip route replace default via {NEXT_HOP} dev eth0 onlink"
            ));
            let spoofed = attacker.udp(taken, 6000);
            spoofed.send_to(b"x", (SERVER, 5000)).expect("send");
            assert!(hears_nothing(&server), "{taken}");

            // The victim has its address still, and the answers come to it.
            victims.send_to(b"x", (SERVER, 5000)).expect("send");
            let (_, from) = server.recv_from(&mut [0; 8]).expect("receive");
            server.send_to(b"x", from).expect("send");
            assert!(receives(&victims) && hears_nothing(&spoofed), "{taken}");
            attacker.shell(&format!("ip address del {taken}/32 dev eth0"));
        }

        // Under its own name the attacker gets through: what stopped it was the address.
        let honest = attacker.udp(own.ip(), 6000);
        honest.send_to(b"x", (SERVER, 5000)).expect("send");
        assert!(receives(&server));
    });
}

/// A next hop that no answer of ARP stands for.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(10, 213, 255, 254);

/// The link address that `netns` has found out for `ip`.
fn netns_neighbour(netns: &Netns, ip: Ipv4Addr) -> String {
    let mut found = String::new();
    wait_until("the link address is known", || {
        netns.is_kept_from(ip, 1);
        found = netns.shell(&format!(
            "ip neighbour show {ip} | sed -n 's/.*lladdr \\([^ ]*\\).*/\\1/p'"
        ));
        !found.is_empty()
    });
    found.trim().to_owned()
}

#[test]
fn container_cannot_reach_the_machine_by_any_address() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, attachment) = container(lab, &network);
        let _listener = lab.machine.listen("0.0.0.0", 80);
        let socket = lab.machine.udp(Ipv4Addr::UNSPECIFIED, 5000);
        assert!(lab.outside.reaches(MACHINE, 80), "the service is there");

        let late = add_late_address();
        let addresses = [
            MACHINE,
            DOCKER0,
            UPLINK,
            late,
            GATEWAY,
            Ipv4Addr::new(198, 18, 0, 1),
        ];
        assert_eq!(reached(&netns, &addresses), NONE);
        let sender = netns.udp(attachment.ip(), 0);
        for ip in addresses {
            sender.send_to(b"x", (ip, 5000)).expect("send");
        }
        assert!(hears_nothing(&socket));
    });
}

#[test]
fn container_cannot_reach_the_machine_after_its_rules_were_flushed() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, _attachment) = container(lab, &network);
        let _listener = lab.machine.listen("0.0.0.0", 80);
        shell("nft flush ruleset");
        assert_eq!(reached(&netns, &[MACHINE, DOCKER0, UPLINK]), NONE);
        let _outside = lab.outside.listen("0.0.0.0", 80);
        assert!(
            netns.reaches(SERVER, 80),
            "our rules are not flushed with the others"
        );
    });
}

#[test]
fn container_cannot_reach_other_networks_of_the_machine() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, _attachment) = container(lab, &network);
        let _direct = lab.neighbour.listen("0.0.0.0", 80);
        assert!(lab.machine.reaches(NEIGHBOUR, 80), "the service is there");
        assert!(netns.is_kept_from(NEIGHBOUR, 80));

        // A port published as Docker does it.
        shell(&format!(
            "nft add table ip nat
         nft add chain ip nat PREROUTING '{{ type nat hook prerouting priority dstnat; }}'
         nft add rule ip nat PREROUTING fib daddr type local tcp dport 8080 dnat to {NEIGHBOUR}:80
         nft add rule ip nat PREROUTING fib daddr type local tcp dport 8081 dnat to {SERVER}:80"
        ));
        assert!(lab.outside.reaches(MACHINE, 8080), "the port is published");
        assert!(netns.is_kept_from(MACHINE, 8080));

        // The same by an address that the machine did not have when the network was made.
        let late = add_late_address();
        let _remote = lab.outside.listen("0.0.0.0", 80);
        assert!(netns.is_kept_from(late, 8080));
        assert!(
            netns.is_kept_from(late, 8081),
            "nor what is published for a server outside"
        );
        assert!(netns.reaches(SERVER, 80), "the service is there");
    });
}

/// Gives the machine one more address.
fn add_late_address() -> Ipv4Addr {
    let late = Ipv4Addr::new(198, 51, 100, 7);
    shell(&format!(
        "ip link add late type bridge; ip address add {late}/32 dev late; ip link set late up"
    ));
    late
}

#[test]
fn credentials_of_the_machine_are_out_of_reach() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, _attachment) = container(lab, &network);
        let _metadata = lab.outside.listen(&METADATA.to_string(), 80);
        let _names = lab.outside.listen(&METADATA.to_string(), 53);
        assert!(lab.machine.reaches(METADATA, 80), "the service is there");
        assert!(netns.is_kept_from(METADATA, 80));
        assert!(netns.reaches(METADATA, 53), "names are served there");
    });
}

#[test]
fn outside_cannot_reach_containers() {
    in_lab(|lab| {
        let network = create(lab, 0);
        let (netns, attachment) = container(lab, &network);
        let _listener = netns.listen("0.0.0.0", 80);
        lab.outside.shell(&format!(
            "ip route add 10.213.0.0/16 via {MACHINE}; ip route add 198.18.0.0/15 via {MACHINE}"
        ));
        shell("ip route add 10.213.0.0/16 via 198.18.0.1");
        for from in [&lab.outside, &lab.machine, &lab.neighbour] {
            assert!(from.is_kept_from(attachment.ip(), 80));
            assert!(from.is_kept_from(Ipv4Addr::new(198, 18, 0, 1), 80));
        }
        assert!(netns.reaches(attachment.ip(), 80), "the service is there");
    });
}

#[test]
fn engines_are_isolated_from_each_other() {
    in_lab(|lab| {
        let networks = [create(lab, 0), create(lab, 1)];
        let (one, _here) = container(lab, &networks[0]);
        let (two, _there) = container(lab, &networks[1]);
        let (three, third) = container(lab, &networks[1]);
        let _listeners = [two.listen("0.0.0.0", 80), three.listen("0.0.0.0", 80)];
        let _outside = lab.outside.listen("0.0.0.0", 80);
        assert!(one.reaches(SERVER, 80) && two.reaches(SERVER, 80));
        for ip in [
            third.ip(),
            Ipv4Addr::new(198, 18, 0, 2),
            Ipv4Addr::new(198, 18, 0, 3),
        ] {
            assert!(one.is_kept_from(ip, 80) && one.pings_in_vain(ip), "{ip}");
        }
        let mut networks = networks.into_iter();
        drop(networks.next());
        wait_until("the first link is gone", || !lab.state().contains("tfnz-0"));
        assert!(
            two.reaches(SERVER, 80),
            "the end of one does not harm the other"
        );
    });
}

#[test]
fn containers_without_a_packet_filter_are_isolated_all_the_more() {
    if has_run_alone(
        module_path!(),
        "containers_without_a_packet_filter_are_isolated_all_the_more",
    ) {
        return;
    }
    in_lab(|lab| {
        hide_packet_filter();
        let network = create(lab, 0);
        let (one, here) = container(lab, &network);
        let (two, there) = container(lab, &network);
        let _listeners =
            [&one, &two, &lab.machine, &lab.outside].map(|netns| netns.listen("0.0.0.0", 80));
        for address in [there.ip(), MACHINE, UPLINK, SERVER] {
            assert!(one.is_kept_from(address, 80), "{address}");
        }
        assert!(!shell("ip -o link").contains("tfnz"));
        lab.wait(here.connect(80)).expect("connect from inside");
        let refused = lab
            .wait(network.allow(here.ip(), there.ip()))
            .expect_err("it takes the filter");
        assert!(
            matches!(refused, EngineError::Unsupported(_)),
            "{refused:?}"
        );
        network::sweep(0).expect("sweep");
    });
}

/// Makes the kernel look as if it had no packet filter, to the calling thread and those that it starts.
fn hide_packet_filter() {
    let is = |argument, value| {
        let value = u64::try_from(value).expect("a positive number");
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
            .expect("a condition")
    };
    let filter_socket = SeccompRule::new(vec![
        is(0, libc::AF_NETLINK),
        is(2, libc::NETLINK_NETFILTER),
    ]);
    let error = libc::EPROTONOSUPPORT.unsigned_abs();
    let filter = SeccompFilter::new(
        [(libc::SYS_socket, vec![filter_socket.expect("a rule")])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(error),
        std::env::consts::ARCH
            .try_into()
            .expect("a known architecture"),
    );
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("apply the filter");
}
