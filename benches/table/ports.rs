//! Ports of this machine that nobody uses.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use anyhow::Result;

/// A port of this machine, for programs on it.
pub(crate) fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// A free port. Somebody else can take it before it is used; on a machine that measures, nobody does.
pub(crate) fn free() -> Result<u16> {
    let listener = TcpListener::bind(local(0))?;
    Ok(listener.local_addr()?.port())
}
