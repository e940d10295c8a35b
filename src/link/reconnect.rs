//! How the connecting side makes its connections: the first one, and the ones that continue its session.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::HANDSHAKE_TIMEOUT;
use super::connect::ConnectOptions;
use super::error::{CloseReason, ConnectError};
use super::noise::{Handshake, NoiseError, Sealed};
use super::shared::Shared;
use super::transport::Dial;
use crate::ids::SessionId;
use crate::protocol::handshake::{
    Answer, Begin, Hello, OLDEST_VERSION, Refusal, Ticket, VERSION, Welcome,
};

/// Wait before the second attempt to connect again. The first one is made at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// For how long a session that ends while the connection is lost tries to say so. Somebody may wait for the program to end.
const GOODBYE: Duration = Duration::from_millis(1500);

/// Makes connections for one session.
pub(super) struct Reconnect {
    pub(super) dial: Arc<dyn Dial>,
    pub(super) options: ConnectOptions,
    pub(super) session: SessionId,
    pub(super) ticket: Ticket,
    /// For how long the location waits for the session to be continued.
    pub(super) linger: Duration,
}

impl Reconnect {
    /// Connects again, with increasing waits, for as long as the location keeps the session.
    pub(super) async fn again(&mut self, shared: &Shared) -> Result<Sealed, CloseReason> {
        if self.linger.is_zero() {
            return Err(CloseReason::Expired);
        }
        // The location may notice the loss later than this side.
        let deadline = Instant::now() + self.linger + HANDSHAKE_TIMEOUT;
        let mut wait = FIRST_WAIT;
        loop {
            let attempt = timeout_at(deadline, self.attempt(shared)).await;
            match attempt {
                Ok(Ok(sealed)) => return Ok(sealed),
                Ok(Err(ConnectError::Refused(refusal))) => {
                    return Err(CloseReason::Refused(refusal));
                }
                Ok(Err(ConnectError::Version { .. })) => {
                    // The location was replaced by one that cannot know the session.
                    return Err(CloseReason::Refused(Refusal::SessionGone));
                }
                Ok(Err(error)) => tracing::debug!(%error, "cannot connect again yet"),
                Err(_) => return Err(CloseReason::Expired),
            }
            if Instant::now() + wait >= deadline {
                return Err(CloseReason::Expired);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Connects again to tell the location that the session has ended: it would keep what the session has until its time is
    /// up. Where that cannot be done soon, it does.
    pub(super) async fn for_goodbye(&mut self, shared: &Shared) -> Result<Sealed, CloseReason> {
        let again = timeout(GOODBYE, self.again(shared)).await;
        again.ok().and_then(Result::ok).ok_or(CloseReason::Clean)
    }

    async fn attempt(&mut self, shared: &Shared) -> Result<Sealed, ConnectError> {
        self.ticket.attempt += 1;
        let begin = Begin::Resume {
            session: self.session.clone(),
            ticket: self.ticket,
            received: shared.with(|state, _| state.received()),
        };
        let (sealed, answer) = attempt(&*self.dial, &self.options, &begin).await?;
        match answer {
            Answer::Resumed { received } => {
                shared
                    .with(|state, wake| state.resume(received, wake))
                    .map_err(|_| ConnectError::Refused(Refusal::OutOfStep))?;
                Ok(sealed)
            }
            Answer::Refused(refusal) => Err(ConnectError::Refused(refusal)),
            Answer::Started { .. } => Err(ConnectError::NotTheLocation),
        }
    }
}

/// Makes one connection and begins on it what `begin` says.
pub(super) async fn attempt(
    dial: &dyn Dial,
    options: &ConnectOptions,
    begin: &Begin,
) -> Result<(Sealed, Answer), ConnectError> {
    let connecting = async {
        let transport = dial.dial().await.map_err(ConnectError::Dial)?;
        let mut handshake = Handshake::connecting(transport, &options.identity, &options.location);
        let hello = Hello {
            version: VERSION,
            role: options.role,
            token: options.token.clone(),
        };
        handshake.send(&hello).await?;
        let welcome: Welcome = handshake.receive().await?;
        if !(OLDEST_VERSION..=VERSION).contains(&welcome.version) {
            return Err(ConnectError::Version {
                ours: VERSION,
                theirs: welcome.version,
            });
        }
        let mut sealed = handshake.finish()?;
        sealed.send(begin).await?;
        let answer = sealed.receive().await?;
        Ok((sealed, answer))
    };
    let result = timeout(HANDSHAKE_TIMEOUT, connecting).await;
    result.unwrap_or(Err(ConnectError::TimedOut))
}

impl From<NoiseError> for ConnectError {
    fn from(error: NoiseError) -> Self {
        match error {
            NoiseError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Rejected,
            NoiseError::Io(error) => Self::Broken(error),
            NoiseError::Malformed(_) => Self::NotTheLocation,
        }
    }
}
