//! Takes local ports, before there is anything to connect them to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::cli::failure::Failure;
use crate::cli::publish::{Interface, Mapping, address};
use crate::sdk::{Error, Listener};

/// A local port that is taken.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Takes connections.
    pub(crate) listener: Listener,
    /// What it was taken for; `local` is the port that it has.
    pub(crate) mapping: Mapping,
}

impl Bound {
    /// What a person types to get there.
    pub(crate) fn address(&self) -> String {
        let Mapping {
            interface,
            local,
            remote,
        } = self.mapping;
        address(interface, local, remote)
    }
}

/// Takes all local ports, or none.
///
/// # Errors
///
/// When one is in use or not allowed.
pub(crate) async fn bind(mappings: &[Mapping]) -> Result<Vec<Bound>, Failure> {
    let mut bound = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        let listener = listen(*mapping)
            .await
            .map_err(|error| explain(error, *mapping))?;
        let mapping = Mapping {
            local: listener.local_addr().port(),
            ..*mapping
        };
        bound.push(Bound { listener, mapping });
    }
    Ok(bound)
}

async fn listen(mapping: Mapping) -> Result<Listener, Error> {
    let at = |ip: IpAddr| SocketAddr::new(ip, mapping.local);
    match mapping.interface {
        Interface::Address(ip) => Listener::bind(at(ip)).await,
        // The IPv6 wildcard takes IPv4 as well, if the machine has IPv6 at all.
        Interface::All => match Listener::bind(at(Ipv6Addr::UNSPECIFIED.into())).await {
            Err(Error::Bind { source, .. }) if lacks_ipv6(&source) => {
                Listener::bind(at(Ipv4Addr::UNSPECIFIED.into())).await
            }
            result => result,
        },
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    // No such family: IPv6 is not compiled in. No such address: it is switched off.
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EAFNOSUPPORT) {
        return true;
    }
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    )
}

fn explain(error: Error, mapping: Mapping) -> Failure {
    let Error::Bind { address, source } = &error else {
        return error.into();
    };
    let Mapping { local, remote, .. } = mapping;
    let way_out = format!("--offset N moves all ports, -p LOCAL:{remote} this one");
    match source.kind() {
        io::ErrorKind::AddrInUse => Failure::operation(format!(
            "local port {local} is in use, so port {remote} of the container cannot appear there"
        ))
        .hint(way_out),
        io::ErrorKind::PermissionDenied => Failure::operation(format!(
            "this user may not use local port {local}, which is meant for port {remote} of the container"
        ))
        .hint(format!(
            "ports from 1024 on are free for all: {way_out}, as in --offset 8000"
        )),
        io::ErrorKind::AddrNotAvailable => Failure::operation(format!(
            "{} is not an address of this machine: expected one of its own in -p",
            address.ip()
        )),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(interface: Interface, local: u16) -> Mapping {
        Mapping {
            interface,
            local,
            remote: 80,
        }
    }

    fn loopback() -> Interface {
        Interface::Address(Ipv4Addr::LOCALHOST.into())
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused_with_a_way_out() {
        let first = bind(&[mapping(loopback(), 0)]).await.expect("a free port");
        let taken = first[0].mapping.local;
        assert_ne!(taken, 0);
        for interface in [loopback(), Interface::All] {
            let failure = bind(&[mapping(interface, taken)]).await.expect_err("taken");
            let text = failure.to_string();
            assert!(text.contains(&format!("port {taken} is in use")), "{text}");
            assert!(text.contains("hint: --offset"), "{text}");
        }
        drop(first);
        assert!(bind(&[mapping(loopback(), taken)]).await.is_ok());
    }

    #[tokio::test]
    async fn public_ports_take_ipv4() {
        let bound = bind(&[mapping(Interface::All, 0)])
            .await
            .expect("a free port");
        let address = (Ipv4Addr::LOCALHOST, bound[0].mapping.local);
        assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    }

    #[tokio::test]
    async fn addresses_of_other_machines_are_refused() {
        // Reserved for documentation, so it is nobody's.
        let other = Interface::Address(Ipv4Addr::new(192, 0, 2, 1).into());
        let failure = bind(&[mapping(other, 0)]).await.expect_err("not ours");
        assert!(
            failure
                .to_string()
                .contains("not an address of this machine")
        );
    }
}
