//! Standard streams of processes, which go on where they were when their container was out of reach for a while.
//!
//! ```text
//! ProcessInput ── pipe ──▶ a task of the session ── a stream, and the next one where that broke ──▶ node
//! ProcessOutput ◀─────────────────────────────── a stream, and the next one where that broke ──── node
//! ```
//!
//! What is written is sent, and sent again, by a task: whoever has written it, or its end, may not look at it again.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::watch;
use tokio::time::timeout;

use super::session::Shared;
use crate::ids::{ContainerId, ProcessId};
use crate::link::{Budget, ByteStream, CloseReason, Closed, Receiving, Resume, Sending, Status};
use crate::protocol::container::{Exit, StdioStream};
use crate::protocol::messages::StreamHeader;

/// How long a stream that broke waits for its container to be back in reach: one that runs, and one that has ended.
const PATIENCE: Duration = Duration::from_mins(3);
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// What can be written before the task has taken it, in bytes.
const PIPE: usize = 64 * 1024;

/// What a process writes. Read it to its end.
pub struct ProcessOutput {
    socket: Arc<Socket>,
    state: State,
    receiving: Receiving,
    ended: bool,
    /// Keeps the session.
    _shared: Arc<Shared>,
}

/// What a process reads. Shut it down to let the process read the end.
pub struct ProcessInput {
    pipe: DuplexStream,
    /// Keeps the session.
    _shared: Arc<Shared>,
}

/// Where a stream of a process is to be had.
pub(super) struct Socket {
    shared: Weak<Shared>,
    pub(super) container: ContainerId,
    pub(super) process: Option<ProcessId>,
    pub(super) stream: StdioStream,
    /// The node counts what it receives, and goes on from there.
    pub(super) resumable: bool,
    exit: watch::Receiver<Option<Exit>>,
    /// Counts how often the container was out of reach and is back.
    returns: watch::Receiver<u64>,
    status: watch::Receiver<Status>,
}

/// A stream, and the count of returns when it was opened.
type Opened = (ByteStream, u64);

enum State {
    Open(Opened),
    Opening(BoxFuture<'static, io::Result<Opened>>),
}

impl Socket {
    pub(super) fn new(
        shared: &Arc<Shared>,
        container: ContainerId,
        process: Option<ProcessId>,
        stream: StdioStream,
        resumable: bool,
        exit: watch::Receiver<Option<Exit>>,
    ) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            returns: shared.returns(&container),
            status: shared.status(),
            container,
            process,
            stream,
            resumable,
            exit,
        }
    }

    async fn open(&self, position: u64) -> Result<Opened, Closed> {
        let at = *self.returns.borrow();
        let shared = self.shared.upgrade().ok_or(Closed(CloseReason::Clean))?;
        let header = StreamHeader::Stdio {
            container: self.container.clone(),
            process: self.process.clone(),
            stream: self.stream,
            position: self.resumable.then_some(position),
        };
        Ok((shared.link().await?.open(&header).await?, at))
    }

    /// Opens it again after the container has come back.
    async fn reopen(&self, mut broken_at: u64, position: u64) -> io::Result<Opened> {
        let (mut returns, mut status) = (self.returns.clone(), self.status.clone());
        let mut exit = self.exit.clone();
        loop {
            let back = async {
                tokio::select! {
                    // An error is the container having been destroyed, or nobody being left who is in the session.
                    back = returns.wait_for(|count| *count > broken_at) => back.ok().map(|count| *count),
                    _ = exit.wait_for(|exit| matches!(exit, Some(Exit::Lost(_)))) => None,
                    _ = status.wait_for(|status| matches!(status, Status::Closed(_))) => None,
                }
            };
            let ended = self.exit.borrow().is_some();
            let patience = if ended { LAST_PATIENCE } else { PATIENCE };
            let Ok(Some(back)) = timeout(patience, back).await else {
                return Err(io::ErrorKind::ConnectionReset.into());
            };
            match self.open(position).await {
                Ok(opened) => return Ok(opened),
                // It has gone once more, and may come back.
                Err(_) => broken_at = back,
            }
        }
    }
}

impl ProcessOutput {
    pub(super) async fn open(shared: Arc<Shared>, socket: Socket) -> Result<Self, Closed> {
        let mut output = Self {
            state: State::Open(socket.open(0).await?),
            socket: Arc::new(socket),
            receiving: Receiving::new(),
            ended: false,
            _shared: shared,
        };
        output.begin();
        Ok(output)
    }

    fn begin(&mut self) {
        let position = self.receiving.position();
        self.receiving
            .begin(self.socket.resumable.then_some(position));
    }

    /// Reads what there is on this stream, until that breaks.
    fn poll_stream(
        receiving: &mut Receiving,
        ended: &mut bool,
        stream: &mut ByteStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !*ended {
            let before = buf.filled().len();
            if Pin::new(&mut *stream).poll_read(cx, buf)?.is_pending() {
                // What cannot be said now is said with the next.
                let _ = receiving.poll_tell_idle(stream, cx)?;
                return Poll::Pending;
            }
            let length = buf.filled().len() - before;
            if length > 0 {
                receiving.add(length);
                // If that breaks it, the next bytes tell.
                let _ = receiving.poll_tell(stream, cx);
                return Poll::Ready(Ok(()));
            }
            *ended = true;
        }
        // All is there, whether or not the node hears of it.
        let _ = ready!(receiving.poll_finish(stream, cx));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ProcessOutput {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Open((stream, at)) => {
                    let (receiving, ended) = (&mut this.receiving, &mut this.ended);
                    match ready!(Self::poll_stream(receiving, ended, stream, cx, buf)) {
                        Ok(()) => return Poll::Ready(Ok(())),
                        Err(_broken) => {
                            let (socket, at) = (Arc::clone(&this.socket), *at);
                            let position = receiving.position();
                            let opening = async move { socket.reopen(at, position).await };
                            this.state = State::Opening(opening.boxed());
                        }
                    }
                }
                State::Opening(opening) => {
                    this.state = State::Open(ready!(opening.as_mut().poll(cx))?);
                    this.begin();
                }
            }
        }
    }
}

impl ProcessInput {
    pub(super) async fn open(shared: Arc<Shared>, socket: Socket) -> Result<Self, Closed> {
        let opened = socket.open(0).await?;
        let (pipe, source) = duplex(PIPE);
        let budget = shared.budget.clone();
        shared.spawn(async move {
            if let Err(error) = feed(&socket, opened, source, &budget).await {
                tracing::debug!("a standard input has ended early: {error}");
            }
        });
        Ok(Self {
            pipe,
            _shared: shared,
        })
    }
}

/// Gives a process what comes out of the pipe, until it has its end.
async fn feed(
    socket: &Socket,
    opened: Opened,
    source: DuplexStream,
    budget: &Budget,
) -> io::Result<()> {
    let (mut stream, mut at) = opened;
    let mut sending = Sending::new();
    let mut source = Gate {
        source,
        status: socket.status.clone(),
        waiting: None,
    };
    loop {
        sending.begin(if socket.resumable {
            Resume::AsTold
        } else {
            Resume::Uncounted
        })?;
        let sent = poll_fn(|cx| sending.poll(&mut source, &mut stream, budget, cx)).await;
        match sent {
            Ok(()) => return Ok(()),
            // Not a matter of the link.
            Err(error) if error.kind() == io::ErrorKind::Other => return Err(error),
            Err(_broken) => {
                (stream, at) = socket.reopen(at, sending.position()).await?;
            }
        }
    }
}

/// Gives what is written while there is a connection: what is sent while there is none is lost if the node was killed, too, and
/// cannot tell how much has arrived there.
struct Gate {
    source: DuplexStream,
    status: watch::Receiver<Status>,
    /// Waits for the connection to come back.
    waiting: Option<BoxFuture<'static, ()>>,
}

impl AsyncRead for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(waiting) = &mut this.waiting {
                ready!(waiting.as_mut().poll(cx));
                this.waiting = None;
            }
            let up = |status: &Status| !matches!(status, Status::Down { .. });
            if up(&this.status.borrow()) {
                return Pin::new(&mut this.source).poll_read(cx, buf);
            }
            let mut status = this.status.clone();
            let waiting = async move {
                // An error is the end of the session, which the stream notices.
                let _ = status.wait_for(up).await;
            };
            this.waiting = Some(waiting.boxed());
        }
    }
}

impl AsyncWrite for ProcessInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
