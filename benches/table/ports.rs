//! Ports of this machine that nobody uses.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;

/// A free port. Somebody else can take it before it is used; on a machine that measures, nobody does.
pub(crate) fn free() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
