//! Joining two byte streams into one.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

/// Bytes that wait in each direction.
const BUFFER: usize = 64 * 1024;

/// Carries bytes both ways until both directions have ended. Each direction ends by itself, as in TCP.
///
/// # Errors
///
/// When either stream fails. Both are to be dropped then, which tells both ends that the connection broke.
pub async fn splice(
    mut a: impl AsyncRead + AsyncWrite + Unpin,
    mut b: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    copy_bidirectional_with_sizes(&mut a, &mut b, BUFFER, BUFFER)
        .await
        .map(drop)
}
