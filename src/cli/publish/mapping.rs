//! A local port that leads to a port of the container: `-p [ADDR:]LOCAL:REMOTE`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cli::failure::Failure;
use crate::protocol::image::{Port, Transport};

/// A local port that leads into the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Where the local port is bound.
    pub(crate) interface: Interface,
    /// Local port, 0 for any that is free.
    pub(crate) local: u16,
    /// Port in the container.
    pub(crate) remote: u16,
}

/// Addresses of this machine that a port is bound on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface {
    /// One address.
    Address(IpAddr),
    /// All of them, IPv4 and IPv6.
    All,
}

impl Interface {
    /// This machine only.
    pub(super) const LOOPBACK: Self = Self::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

    /// Whether a port can be bound only on one of the two.
    pub(super) fn overlaps(self, other: Self) -> bool {
        let Self::Address(one) = self else {
            return true;
        };
        let Self::Address(other) = other else {
            return true;
        };
        one == other
            || (one.is_ipv4() == other.is_ipv4()
                && (one.is_unspecified() || other.is_unspecified()))
    }
}

impl Mapping {
    /// Reads what follows `-p`. Without an address, it is bound on `default`.
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub(super) fn parse(text: &str, default: Interface) -> Result<Self, Failure> {
        let invalid = |reason: fmt::Arguments<'_>| {
            Failure::arguments(format!(
                "`-p {text}`: {reason}: expected [ADDR:]LOCAL:REMOTE, as in 8080:80 or 127.0.0.1:8080:80"
            ))
        };
        let Some((rest, remote)) = text.rsplit_once(':') else {
            return Err(invalid(format_args!("there is no `:` in it")).hint(format!(
                "for a free local port, use -p 0:{}",
                if text.parse::<u16>().is_ok() {
                    text
                } else {
                    "80"
                }
            )));
        };
        let port: Port = remote
            .parse()
            .map_err(|_| invalid(format_args!("`{remote}` is not a port from 1 to 65535")))?;
        if port.transport != Transport::Tcp {
            return Err(invalid(format_args!(
                "{port} cannot be published, only TCP can"
            )));
        }
        let (interface, local) = match rest.rsplit_once(':') {
            None => (default, rest),
            Some((address, local)) => {
                let address =
                    parse_address(address).map_err(|reason| invalid(format_args!("{reason}")))?;
                (Interface::Address(address), local)
            }
        };
        // `parse` would let a sign pass.
        let local = Some(local)
            .filter(|local| local.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|local| local.parse().ok())
            .ok_or_else(|| invalid(format_args!("`{local}` is not a port from 0 to 65535")))?;
        Ok(Self {
            interface,
            local,
            remote: port.number,
        })
    }
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return inner
            .parse::<Ipv6Addr>()
            .map(IpAddr::V6)
            .map_err(|_| format!("`{inner}` is not an IPv6 address"));
    }
    if text.contains(':') {
        return Err(format!(
            "`{text}` is not an IPv4 address, and an IPv6 address is put in brackets"
        ));
    }
    text.parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .map_err(|_| format!("`{text}` is not an IP address"))
}
