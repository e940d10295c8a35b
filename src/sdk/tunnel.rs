//! Ports of containers on this machine.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::error::Error;
use super::session::Shared;
use crate::ids::ContainerId;
use crate::link::splice;
use crate::protocol::messages::StreamHeader;
use crate::tcp;

/// A local port that is taken, and not yet connected to anything. Whoever connects meanwhile waits.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes a local port; port 0 is any free one.
    ///
    /// # Errors
    ///
    /// When it is taken or not allowed.
    #[expect(
        clippy::unused_async,
        reason = "it needs the runtime that it is awaited in"
    )]
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let bound = tcp::listen(address);
        let listener = bound.map_err(|source| Error::Bind { address, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Bind { address, source })?;
        Ok(Self { listener, address })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// A port of a container on a local one. Dropping it closes the local port and all connections through it.
pub struct Tunnel {
    address: SocketAddr,
    port: u16,
    _accepting: AbortOnDropHandle<()>,
}

impl Tunnel {
    pub(super) fn new(
        shared: Arc<Shared>,
        container: ContainerId,
        listener: Listener,
        port: u16,
    ) -> Self {
        let address = listener.address;
        let accepting = tokio::spawn(accept(shared, container, listener.listener, port));
        Self {
            address,
            port,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// The local address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The port in the container.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Takes connections until the task is aborted, which ends them all.
async fn accept(shared: Arc<Shared>, container: ContainerId, listener: TcpListener, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    let (shared, container) = (Arc::clone(&shared), container.clone());
                    connections.spawn(async move { carry(&shared, container, connection, port).await });
                }
                // Out of file descriptors, for example: one of those that are open will end.
                Err(error) => {
                    tracing::warn!("cannot accept a connection to port {port}: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection. If it breaks at the far end, it breaks here: a reset, rather than an end that looks orderly.
async fn carry(shared: &Shared, container: ContainerId, mut connection: TcpStream, port: u16) {
    let _ = connection.set_nodelay(true);
    let open = async {
        let link = shared.link().await?;
        link.open(&StreamHeader::Tunnel { container, port }).await
    };
    let carried = match open.await {
        Ok(stream) => splice(stream, &mut connection).await,
        Err(closed) => Err(closed.into()),
    };
    if let Err(error) = carried {
        tracing::debug!("a connection to port {port} broke: {error}");
        let _ = connection.set_zero_linger();
    }
}
