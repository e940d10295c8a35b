//! What the handles of a link, its streams and the task that drives it have in common.
//!
//! The state is behind one lock that is held for short moments and never across an `await`. Whoever changes something that
//! others wait for takes their wakers along and wakes them after the lock is released. The connection is behind another, which
//! is never waited for but by the driver.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Status;
use super::connection::Connection;
use super::error::CloseReason;
use super::state::State;
use crate::ids::SessionId;
use crate::keys::PublicKey;
use crate::protocol::handshake::Role;
use crate::protocol::mux::{Mux, Side};

/// Streams that a client and its location may each have open at once.
const CLIENT_STREAMS: usize = 1024;

/// The same for a node, whose link carries the streams of all clients.
const NODE_STREAMS: usize = 16 * 1024;

/// One link.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// The connection, while there is one. Locked before the state, where both are.
    connection: Mutex<Option<Connection>>,
    /// The application has ended the link, or dropped all of it.
    pub(super) closing: CancellationToken,
    pub(super) status: watch::Sender<Status>,
    pub(super) peer: PublicKey,
    /// What the accepting side called it.
    pub(super) session: SessionId,
    /// How long the accepting side waits for a lost connection to come back.
    pub(super) linger: Duration,
}

/// Wakers to call after the lock is released.
#[derive(Default)]
pub(super) struct Wake(Vec<Waker>);

impl Wake {
    pub(super) fn one(&mut self, waker: &mut Option<Waker>) {
        self.0.extend(waker.take());
    }

    pub(super) fn all(&mut self, wakers: &mut Vec<Waker>) {
        self.0.append(wakers);
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

/// Adds a task to those that wait, unless it is one of them.
pub(super) fn register(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

impl Shared {
    /// A link at its start, whose connecting side is a `role`.
    pub(super) fn new(
        side: Side,
        role: Role,
        peer: PublicKey,
        session: SessionId,
        linger: Duration,
    ) -> Arc<Self> {
        let streams = match role {
            Role::Client => CLIENT_STREAMS,
            Role::Node => NODE_STREAMS,
        };
        Arc::new(Self {
            state: Mutex::new(State::new(Mux::new(side, streams))),
            connection: Mutex::new(None),
            closing: CancellationToken::new(),
            status: watch::Sender::new(Status::Up),
            peer,
            session,
            linger,
        })
    }

    /// Runs `f` under the lock, then sees to it that what there is to send is sent, and wakes those that `f` found to be woken.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State, &mut Wake) -> T) -> T {
        // Declared first, and so dropped last: the lock is free when the tasks wake.
        let mut wake = Wake::default();
        let mut state = self.lock();
        let result = f(&mut state, &mut wake);
        let driver = state.driver_to_wake();
        let little = state.has_little_to_send();
        drop(state);
        if let Some(driver) = driver
            && !(little && self.send(&driver))
        {
            driver.wake();
        }
        result
    }

    /// Sends for the driver, which is at rest, and returns whether that has worked. A turn of its task less in each direction is
    /// what makes a round trip short; when there is much to send, it is the driver that sends while others make more of it.
    fn send(&self, driver: &Waker) -> bool {
        let Ok(mut connection) = self.connection.try_lock() else {
            // The driver is at it.
            return false;
        };
        // What is not sent now, the driver is woken for, as if it had tried itself.
        let mut cx = Context::from_waker(driver);
        connection
            .as_mut()
            .is_some_and(|connection| connection.send(self, &mut cx))
    }

    /// Makes a connection the one that is sent over, until what is returned is dropped.
    pub(super) fn attach(&self, connection: Connection) -> Attached<'_> {
        *self.lock_connection() = Some(connection);
        Attached(self)
    }

    fn lock_connection(&self) -> MutexGuard<'_, Option<Connection>> {
        // Whoever panics while it sends takes its link along with its task.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics half-way through a change that others rely on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the link has ended, if it has.
    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.lock().closed()
    }

    /// Ends the link. The first reason counts.
    pub(super) fn close(&self, reason: CloseReason) {
        let reason = self.with(|state, wake| {
            state.close(reason, wake);
            state.closed().unwrap_or(reason)
        });
        self.status.send_replace(Status::Closed(reason));
    }
}

/// A connection in use.
pub(super) struct Attached<'a>(&'a Shared);

impl Attached<'_> {
    /// Runs `f` on the connection, which is nobody else's meanwhile.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Connection) -> T) -> T {
        let mut connection = self.0.lock_connection();
        f(connection.as_mut().expect("it is attached"))
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let connection = self.0.lock_connection().take();
        drop(connection);
    }
}
