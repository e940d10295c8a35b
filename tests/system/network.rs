//! The network of the Linux engine, on a machine made of network namespaces.

#[path = "network/lab.rs"]
mod lab;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use tfnz::node::engine::EngineError;
use tfnz::node::engine::linux::network::{self, Attachment, Network};

use self::lab::{
    DOCKER0, Lab, MACHINE, METADATA, NEIGHBOUR, Netns, ROUTER, SERVER, eventually, passes,
    receives, shell,
};

/// The gateway of the containers, an address of the node's network namespace.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// The machine's end of the uplink of slot 0.
const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

fn create(lab: &Lab, slot: u16) -> Network {
    lab.wait(Network::create(slot)).expect("create a network")
}

/// A network namespace that stands in for a container, and its attachment.
fn container(lab: &Lab, network: &Network) -> (Netns, Attachment) {
    let netns = Netns::new();
    let attachment = lab
        .wait(network.attach(netns.fd()))
        .expect("attach a container");
    (netns, attachment)
}

#[test]
fn connect_reaches_servers_on_any_address_of_the_container() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, attachment) = container(&lab, &network);
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
}

#[test]
fn connect_prefers_localhost() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, attachment) = container(&lab, &network);
    let _other = netns.listen(&attachment.ip().to_string(), 80);
    let listener = netns.listen("127.0.0.1", 80);
    lab.wait(attachment.connect(80)).expect("connect");
    listener.set_nonblocking(true).expect("make non-blocking");
    listener.accept().expect("the connection went to localhost");
}

#[test]
fn container_has_one_address_and_only_ipv4() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, attachment) = container(&lab, &network);
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
}

#[test]
fn container_of_another_user_namespace_is_attached() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let mut owner = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sleep", "1000"])
        .spawn()
        .expect("start unshare");
    let path = format!("/proc/{}/ns/net", owner.id());
    let link = |path: &str| std::fs::read_link(path).expect("read a link");
    eventually("it has a network namespace", || {
        link(&path) != link("/proc/thread-self/ns/net")
    });
    let file = File::open(&path).expect("open the network namespace");
    let attached = lab.wait(network.attach(file.into()));
    owner.kill().expect("kill");
    owner.wait().expect("wait");
    let attachment = attached.expect("attach");
    let refused = lab
        .wait(attachment.connect(80))
        .expect_err("nothing listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn container_reaches_the_outside_and_the_answer_comes_back() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, attachment) = container(&lab, &network);

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
}

#[test]
fn packets_are_no_larger_than_the_way_out_carries() {
    let Some(lab) = Lab::build() else { return };
    shell("ip link set eth0 mtu 1400");
    let network = create(&lab, 0);
    let (netns, _attachment) = container(&lab, &network);
    assert!(netns.shell("ip link show dev eth0").contains("mtu 1400"));
}

#[test]
fn containers_cannot_reach_each_other_unless_allowed() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (one, here) = container(&lab, &network);
    let (two, there) = container(&lab, &network);
    let listener = two.listen("0.0.0.0", 80);
    let _reverse = one.listen("0.0.0.0", 80);
    let socket = two.udp(there.ip(), 5000);
    let sender = one.udp(here.ip(), 0);
    let send = || sender.send_to(b"x", (there.ip(), 5000)).expect("send");

    assert!(!one.reaches(there.ip(), 80) && !one.pings(there.ip()));
    send();
    assert!(!receives(&socket));

    lab.wait(network.allow(here.ip(), there.ip()))
        .expect("allow");
    let client = one.connect(there.ip(), 80).expect("connect");
    let (server, peer) = listener.accept().expect("accept");
    assert_eq!(peer.ip(), here.ip(), "no translation between containers");
    assert!(passes(&client, &server) && passes(&server, &client));
    send();
    assert!(receives(&socket) && one.pings(there.ip()));
    assert!(
        !two.reaches(here.ip(), 80),
        "it is open in one direction only"
    );

    lab.wait(network.disallow(here.ip(), there.ip()))
        .expect("disallow");
    assert!(!one.reaches(there.ip(), 80));
    assert!(
        !passes(&client, &server),
        "connections that exist are cut off"
    );
    send();
    assert!(!receives(&socket));
}

#[test]
fn permission_ends_with_the_container() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (_one, here) = container(&lab, &network);
    let (_two, there) = container(&lab, &network);
    let (from, to) = (here.ip(), there.ip());
    lab.wait(network.allow(from, to)).expect("allow");
    drop(there);
    // As soon as the address is free, nothing can be allowed to it, and so nothing is.
    eventually("the address is free", || {
        matches!(lab.wait(network.allow(from, to)), Err(EngineError::Ended))
    });
}

#[test]
fn spoofed_addresses_go_nowhere() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (attacker, own) = container(&lab, &network);
    let (victim, address) = container(&lab, &network);
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
        assert!(!receives(&server), "{taken}");

        // The victim has its address still, and the answers come to it.
        victims.send_to(b"x", (SERVER, 5000)).expect("send");
        let (_, from) = server.recv_from(&mut [0; 8]).expect("receive");
        server.send_to(b"x", from).expect("send");
        assert!(receives(&victims) && !receives(&spoofed), "{taken}");
        attacker.shell(&format!("ip address del {taken}/32 dev eth0"));
    }

    // Under its own name the attacker gets through: what stopped it was the address.
    let honest = attacker.udp(own.ip(), 6000);
    honest.send_to(b"x", (SERVER, 5000)).expect("send");
    assert!(receives(&server));
}

/// A next hop that no answer of ARP stands for.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(10, 213, 255, 254);

/// The link address that `netns` has found out for `ip`.
fn netns_neighbour(netns: &Netns, ip: Ipv4Addr) -> String {
    let mut found = String::new();
    eventually("the link address is known", || {
        netns.reaches(ip, 1);
        found = netns.shell(&format!(
            "ip neighbour show {ip} | sed -n 's/.*lladdr \\([^ ]*\\).*/\\1/p'"
        ));
        !found.is_empty()
    });
    found.trim().to_owned()
}

/// What a container must not reach on the machine or in the node's namespace.
fn reached(netns: &Netns, listeners: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    listeners
        .iter()
        .copied()
        .filter(|ip| netns.reaches(*ip, 80) || netns.pings(*ip))
        .collect()
}

#[test]
fn container_cannot_reach_the_machine_by_any_address() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, attachment) = container(&lab, &network);
    let _listener: TcpListener = lab.machine.listen("0.0.0.0", 80);
    let socket = lab.machine.udp(Ipv4Addr::UNSPECIFIED, 5000);
    assert!(lab.outside.reaches(MACHINE, 80), "the service is there");

    // An address that the machine did not have when the network was made.
    let late = Ipv4Addr::new(198, 51, 100, 7);
    shell(&format!(
        "ip link add late type bridge; ip address add {late}/32 dev late; ip link set late up"
    ));

    let addresses = [
        MACHINE,
        DOCKER0,
        UPLINK,
        late,
        GATEWAY,
        Ipv4Addr::new(198, 18, 0, 1),
    ];
    assert_eq!(reached(&netns, &addresses), [Ipv4Addr::UNSPECIFIED; 0]);
    let sender = netns.udp(attachment.ip(), 0);
    for ip in addresses {
        sender.send_to(b"x", (ip, 5000)).expect("send");
    }
    assert!(!receives(&socket));
}

#[test]
fn container_cannot_reach_the_machine_after_its_rules_were_flushed() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, _attachment) = container(&lab, &network);
    let _listener = lab.machine.listen("0.0.0.0", 80);
    shell("nft flush ruleset");
    assert_eq!(
        reached(&netns, &[MACHINE, DOCKER0, UPLINK]),
        [Ipv4Addr::UNSPECIFIED; 0]
    );
    let _outside = lab.outside.listen("0.0.0.0", 80);
    assert!(
        netns.reaches(SERVER, 80),
        "our rules are not flushed with the others"
    );
}

#[test]
fn container_cannot_reach_other_networks_of_the_machine() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, _attachment) = container(&lab, &network);
    let _direct = lab.neighbour.listen("0.0.0.0", 80);
    assert!(lab.machine.reaches(NEIGHBOUR, 80), "the service is there");
    assert!(!netns.reaches(NEIGHBOUR, 80));

    // A port published as Docker does it.
    shell(&format!(
        "nft add table ip nat
         nft add chain ip nat PREROUTING '{{ type nat hook prerouting priority dstnat; }}'
         nft add rule ip nat PREROUTING fib daddr type local tcp dport 8080 dnat to {NEIGHBOUR}:80"
    ));
    assert!(lab.outside.reaches(MACHINE, 8080), "the port is published");
    assert!(!netns.reaches(MACHINE, 8080));
    shell(
        "ip link add late type bridge; ip address add 198.51.100.7/32 dev late; ip link set late up",
    );
    assert!(!netns.reaches(Ipv4Addr::new(198, 51, 100, 7), 8080));
}

#[test]
fn credentials_of_the_machine_are_out_of_reach() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, _attachment) = container(&lab, &network);
    let _metadata = lab.outside.listen(&METADATA.to_string(), 80);
    let _names = lab.outside.listen(&METADATA.to_string(), 53);
    assert!(lab.machine.reaches(METADATA, 80), "the service is there");
    assert!(!netns.reaches(METADATA, 80));
    assert!(netns.reaches(METADATA, 53), "names are served there");
}

#[test]
fn outside_cannot_reach_containers() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let (netns, attachment) = container(&lab, &network);
    let _listener = netns.listen("0.0.0.0", 80);
    lab.outside.shell(&format!(
        "ip route add 10.213.0.0/16 via {MACHINE}; ip route add 198.18.0.0/15 via {MACHINE}"
    ));
    shell("ip route add 10.213.0.0/16 via 198.18.0.1");
    for from in [&lab.outside, &lab.machine, &lab.neighbour] {
        assert!(!from.reaches(attachment.ip(), 80));
        assert!(!from.reaches(Ipv4Addr::new(198, 18, 0, 1), 80));
    }
    assert!(netns.reaches(attachment.ip(), 80), "the service is there");
}

#[test]
fn engines_are_isolated_from_each_other() {
    let Some(lab) = Lab::build() else { return };
    let networks = [create(&lab, 0), create(&lab, 1)];
    let (one, _here) = container(&lab, &networks[0]);
    let (two, _there) = container(&lab, &networks[1]);
    let (three, third) = container(&lab, &networks[1]);
    let _listeners = [two.listen("0.0.0.0", 80), three.listen("0.0.0.0", 80)];
    let _outside = lab.outside.listen("0.0.0.0", 80);
    assert!(one.reaches(SERVER, 80) && two.reaches(SERVER, 80));
    for ip in [
        third.ip(),
        Ipv4Addr::new(198, 18, 0, 2),
        Ipv4Addr::new(198, 18, 0, 3),
    ] {
        assert!(!one.reaches(ip, 80) && !one.pings(ip), "{ip}");
    }
    let mut networks = networks.into_iter();
    drop(networks.next());
    eventually("the first link is gone", || !lab.state().contains("tfnz-0"));
    assert!(
        two.reaches(SERVER, 80),
        "the end of one does not harm the other"
    );
}

#[test]
fn slot_in_use_is_refused_and_nothing_changes() {
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let before = lab.state();
    let refused = lab
        .wait(Network::create(0))
        .expect_err("the slot is in use");
    assert!(matches!(refused, EngineError::InUse(_)), "{refused:?}");
    assert_eq!(lab.state(), before);
    let (netns, _attachment) = container(&lab, &network);
    let _outside = lab.outside.listen("0.0.0.0", 80);
    assert!(netns.reaches(SERVER, 80), "the first is unharmed");
}

#[test]
fn failed_create_leaves_nothing() {
    let Some(lab) = Lab::build() else { return };
    shell("ip link add tfnz-0 type bridge");
    let before = lab.state();
    let refused = lab.wait(Network::create(0)).expect_err("the name is taken");
    assert!(matches!(refused, EngineError::InUse(_)), "{refused:?}");
    assert_eq!(lab.state(), before);
    network::sweep(0).expect("sweep");
    create(&lab, 0);
}

#[test]
fn addresses_that_the_machine_uses_are_avoided() {
    let Some(lab) = Lab::build() else { return };
    shell(&format!(
        "ip route add 10.0.0.0/8 via {ROUTER}; ip route add 198.18.0.0/24 via {ROUTER}"
    ));
    let network = create(&lab, 0);
    let (netns, attachment) = container(&lab, &network);
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
        "for net in 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10; do ip route add $net dev docker0; done",
    );
    let refused = lab
        .wait(Network::create(1))
        .expect_err("all ranges are taken");
    assert!(
        matches!(&refused, EngineError::Unsupported(text) if text.contains("10.213.0.0/16")),
        "{refused:?}"
    );
}

#[test]
fn forwarding_rules_of_docker_are_passed_and_left_as_they_were() {
    let Some(lab) = Lab::build() else { return };
    let _outside = lab.outside.listen("0.0.0.0", 80);
    let docker = "nft add table ip filter
         nft add chain ip filter FORWARD '{ type filter hook forward priority filter; policy drop; }'";
    let user = "nft add chain ip filter DOCKER-USER
         nft add rule ip filter DOCKER-USER counter return
         nft insert rule ip filter FORWARD counter jump DOCKER-USER";
    for script in [docker, user] {
        shell(script);
        let before = shell("nft -s list ruleset");
        let network = create(&lab, 0);
        let (netns, _attachment) = container(&lab, &network);
        assert!(netns.reaches(SERVER, 80));
        let _direct = lab.neighbour.listen("0.0.0.0", 80);
        assert!(!netns.reaches(NEIGHBOUR, 80));
        lab.wait(network.shutdown());
        assert_eq!(shell("nft -s list ruleset"), before);
    }
}

#[test]
fn nothing_is_left_after_shutdown_or_drop() {
    let Some(lab) = Lab::build() else { return };
    let before = lab.state();
    for explicit in [true, false] {
        let network = create(&lab, 0);
        let (netns, attachment) = container(&lab, &network);
        if explicit {
            lab.wait(network.shutdown());
            let refused = lab
                .wait(network.attach(Netns::new().fd()))
                .expect_err("it has ended");
            assert!(matches!(refused, EngineError::Ended), "{refused:?}");
        }
        drop(network);
        drop(attachment);
        eventually("the machine is as before", || lab.state() == before);
        eventually("the container has no link", || {
            !netns.shell("ip -o link").contains("eth0")
        });
    }
}

/// Set for a test that is run again as a process of its own: what it then is.
const ROLE: &str = "TF_TEST_NETWORK_ROLE";

fn is_in_role() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Runs a test of this file as a process of its own, in the network namespace of the calling thread.
fn in_role(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command
        .args(["--exact", &format!("network::{test}"), "--nocapture"])
        .env(ROLE, "1");
    command
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
fn kernel_removes_the_network_of_a_killed_owner() {
    if is_in_role() {
        return own_a_network();
    }
    let Some(lab) = Lab::build() else { return };
    shell("nft add table ip filter; nft add chain ip filter DOCKER-USER");
    let before = lab.state();
    let container = Netns::new();
    let mut owner = in_role("kernel_removes_the_network_of_a_killed_owner")
        .env(CONTAINER, container.path())
        .spawn()
        .expect("start a process");
    let _outside = lab.outside.listen("0.0.0.0", 80);
    eventually("the container reaches the outside", || {
        assert!(
            owner.try_wait().expect("wait").is_none(),
            "the owner ended by itself"
        );
        container.reaches(SERVER, 80)
    });
    assert!(lab.state().contains("table inet tfnz-0"));

    owner.kill().expect("kill");
    owner.wait().expect("wait");
    assert!(!lab.state().contains("table inet tfnz-0"));
    eventually("the links are gone", || {
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
}

/// What this process has: descriptors, threads, interfaces in the node's namespace.
fn possessions() -> (usize, usize, usize) {
    let count = |path| std::fs::read_dir(path).expect("read a directory").count();
    let thread = std::fs::read_dir("/proc/self/task")
        .expect("list the threads")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "tf-netns\n")
        })
        .expect("the thread that is in the node's namespace");
    let node = Netns::open(&thread.join("ns/net"));
    let links = node.shell("ip -o link").lines().count();
    (count("/proc/self/fd"), count("/proc/self/task"), links)
}

#[test]
fn hundred_containers_leave_nothing() {
    const TEST: &str = "hundred_containers_leave_nothing";
    if !is_in_role() {
        // Other tests in this process come and go, so that the counts say something in one of its own only.
        assert!(in_role(TEST).status().expect("run this test").success());
        return;
    }
    let Some(lab) = Lab::build() else { return };
    let network = create(&lab, 0);
    let cycle = |count| {
        for _ in 0..count {
            let (netns, attachment) = container(&lab, &network);
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
    // The loopback interface and the uplink.
    eventually("the first are gone", || possessions().2 == 2);
    let before = possessions();
    cycle(100);
    eventually("the others are gone", || possessions() == before);
}

#[test]
fn containers_are_attached_at_the_same_time() {
    let Some(lab) = Lab::build() else { return };
    let network = Arc::new(create(&lab, 0));
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
}
