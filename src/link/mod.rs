//! The client protocol over real connections: encryption, multiplexing, and going on after a lost connection.
//!
//! A link carries calls, notices and byte streams between two sides that know each other's keys. It does not know what any
//! message means.
//!
//! ```text
//!   Link, Incoming, ByteStream     handles of the application
//!            │
//!         shared                   streams, messages and what may have to be sent again, behind one lock
//!            │
//!         driver                   one task for each link: connects again, or waits for the peer to do so
//!            │
//!       connection                 one connection: records in, records out; encrypted unless it is in memory
//!            │
//!        transport                 TCP or memory
//! ```

mod accept;
mod answer;
mod call;
pub mod chunks;
mod connect;
mod connection;
mod driver;
mod error;
mod lasting;
mod listeners;
#[cfg(unix)]
mod local;
mod mailbox;
mod memory;
mod noise;
mod reconnect;
mod shared;
mod splice;
mod state;
mod stream;
mod transport;
mod value;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;

use self::mailbox::Arrival;
use self::shared::Shared;
use crate::ids::SessionId;
use crate::keys::PublicKey;
use crate::protocol::control::{FAULT, MAX_BODY, Message, NO_ID, from_cbor, to_cbor};
use crate::protocol::frame::MAX_STREAM_HEADER;
use crate::protocol::messages::{Call, Notice};

pub use accept::{AcceptOptions, Accepted, Acceptor, Applicant, Session};
pub use answer::answer;
pub use call::{Malformed, PendingCall, PendingNotice, Reply};
pub use connect::{ConnectOptions, connect};
pub use error::{CallError, CloseReason, Closed, ConnectError, HandshakeError};
pub use lasting::{Budget, Receiving, Resume, Sending};
pub use listeners::Listeners;
#[cfg(unix)]
pub use local::{LocalDial, LocalListener};
pub use memory::{MemoryDial, MemoryListener, Private, memory};
pub use splice::{relay, splice};
pub use stream::{ByteStream, OpenedStream};
pub use transport::{Dial, Listen, TcpDial, Transport};
pub use value::{read_value, write_value};

/// How this program introduces itself: its name and version.
pub const AGENT: &str = concat!("tfnz/", env!("CARGO_PKG_VERSION"));

/// How long a handshake may take, from the first byte to the last.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a link whose connection is lost waits for it to come back, unless something else is agreed.
pub const LINGER: Duration = Duration::from_mins(2);

/// A handle of a living link; clones are handles of the same one.
///
/// The link ends when [`Link::close`] is called, or when all handles, its [`Incoming`] and all its streams are dropped.
#[derive(Debug, Clone)]
pub struct Link {
    owner: Arc<Owner>,
}

/// What the application holds of a link. The link is closed when the last of it goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Connected.
    Up,
    /// The connection is lost, and being made again.
    Down {
        /// Since when.
        since: Instant,
    },
    /// It has ended.
    Closed(CloseReason),
}

impl Link {
    fn new(shared: Arc<Shared>) -> (Self, Incoming) {
        let owner = Arc::new(Owner { shared });
        let incoming = Incoming {
            owner: Arc::clone(&owner),
        };
        (Self { owner }, incoming)
    }

    /// Asks the peer and waits for its answer. A caller that does not want to wait any longer drops the future.
    ///
    /// # Errors
    ///
    /// When the peer answers with a fault, or the link ends.
    pub async fn call<C: Call>(&self, call: &C) -> Result<C::Reply, CallError> {
        let answer = self.request(C::KIND, to_cbor(call)).await?;
        if answer.kind == FAULT {
            let fault = from_cbor(&answer.body).map_err(CallError::Malformed)?;
            return Err(CallError::Fault(fault));
        }
        from_cbor(&answer.body).map_err(CallError::Malformed)
    }

    /// Tells the peer something. Returns when it is on its way, which says nothing about its arrival.
    ///
    /// # Errors
    ///
    /// When the link has ended.
    pub async fn notify<N: Notice>(&self, notice: &N) -> Result<(), Closed> {
        self.tell(N::KIND, to_cbor(notice)).await
    }

    /// Opens a byte stream; the header tells the peer what the bytes are. Waits while very many are open.
    ///
    /// # Errors
    ///
    /// When the link has ended.
    ///
    /// # Panics
    ///
    /// When the header takes more than 32 KiB in CBOR.
    pub async fn open<H: Serialize + ?Sized>(&self, header: &H) -> Result<ByteStream, Closed> {
        self.open_raw(to_cbor(header)).await
    }

    async fn open_raw(&self, header: Bytes) -> Result<ByteStream, Closed> {
        assert!(header.len() <= MAX_STREAM_HEADER, "the header is short");
        let shared = &self.owner.shared;
        let opened = poll_fn(|cx| shared.with(|state, _| state.poll_open(&header, cx))).await;
        opened.map(|stream| ByteStream::new(Arc::clone(&self.owner), stream))
    }

    /// Sends a call that is encoded already.
    async fn request(&self, kind: u16, body: Bytes) -> Result<Message, CallError> {
        if body.len() > MAX_BODY {
            return Err(CallError::TooLong(body.len()));
        }
        let shared = &self.owner.shared;
        poll_fn(|cx| shared.with(|state, _| state.poll_outbox(cx))).await?;
        let (call, answer) = shared.with(|state, wake| state.call(kind, body, wake));
        let _forget = Forget { shared, call };
        match answer.await {
            Ok(message) => Ok(message),
            Err(_) => Err(Closed(self.closed().await).into()),
        }
    }

    /// Sends a notice that is encoded already.
    async fn tell(&self, kind: u16, body: Bytes) -> Result<(), Closed> {
        let shared = &self.owner.shared;
        poll_fn(|cx| shared.with(|state, _| state.poll_outbox(cx))).await?;
        let id = NO_ID;
        shared.with(|state, wake| state.send(&Message { kind, id, body }, wake));
        Ok(())
    }

    /// Whether both are handles of the same link.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// Key of the peer.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        self.owner.shared.peer
    }

    /// How long the accepting side keeps the link when its connection is lost: what the two have agreed on. With none, the
    /// link ends with its connection.
    #[must_use]
    pub fn linger(&self) -> Duration {
        self.owner.shared.linger
    }

    /// What the location calls the link, as both sides know it. Nobody else can have been told.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.owner.shared.session
    }

    /// How the link is, now and from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.owner.shared.status.subscribe()
    }

    /// Ends the link on purpose. What was sent before arrives, if the connection is up and the peer takes it within five
    /// seconds; the peer's link ends with [`CloseReason::Clean`]. If the connection is lost, it is made again for that if it
    /// can be within moments; otherwise the peer waits for it in vain.
    pub async fn close(&self) {
        self.owner.shared.closing.cancel();
        self.closed().await;
    }

    /// Why the link has ended, if it has. Whoever was told of the end by a call or a stream finds it here; [`Link::status`]
    /// may say so a moment later.
    #[must_use]
    pub fn ended(&self) -> Option<CloseReason> {
        self.owner.shared.closed()
    }

    /// Waits until the link has ended.
    pub async fn closed(&self) -> CloseReason {
        let mut status = self.status();
        let closed = status.wait_for(|status| matches!(status, Status::Closed(_)));
        match closed.await.as_deref() {
            Ok(Status::Closed(reason)) => *reason,
            _ => unreachable!("the sender lives as long as the link, and the value was waited for"),
        }
    }
}

/// Gives up the wait for an answer.
struct Forget<'a> {
    shared: &'a Shared,
    call: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.with(|state, _| state.forget(self.call));
    }
}

/// What the peer asks for, in the order in which it asked. Dropping it refuses all that comes later.
///
/// It should be read at all times: when much waits here, replies to this side's own calls wait behind it.
#[derive(Debug)]
pub struct Incoming {
    owner: Arc<Owner>,
}

/// One thing that the peer asks for.
#[derive(Debug)]
pub enum Inbound {
    /// To be answered.
    Call(PendingCall),
    /// Not to be answered.
    Notice(PendingNotice),
    /// The peer has opened a stream.
    Stream(OpenedStream),
}

impl Incoming {
    /// Waits for the next; none when the link has ended, for a reason that [`Link::closed`] tells.
    pub async fn next(&mut self) -> Option<Inbound> {
        let shared = &self.owner.shared;
        let arrival = poll_fn(|cx| shared.with(|state, wake| state.poll_arrival(cx, wake))).await?;
        Some(match arrival {
            Arrival::Message(message) if message.id == NO_ID => {
                Inbound::Notice(PendingNotice::new(message))
            }
            Arrival::Message(message) => {
                Inbound::Call(PendingCall::new(Arc::clone(shared), message))
            }
            Arrival::Stream(stream, header) => {
                let stream = ByteStream::new(Arc::clone(&self.owner), stream);
                Inbound::Stream(OpenedStream::new(header, stream))
            }
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.owner.shared.with(state::State::stop_taking);
    }
}
