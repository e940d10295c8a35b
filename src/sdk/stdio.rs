//! Standard streams of processes, which go on where they were when their container was out of reach for a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;

use super::session::Shared;
use crate::link::{ByteStream, Closed, Status};
use crate::protocol::container::Exit;
use crate::protocol::messages::StreamHeader;

/// How long a stream that broke waits for its container to be back in reach: one that runs, and one that has ended.
const PATIENCE: Duration = Duration::from_mins(3);
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// What a process writes. Read it to its end.
pub struct ProcessOutput(Line);

/// What a process reads. Shut it down to let the process read the end.
pub struct ProcessInput {
    line: Line,
    /// Waits for the connection to come back.
    waiting: Option<BoxFuture<'static, ()>>,
}

/// A stream, and how it is opened again.
struct Line {
    socket: Arc<Socket>,
    state: State,
}

/// Where a stream of a process is to be had.
pub(super) struct Socket {
    shared: Arc<Shared>,
    header: StreamHeader,
    exit: watch::Receiver<Option<Exit>>,
    /// Counts how often the container was out of reach and is back.
    returns: watch::Receiver<u64>,
}

enum State {
    Open {
        stream: ByteStream,
        /// The count when it was opened.
        at: u64,
    },
    Opening(BoxFuture<'static, io::Result<(ByteStream, u64)>>),
}

impl Socket {
    pub(super) fn new(
        shared: Arc<Shared>,
        header: StreamHeader,
        exit: watch::Receiver<Option<Exit>>,
        returns: watch::Receiver<u64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            header,
            exit,
            returns,
        })
    }

    async fn open(&self) -> Result<(ByteStream, u64), Closed> {
        let at = *self.returns.borrow();
        let link = self.shared.link().await?;
        Ok((link.open(&self.header).await?, at))
    }

    /// Opens it again after the container has come back. What was on its way when it went is lost.
    async fn reopen(&self, broken_at: u64) -> io::Result<(ByteStream, u64)> {
        let mut returns = self.returns.clone();
        let mut exit = self.exit.clone();
        let back = async {
            tokio::select! {
                // An error is the container having been destroyed.
                back = returns.wait_for(|count| *count > broken_at) => back.is_ok(),
                _ = exit.wait_for(|exit| matches!(exit, Some(Exit::Lost(_)))) => false,
                _ = self.shared.ended() => false,
            }
        };
        let ended = self.exit.borrow().is_some();
        let patience = if ended { LAST_PATIENCE } else { PATIENCE };
        match timeout(patience, back).await {
            Ok(true) => Ok(self.open().await?),
            _ => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl Line {
    async fn open(socket: Arc<Socket>) -> Result<Self, Closed> {
        let (stream, at) = socket.open().await?;
        Ok(Self {
            socket,
            state: State::Open { stream, at },
        })
    }

    /// Does something with the stream, again and again until it has not broken.
    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut act: impl FnMut(Pin<&mut ByteStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            match &mut self.state {
                State::Open { stream, at } => match ready!(act(Pin::new(stream), cx)) {
                    Ok(done) => return Poll::Ready(Ok(done)),
                    Err(_broken) => {
                        let (socket, at) = (Arc::clone(&self.socket), *at);
                        let opening = async move { socket.reopen(at).await };
                        self.state = State::Opening(opening.boxed());
                    }
                },
                State::Opening(opening) => {
                    let (stream, at) = ready!(opening.as_mut().poll(cx))?;
                    self.state = State::Open { stream, at };
                }
            }
        }
    }
}

impl ProcessOutput {
    pub(super) async fn open(socket: Arc<Socket>) -> Result<Self, Closed> {
        Line::open(socket).await.map(Self)
    }
}

impl ProcessInput {
    pub(super) async fn open(socket: Arc<Socket>) -> Result<Self, Closed> {
        Ok(Self {
            line: Line::open(socket).await?,
            waiting: None,
        })
    }

    /// Waits while there is no connection: what is written then is lost if the location was started anew.
    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            let mut status = self.line.socket.shared.status();
            if !matches!(*status.borrow(), Status::Down { .. }) {
                return Poll::Ready(());
            }
            let waiting = async move {
                let up = |status: &Status| !matches!(status, Status::Down { .. });
                // An error is the end of the session, which the stream notices.
                let _ = status.wait_for(up).await;
            };
            self.waiting = Some(waiting.boxed());
        }
    }
}

impl AsyncRead for ProcessOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_with(cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for ProcessInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_connected(cx));
        self.line
            .poll_with(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.poll_with(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.poll_with(cx, AsyncWrite::poll_shutdown)
    }
}
