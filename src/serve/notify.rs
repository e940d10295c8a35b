//! Tells the service manager how it stands, in systemd's notification protocol: a datagram to the socket that
//! `NOTIFY_SOCKET` names. Without the variable nobody wants to know.

/// Everything is there that others rely on.
pub(crate) const READY: &str = "READY=1";

/// The end has begun.
pub(super) const STOPPING: &str = "STOPPING=1";

/// Sends the state, if somebody listens. That it cannot be sent is no reason not to serve.
#[cfg(unix)]
pub(crate) fn notify(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, state)
    {
        tracing::warn!("the service manager was not told {state}: {error}");
    }
}

#[cfg(not(unix))]
pub(crate) fn notify(_state: &str) {}

#[cfg(unix)]
fn send(to: &std::ffi::OsStr, state: &str) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    #[cfg(target_os = "linux")]
    let address = match to.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(to)?,
    };
    #[cfg(not(target_os = "linux"))]
    let address = SocketAddr::from_pathname(to)?;
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_state_arrives_as_one_datagram() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), READY).unwrap();
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], READY.as_bytes());
    }
}
