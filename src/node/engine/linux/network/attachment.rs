//! A container's connection to the network, and TCP connections from inside the container.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::AddressFamily;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::namespace::Entrance;
use super::node::Lease;

/// How long a connection inside a container may take. There is no distance: it waits only when the server's queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A container's connection to the network. Dropping it frees its address.
#[derive(Debug)]
pub struct Attachment {
    lease: Lease,
    netns: Arc<OwnedFd>,
    entrance: Entrance,
}

impl Attachment {
    /// What [`super::Network::attach`] returns when it has set up the interface.
    pub(super) fn new(lease: Lease, netns: Arc<OwnedFd>, entrance: Entrance) -> Self {
        Self {
            lease,
            netns,
            entrance,
        }
    }

    /// Its address and interface.
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The container's network namespace.
    pub(super) fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// The container's address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.lease.address
    }

    /// The number of its interface.
    #[must_use]
    pub fn interface(&self) -> u32 {
        self.lease.index
    }

    /// Connects to a TCP port from inside the container: to 127.0.0.1 first, then to its own address, then to `::1`.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` when nothing listens on any of them, `TimedOut` when what listens does not accept.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        match timeout(CONNECT_TIMEOUT, self.connect_to_any(port)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn connect_to_any(&self, port: u16) -> io::Result<TcpStream> {
        for ip in [Ipv4Addr::LOCALHOST, self.ip()] {
            let socket = self.entrance.tcp(&self.netns, AddressFamily::Inet).await?;
            match socket.connect(SocketAddr::new(IpAddr::V4(ip), port)).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                other => return other,
            }
        }
        let last = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        match self.entrance.tcp(&self.netns, AddressFamily::Inet6).await {
            Ok(socket) => socket.connect(last).await,
            Err(error) => Err(error),
        }
        // A kernel without IPv6 has nothing that listens there.
        .map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }
}
