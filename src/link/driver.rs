//! The task behind each link: moves its records over one connection after the other.
//!
//! ```text
//!            ┌──────────── replaced ───────────┐
//!            ▼                                 │
//!   ──▶ connected ── lost ──▶ down ── made again (connecting side), or came back (accepting side)
//!            │                  │
//!            └── closed ────────┴── expired, refused ──▶ the link has ended
//! ```
//!
//! The task ends with the link, which ends at the latest when everything that the application holds of it is dropped.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout, timeout_at};

use super::Status;
use super::connection::{Connection, Ended};
use super::error::CloseReason;
use super::noise::Sealed;
use super::reconnect::Reconnect;
use super::shared::Shared;
use crate::protocol::handshake::{Answer, Refusal};

/// Between two looks at whether the peer is still there. A peer that was not heard in between is asked.
const TICK: Duration = Duration::from_millis(2500);

/// After so many ticks without a sign of the peer the connection counts as lost.
const DEAD_AFTER: u32 = 4;

/// For how long the end of a link waits for what is still to be sent.
const CLOSING: Duration = Duration::from_secs(5);

/// For how long the end of a link waits for the peer to end the connection too.
const ENDING: Duration = Duration::from_secs(2);

/// A new connection for a session, with the peer's key and ticket verified.
pub(super) struct Resumption {
    pub(super) sealed: Sealed,
    /// DATA records that have arrived at the peer.
    pub(super) received: u64,
}

/// What becomes of a connection.
enum Outcome {
    Lost,
    Closed(CloseReason),
    Replaced(Resumption),
}

/// Drives the connecting side until the link has ended.
pub(super) async fn drive_connecting(
    shared: Arc<Shared>,
    sealed: Sealed,
    mut reconnect: Reconnect,
) {
    let mut connection = Connection::new(sealed);
    let reason = loop {
        match run(connection, &shared, None).await {
            Outcome::Closed(reason) => break reason,
            Outcome::Lost | Outcome::Replaced(_) => {}
        }
        down(&shared);
        let again = tokio::select! {
            again = reconnect.again(&shared) => again,
            () = shared.closing.cancelled() => reconnect.for_goodbye(&shared).await,
        };
        connection = match again {
            Ok(sealed) => Connection::new(sealed),
            Err(reason) => break reason,
        };
        up(&shared);
    };
    shared.close(reason);
}

/// Drives the accepting side until the link has ended.
pub(super) async fn drive_accepting(
    shared: Arc<Shared>,
    sealed: Sealed,
    answer: Answer,
    mut resumptions: mpsc::Receiver<Resumption>,
    linger: Duration,
) {
    let mut connection = Connection::with_answer(sealed, Some(&answer));
    let reason = 'link: loop {
        let mut resumption = match run(connection, &shared, Some(&mut resumptions)).await {
            Outcome::Closed(reason) => break reason,
            // Not even somebody who comes back at once, whom the wait below would let in.
            Outcome::Lost | Outcome::Replaced(_) if linger.is_zero() => break CloseReason::Expired,
            Outcome::Lost => None,
            Outcome::Replaced(resumption) => Some(resumption),
        };
        down(&shared);
        let expiry = Instant::now() + linger;
        connection = loop {
            let next = if let Some(resumption) = resumption.take() {
                resumption
            } else {
                tokio::select! {
                    Some(resumption) = resumptions.recv() => resumption,
                    () = shared.closing.cancelled() => break 'link CloseReason::Clean,
                    () = sleep_until(expiry) => break 'link CloseReason::Expired,
                }
            };
            if let Some(connection) = resume(&shared, next).await {
                break connection;
            }
        };
        up(&shared);
    };
    shared.close(reason);
}

/// Takes a session up again on a new connection, if what the peer has fits what was sent.
async fn resume(shared: &Shared, mut next: Resumption) -> Option<Connection> {
    let resumed = shared.with(|state, wake| {
        let received = state.received();
        state.resume(next.received, wake).map(|()| received)
    });
    if let Ok(received) = resumed {
        let answer = Answer::Resumed { received };
        return Some(Connection::with_answer(next.sealed, Some(&answer)));
    }
    let refused = Answer::Refused(Refusal::OutOfStep);
    // Whether the peer learns of it or not, the session waits for somebody with the right count.
    let _ = timeout(ENDING, next.sealed.send(&refused)).await;
    None
}

/// Runs one connection until it or the link ends, or another takes its place. It is dropped then: it must not receive anything
/// once the count is told.
async fn run(
    connection: Connection,
    shared: &Shared,
    mut resumptions: Option<&mut mpsc::Receiver<Resumption>>,
) -> Outcome {
    let connection = shared.attach(connection);
    // How long this line is decides how much is worth having on its way.
    shared.with(|state, _| state.ping());
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = 0;
    let mut closing_until = None;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.with(|connection| connection.poll(shared, cx))) => break ended,
            Some(resumption) = receive(&mut resumptions) => return Outcome::Replaced(resumption),
            () = shared.closing.cancelled(), if closing_until.is_none() => {
                closing_until = Some(Instant::now() + CLOSING);
            }
            () = until(closing_until) => break Ended::Closed(CloseReason::Clean),
            _ = ticks.tick() => {
                silent = if connection.with(Connection::rest) { 0 } else { silent + 1 };
                if silent >= DEAD_AFTER {
                    break Ended::Lost;
                }
                if silent > 0 {
                    shared.with(|state, _| state.ping());
                }
            }
        }
    };
    match ended {
        // An application that has ended the link does not want it back.
        Ended::Lost if closing_until.is_some() => Outcome::Closed(CloseReason::Clean),
        Ended::Lost => Outcome::Lost,
        Ended::Closed(reason) => {
            // Whether the connection or this task was first to notice.
            if shared.closing.is_cancelled() {
                let deadline = Instant::now() + ENDING;
                // A peer that does not answer has been told all the same.
                let _ = timeout_at(
                    deadline,
                    poll_fn(|cx| connection.with(|connection| connection.poll_end(cx))),
                )
                .await;
            }
            Outcome::Closed(reason)
        }
    }
}

async fn receive(resumptions: &mut Option<&mut mpsc::Receiver<Resumption>>) -> Option<Resumption> {
    match resumptions {
        Some(resumptions) => resumptions.recv().await,
        None => None,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn down(shared: &Shared) {
    let since = Instant::now().into_std();
    shared.status.send_replace(Status::Down { since });
}

fn up(shared: &Shared) {
    shared.status.send_replace(Status::Up);
}
