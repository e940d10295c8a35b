//! How a local port is shown.

use std::net::{IpAddr, Ipv4Addr};

use super::Interface;

/// What a person types to reach a container's port: a URL where the port is one that web servers use, else host and port.
pub(crate) fn address(interface: Interface, local: u16, remote: u16) -> String {
    let host = match interface {
        Interface::All => "localhost".to_owned(),
        Interface::Address(ip) if ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST => {
            "localhost".to_owned()
        }
        Interface::Address(IpAddr::V4(ip)) => ip.to_string(),
        Interface::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
    };
    match scheme(remote) {
        Some(scheme) => format!("{scheme}://{host}:{local}"),
        None => format!("{host}:{local}"),
    }
}

/// The scheme of URLs for what usually listens on a port; none for well-known services that are no web servers.
fn scheme(port: u16) -> Option<&'static str> {
    match port {
        443 | 8443 => Some("https"),
        // ftp, ssh, telnet, smtp, dns, pop, imap, ldap, their TLS forms, and the common databases and queues.
        20..=23
        | 25
        | 53
        | 110
        | 143
        | 389
        | 465
        | 587
        | 636
        | 993
        | 995
        | 1433
        | 1521
        | 1883
        | 3306
        | 4222
        | 5432
        | 5672
        | 6379
        | 8883
        | 9042
        | 9092
        | 11211
        | 27017 => None,
        _ => Some("http"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_one_would_type_them() {
        let v6 = Interface::Address("::1".parse().expect("an address"));
        let v4 = Interface::Address("10.0.0.1".parse().expect("an address"));
        assert_eq!(
            address(Interface::LOOPBACK, 8080, 80),
            "http://localhost:8080"
        );
        assert_eq!(address(Interface::All, 8443, 443), "https://localhost:8443");
        assert_eq!(address(Interface::LOOPBACK, 5432, 5432), "localhost:5432");
        assert_eq!(address(v6, 8080, 80), "http://[::1]:8080");
        assert_eq!(address(v4, 8080, 80), "http://10.0.0.1:8080");
    }
}
