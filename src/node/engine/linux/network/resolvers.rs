//! Which name servers containers ask.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// Where the machine says which servers it asks.
const MACHINE: &str = "/etc/resolv.conf";

/// Where systemd-resolved says which servers it asks, when the machine asks nobody but systemd-resolved.
const SYSTEMD_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The servers that containers ask if none of the machine's can be reached from them, as with Docker.
const PUBLIC: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

/// The content of `/etc/resolv.conf` for containers. `machine` are the machine's own addresses, which they cannot reach.
pub(super) fn resolv_conf(machine: &[Ipv4Addr]) -> String {
    // A file that is missing or unreadable names no server.
    let read = |path| fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned());
    for path in [MACHINE, SYSTEMD_RESOLVED] {
        let text = read(path).unwrap_or_default();
        if has_reachable(&text, machine) {
            return for_containers(&text, machine);
        }
    }
    tracing::warn!(
        "{MACHINE} names no server that containers can reach: they use {} and {}",
        PUBLIC[0],
        PUBLIC[1]
    );
    for_containers(&read(MACHINE).unwrap_or_default(), machine)
}

/// The server that a line names.
fn server(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    (words.next() == Some("nameserver"))
        .then(|| words.next())
        .flatten()
}

/// Whether containers, which have only IPv4, can reach the server.
fn is_reachable(server: &str, machine: &[Ipv4Addr]) -> bool {
    match server.parse() {
        Ok(IpAddr::V4(address)) => {
            !address.is_loopback() && !address.is_unspecified() && !machine.contains(&address)
        }
        _ => false,
    }
}

fn has_reachable(text: &str, machine: &[Ipv4Addr]) -> bool {
    text.lines()
        .filter_map(server)
        .any(|server| is_reachable(server, machine))
}

/// The text without comments and without servers that containers cannot reach, and with public ones if that leaves none.
fn for_containers(text: &str, machine: &[Ipv4Addr]) -> String {
    let mut result = String::new();
    for line in text.lines().map(str::trim) {
        let comment = line.is_empty() || line.starts_with(['#', ';']);
        if !comment && server(line).is_none_or(|server| is_reachable(server, machine)) {
            result.push_str(line);
            result.push('\n');
        }
    }
    if !has_reachable(text, machine) {
        for address in PUBLIC {
            // Writing to a String cannot fail.
            let _ = writeln!(result, "nameserver {address}");
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_reachable_servers_and_options() {
        let text = "# by hand\nsearch example.org\nnameserver 127.0.0.1\nnameserver 10.1.1.1\nnameserver fd00::1\n\
                    nameserver 10.1.1.2 ; second\noptions ndots:2\n";
        assert_eq!(
            for_containers(text, &[Ipv4Addr::new(10, 1, 1, 2)]),
            "search example.org\nnameserver 10.1.1.1\noptions ndots:2\n"
        );
    }

    #[test]
    fn public_servers_where_none_can_be_reached() {
        for text in [
            "",
            "nameserver 127.0.0.53\n",
            "nameserver ::1\n",
            "nameserver\n",
            "nameserver x\n",
        ] {
            assert!(!has_reachable(text, &[]), "{text}");
            assert_eq!(
                for_containers(text, &[]).matches("nameserver 8.8.").count(),
                2,
                "{text}"
            );
        }
    }
}
