//! The engine's end of a container's pipe, which a lasting shim has too.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use super::client::Closing;

/// An end of a pipe. When it is dropped, the process at the other end notices: the shim closes its own, too.
pub(super) struct Stream<T> {
    pipe: T,
    /// After the pipe, so that nobody has it open any more when the shim is told.
    _closing: Option<Closing>,
}

impl Stream<pipe::Sender> {
    /// An end to write to.
    pub(super) fn sender(fd: OwnedFd, closing: Option<Closing>) -> io::Result<Self> {
        Ok(Self {
            pipe: pipe::Sender::from_owned_fd(fd)?,
            _closing: closing,
        })
    }
}

impl Stream<pipe::Receiver> {
    /// An end to read from.
    pub(super) fn receiver(fd: OwnedFd, closing: Option<Closing>) -> io::Result<Self> {
        Ok(Self {
            pipe: pipe::Receiver::from_owned_fd(fd)?,
            _closing: closing,
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}
