//! TCP sockets: for connections that leave the machine, and for those that do not.
//!
//! Where all of a connection is within the machine, nothing is gained by spreading over time what it sends. BBR, the default
//! congestion control of many machines, does so with a timer for each burst, and takes half of what loopback could carry.
//! A connection has to be told before it is made: one that began with BBR keeps its timers.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// A congestion control that sends at once what may be sent. Every Linux kernel has it, and allows it to everybody.
#[cfg(target_os = "linux")]
pub(crate) const UNPACED: &str = "reno";

/// How many connections may wait to be accepted: whoever finds no room has to knock again after a second. The kernel may allow
/// fewer.
const BACKLOG: u32 = 4096;

/// What the kernel holds of what it cannot send yet, in bytes. Without a bound it is as much as a round trip carries, and whatever
/// is written after it waits for another round trip.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// Has what is written to a connection with `peer` go out at once, and little of it wait in the kernel if that is elsewhere.
///
/// # Errors
///
/// Of the kernel; not when the peer has gone already.
pub(crate) fn hurry(stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    if !peer.ip().is_loopback() {
        socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    }
    Ok(())
}

/// Connects to the first of the addresses of a `host:port` that accepts.
///
/// # Errors
///
/// Of the last address, when none does, or that of the look-up.
pub(crate) async fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failure = None;
    for address in lookup_host(address).await? {
        let connecting = async { socket_for(address)?.connect(address).await };
        match connecting.await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// Listens on an address.
///
/// # Errors
///
/// When it is taken or not allowed.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_for(address)?;
    // As others do: a server that is started again finds its address free.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A connection that is reset if it is dropped before its [end](Self::end): whoever is at its other end must not take what broke
/// off for all that was to come.
pub(crate) struct ResetOnDrop {
    stream: TcpStream,
    ended: bool,
}

impl ResetOnDrop {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let ended = false;
        Self { stream, ended }
    }

    /// The connection itself.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Both directions have ended in good order.
    pub(crate) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if !self.ended {
            // One that is gone already needs no reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

/// A socket for a connection to this address, or for listening on it.
fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    #[cfg(target_os = "linux")]
    if address.ip().is_loopback() {
        use nix::sys::socket::{setsockopt, sockopt};

        // Without it the connection is slower, and works as well.
        let _ = setsockopt(&socket, sockopt::TcpCongestion, &UNPACED.into());
    }
    Ok(socket)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use nix::sys::socket::{getsockopt, sockopt};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = listen(([127, 0, 0, 1], 0).into()).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (ours, theirs) = tokio::join!(connect(&address), listener.accept());
        (
            ours.expect("a connection"),
            theirs.expect("the other end").0,
        )
    }

    #[tokio::test]
    async fn what_breaks_off_does_not_look_complete() {
        let (ours, mut theirs) = pair().await;
        drop(ResetOnDrop::new(ours));
        let broken = theirs.read(&mut [0]).await.expect_err("it was reset");
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);

        let (ours, mut theirs) = pair().await;
        ResetOnDrop::new(ours).end();
        assert_eq!(theirs.read(&mut [0]).await.expect("an end"), 0);
    }

    fn congestion_control(socket: &impl std::os::fd::AsFd) -> String {
        let name = getsockopt(socket, sockopt::TcpCongestion).expect("it has one");
        let name = name.to_string_lossy();
        name.trim_end_matches('\0').to_owned()
    }

    #[tokio::test]
    async fn connections_within_the_machine_are_not_paced() {
        let (ours, theirs) = pair().await;
        assert_eq!(congestion_control(&ours), UNPACED);
        assert_eq!(congestion_control(&theirs), UNPACED);
    }

    #[tokio::test]
    async fn little_waits_in_the_kernel_for_a_peer_elsewhere() {
        let (ours, mut theirs) = pair().await;
        let unsent = |stream: &TcpStream| {
            let unsent = socket2::SockRef::from(stream).tcp_notsent_lowat();
            unsent.expect("it has one")
        };
        let usual = unsent(&ours);
        hurry(&ours, ([127, 0, 0, 1], 1).into()).expect("set");
        assert_eq!(unsent(&ours), usual);
        hurry(&ours, ([192, 0, 2, 1], 1).into()).expect("set");
        assert_eq!(unsent(&ours), UNSENT);
        // Whoever comes and goes is no trouble for the listener.
        drop(ResetOnDrop::new(ours));
        theirs.read(&mut [0]).await.expect_err("it was reset");
        hurry(&theirs, ([192, 0, 2, 1], 1).into()).expect("set");
    }

    #[tokio::test]
    async fn other_connections_are_as_the_administrator_wants_them() {
        let listener = listen(([0, 0, 0, 0], 0).into()).expect("a port");
        let usual = TcpSocket::new_v4().expect("a socket");
        assert_eq!(congestion_control(&listener), congestion_control(&usual));
    }
}
