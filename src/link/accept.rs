//! The accepting side: turns connections into new links or gives them to the link that they continue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::driver::{self, Resumption};
use super::error::HandshakeError;
use super::noise::{Handshake, NoiseError, Sealed};
use super::shared::Shared;
use super::transport::Transport;
use super::{HANDSHAKE_TIMEOUT, Incoming, Link};
use crate::ids::{SessionId, random_bytes};
use crate::keys::{PublicKey, SecretKey};
use crate::protocol::handshake::{
    Answer, Begin, Hello, Refusal, Role, Ticket, VERSION, Welcome, common_version,
};
use crate::protocol::mux::Side;

/// How connections are accepted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcceptOptions {
    /// How long a link whose connection is lost waits for the peer to come back.
    pub linger: Duration,
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            linger: Duration::from_mins(2),
        }
    }
}

/// Who asks to be let in: all of it is proved or encrypted to this location's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// Its key.
    pub key: PublicKey,
    /// What it says it is.
    pub role: Role,
    /// The token of its invitation, if it has one.
    pub token: Option<String>,
}

/// What became of a connection.
#[derive(Debug)]
pub enum Accepted<A> {
    /// It is the start of a link.
    New(Box<Session<A>>),
    /// It continues a link that was accepted before.
    Resumed,
}

/// A new link and who is at its other end.
#[derive(Debug)]
pub struct Session<A> {
    /// The link.
    pub link: Link,
    /// What the peer asks for.
    pub incoming: Incoming,
    /// Key of the peer.
    pub peer: PublicKey,
    /// What the peer is.
    pub role: Role,
    /// Name and version of the peer's program, as it says itself.
    pub agent: String,
    /// What `admit` returned for it.
    pub admission: A,
}

/// Accepts connections for one location, and knows the links that may be continued.
#[derive(Debug)]
pub struct Acceptor {
    identity: SecretKey,
    options: AcceptOptions,
    table: Arc<Table>,
}

/// The links that may be continued.
type Table = Mutex<HashMap<SessionId, Entry>>;

#[derive(Debug)]
struct Entry {
    peer: PublicKey,
    /// The last ticket that was valid.
    ticket: Ticket,
    resumptions: mpsc::Sender<Resumption>,
}

impl Acceptor {
    /// Accepts connections that are meant for `identity`.
    #[must_use]
    pub fn new(identity: SecretKey, options: AcceptOptions) -> Self {
        Self {
            identity,
            options,
            table: Arc::default(),
        }
    }

    /// Performs the handshake on a connection. Takes ten seconds at most, whatever the peer does.
    ///
    /// `admit` decides about the applicant and must not change anything: the peer's first message may be a recording.
    /// Without its consent the connection ends without a word. A session is returned only once the peer has proved that it
    /// is there.
    ///
    /// # Errors
    ///
    /// When the connection comes to nothing, for whatever reason; it is then closed.
    pub async fn handshake<A>(
        &self,
        transport: Box<dyn Transport>,
        admit: impl AsyncFnOnce(&Applicant) -> Option<A>,
    ) -> Result<Accepted<A>, HandshakeError> {
        let handshake = self.begin(transport, admit);
        let result = timeout(HANDSHAKE_TIMEOUT, handshake).await;
        result.unwrap_or(Err(HandshakeError::TimedOut))
    }

    async fn begin<A>(
        &self,
        transport: Box<dyn Transport>,
        admit: impl AsyncFnOnce(&Applicant) -> Option<A>,
    ) -> Result<Accepted<A>, HandshakeError> {
        let mut handshake = Handshake::accepting(transport, &self.identity);
        let hello: Hello = handshake.receive().await?;
        let key = handshake
            .peer()
            .ok_or(HandshakeError::Malformed("no key in the first message"))?;
        let applicant = Applicant {
            key,
            role: hello.role,
            token: hello.token,
        };
        let admission = admit(&applicant).await.ok_or(HandshakeError::NotAdmitted)?;
        let version = common_version(hello.version);
        let welcome = Welcome {
            version: version.unwrap_or(VERSION),
        };
        handshake.send(&welcome).await?;
        if version.is_none() {
            return Err(HandshakeError::Version(hello.version));
        }
        let mut sealed = handshake.finish()?;
        match sealed.receive().await? {
            Begin::New { agent } => {
                let (link, incoming) = self.start(key, sealed);
                Ok(Accepted::New(Box::new(Session {
                    link,
                    incoming,
                    peer: key,
                    role: applicant.role,
                    agent,
                    admission,
                })))
            }
            Begin::Resume {
                session,
                ticket,
                received,
            } => match self.verify(&key, &session, ticket) {
                Ok(resumptions) => {
                    let resumption = Resumption { sealed, received };
                    // A link that has ended in the meantime drops the connection; the peer comes again and is told.
                    let sent = resumptions.send(resumption).await;
                    sent.map_err(|_| HandshakeError::Refused(Refusal::SessionGone))?;
                    Ok(Accepted::Resumed)
                }
                Err(refusal) => {
                    sealed.send(&Answer::Refused(refusal)).await?;
                    Err(HandshakeError::Refused(refusal))
                }
            },
        }
    }

    fn start(&self, peer: PublicKey, sealed: Sealed) -> (Link, Incoming) {
        let session = SessionId::random();
        let secret = random_bytes();
        let (sender, resumptions) = mpsc::channel(1);
        let entry = Entry {
            peer,
            ticket: Ticket { secret, attempt: 0 },
            resumptions: sender,
        };
        lock(&self.table).insert(session.clone(), entry);
        let linger = self.options.linger;
        let answer = Answer::Started {
            session: session.clone(),
            secret,
            linger: u32::try_from(linger.as_secs()).unwrap_or(u32::MAX),
        };
        let shared = Shared::new(Side::Accepting, peer);
        let (link, incoming) = Link::new(Arc::clone(&shared));
        let table = Arc::clone(&self.table);
        tokio::spawn(async move {
            driver::drive_accepting(shared, sealed, answer, resumptions, linger).await;
            lock(&table).remove(&session);
        });
        (link, incoming)
    }

    fn verify(
        &self,
        peer: &PublicKey,
        session: &SessionId,
        ticket: Ticket,
    ) -> Result<mpsc::Sender<Resumption>, Refusal> {
        let mut table = lock(&self.table);
        let entry = table.get_mut(session).ok_or(Refusal::SessionGone)?;
        // Somebody else's session is none: its name does not prove anything.
        if entry.peer != *peer {
            return Err(Refusal::SessionGone);
        }
        if !ticket.follows(&entry.ticket) {
            return Err(Refusal::BadTicket);
        }
        entry.ticket = ticket;
        Ok(entry.resumptions.clone())
    }
}

fn lock(table: &Table) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
    // A map is whole after each of its methods, whatever panics between them.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<NoiseError> for HandshakeError {
    fn from(error: NoiseError) -> Self {
        match error {
            NoiseError::Io(error) => Self::Io(error),
            NoiseError::Malformed(problem) => Self::Malformed(problem),
        }
    }
}
