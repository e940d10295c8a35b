//! The engine's end of a container's terminal.

#![allow(unsafe_code, reason = "the size of a terminal is set by ioctl")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sys;
use crate::protocol::container::WindowSize;

/// The master of a terminal. Non-blocking.
pub(super) struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    /// Takes the master.
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        sys::watch(master).map(Self)
    }

    /// The master, once more.
    pub(super) fn master(&self) -> io::Result<OwnedFd> {
        self.0.get_ref().try_clone()
    }

    /// Sets its size, which tells the programs at it.
    pub(super) fn resize(&self, size: WindowSize) -> io::Result<()> {
        let size = libc::winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the descriptor is open, and the argument is what the request expects.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        Errno::result(result)?;
        Ok(())
    }
}

/// One direction of a terminal. Closing one leaves the other open.
pub(super) struct TerminalEnd(Arc<Terminal>);

impl TerminalEnd {
    /// An end of `terminal`.
    pub(super) fn new(terminal: Arc<Terminal>) -> Self {
        Self(terminal)
    }
}

impl AsyncRead for TerminalEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.0.poll_read_ready(context))?;
            let read = guard.try_io(|fd| {
                let read = nix::unistd::read(fd.as_raw_fd(), buffer.initialize_unfilled());
                match read {
                    // Nobody has the terminal open any more.
                    Err(Errno::EIO) => Ok(0),
                    other => other.map_err(io::Error::from),
                }
            });
            match read {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for TerminalEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.0.poll_write_ready(context))?;
            match guard.try_io(|fd| nix::unistd::write(fd, buffer).map_err(io::Error::from)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
