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
use super::{HANDSHAKE_TIMEOUT, Incoming, LINGER, Link};
use crate::ids::{SessionId, random_bytes};
use crate::keys::{PublicKey, SecretKey};
use crate::protocol::handshake::{
    Answer, Begin, Hello, MAX_TEXT, Refusal, Role, Ticket, VERSION, Welcome, common_version,
};
use crate::protocol::mux::Side;

/// How connections are accepted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcceptOptions {
    /// How long a link whose connection is lost waits for the peer to come back, if the peer has no wish of its own.
    pub linger: Duration,
    /// The longest that a client's link waits, whatever the client asks for. A node is the location's own and asks for
    /// nothing.
    pub max_linger: Duration,
}

impl AcceptOptions {
    /// How long a link of a `role` waits whose peer asks for `asked` seconds.
    fn linger(&self, role: Role, asked: Option<u32>) -> Duration {
        let asked = asked.map(|seconds| Duration::from_secs(seconds.into()));
        match role {
            Role::Client => asked.unwrap_or(self.linger).min(self.max_linger),
            Role::Node => self.linger,
        }
    }
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            linger: LINGER,
            max_linger: LINGER,
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
            Begin::New { agent, linger } => {
                let linger = self.options.linger(applicant.role, linger);
                let (link, incoming) = self.start(key, applicant.role, linger, sealed);
                // It ends up in logs, and the peer chooses it.
                let agent = agent.chars().filter(|char| !char.is_control());
                let agent = agent.take(MAX_TEXT).collect();
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

    fn start(
        &self,
        peer: PublicKey,
        role: Role,
        linger: Duration,
        sealed: Sealed,
    ) -> (Link, Incoming) {
        let session = SessionId::random();
        let secret = random_bytes();
        let (sender, resumptions) = mpsc::channel(1);
        let entry = Entry {
            peer,
            ticket: Ticket { secret, attempt: 0 },
            resumptions: sender,
        };
        lock(&self.table).insert(session.clone(), entry);
        let answer = Answer::Started {
            session: session.clone(),
            secret,
            linger: u32::try_from(linger.as_secs()).unwrap_or(u32::MAX),
        };
        let shared = Shared::new(Side::Accepting, role, peer, session.clone(), linger);
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::Status;
    use super::super::connect::ConnectOptions;
    use super::super::error::CloseReason;
    use super::super::memory::{MemoryDial, SealedDial, memory};
    use super::super::reconnect::attempt;
    use super::super::transport::{Dial, Listen};
    use super::*;

    /// A location that admits everybody, and the sessions that have begun there.
    struct Location {
        key: PublicKey,
        dial: Arc<dyn Dial>,
        sessions: mpsc::Receiver<Session<()>>,
    }

    fn location() -> Location {
        location_over(|dial| Arc::new(SealedDial(dial)))
    }

    fn location_over(way: impl FnOnce(MemoryDial) -> Arc<dyn Dial>) -> Location {
        let identity = SecretKey::generate();
        let key = identity.public();
        let (dial, mut listener) = memory();
        let (sender, sessions) = mpsc::channel(10);
        tokio::spawn(async move {
            let acceptor = Acceptor::new(identity, AcceptOptions::default());
            while let Ok(transport) = listener.accept().await {
                let admit = async |_: &Applicant| Some(());
                if let Ok(Accepted::New(session)) = acceptor.handshake(transport, admit).await {
                    sender.send(*session).await.expect("the test goes on");
                }
            }
        });
        Location {
            key,
            dial: way(dial),
            sessions,
        }
    }

    impl Location {
        async fn begin(&self, identity: &SecretKey, begin: Begin) -> (Sealed, Answer) {
            let options = ConnectOptions {
                identity: identity.clone(),
                location: self.key,
                role: Role::Client,
                agent: String::new(),
                token: None,
                linger: None,
            };
            let result = attempt(&*self.dial, &options, &begin).await;
            result.expect("everybody is admitted")
        }

        async fn start(&self, identity: &SecretKey) -> (Sealed, SessionId, [u8; 16]) {
            let agent = "te\x1b[2Jst".to_owned();
            match self
                .begin(
                    identity,
                    Begin::New {
                        agent,
                        linger: None,
                    },
                )
                .await
            {
                (
                    sealed,
                    Answer::Started {
                        session, secret, ..
                    },
                ) => (sealed, session, secret),
                (_, answer) => panic!("{answer:?}"),
            }
        }

        async fn resume(
            &self,
            identity: &SecretKey,
            session: &SessionId,
            (secret, attempt): ([u8; 16], u64),
            received: u64,
        ) -> (Sealed, Answer) {
            let begin = Begin::Resume {
                session: session.clone(),
                ticket: Ticket { secret, attempt },
                received,
            };
            self.begin(identity, begin).await
        }
    }

    /// What is said first on each connection.
    const PING: [u8; 9] = [2, 0, 0, 0, 0, 0, 0, 0, 0];

    /// The records that come until the connection ends, without that.
    async fn said(connection: &mut Sealed) -> Vec<Vec<u8>> {
        let mut sealed = Vec::new();
        let end = connection.transport.read_to_end(&mut sealed).await;
        end.expect("its end");
        let mut sealed = &sealed[..];
        let mut records = Vec::new();
        while let Some((length, rest)) = sealed.split_first_chunk() {
            let (message, rest) = rest.split_at(u16::from_be_bytes(*length).into());
            let record = connection.cipher.open(message);
            records.push(record.expect("sealed for this one").to_vec());
            sealed = rest;
        }
        records.retain(|record| record[..] != PING);
        records
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_continued_by_its_owner_only() {
        let mut location = location();
        let (owner, other) = (SecretKey::generate(), SecretKey::generate());
        let (_sealed, session, secret) = location.start(&owner).await;
        let begun = location.sessions.recv().await.expect("a session");
        assert_eq!(begun.agent, "te[2Jst");
        let refused = |refusal| Answer::Refused(refusal);

        let (_, answer) = location.resume(&other, &session, (secret, 1), 0).await;
        assert_eq!(answer, refused(Refusal::SessionGone));
        let nowhere = SessionId::random();
        let (_, answer) = location.resume(&owner, &nowhere, (secret, 1), 0).await;
        assert_eq!(answer, refused(Refusal::SessionGone));
        let (_, answer) = location.resume(&owner, &session, ([7; 16], 1), 0).await;
        assert_eq!(answer, refused(Refusal::BadTicket));
        let (_, answer) = location.resume(&owner, &session, (secret, 0), 0).await;
        assert_eq!(answer, refused(Refusal::BadTicket));
        // More than was ever sent.
        let (_, answer) = location.resume(&owner, &session, (secret, 3), 5).await;
        assert_eq!(answer, refused(Refusal::OutOfStep));
        let (_sealed, answer) = location.resume(&owner, &session, (secret, 4), 0).await;
        assert_eq!(answer, Answer::Resumed { received: 0 });
        // A connection that was dialled before, and arrives late.
        for attempt in [2, 4] {
            let (_, answer) = location
                .resume(&owner, &session, (secret, attempt), 0)
                .await;
            assert_eq!(answer, refused(Refusal::BadTicket));
        }
        begun.link.close().await;
        let (_, answer) = location.resume(&owner, &session, (secret, 5), 0).await;
        assert_eq!(answer, refused(Refusal::SessionGone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_connection_replaces_the_older() {
        let mut location = location();
        let owner = SecretKey::generate();
        let (mut old, session, secret) = location.start(&owner).await;
        let begun = location.sessions.recv().await.expect("a session");
        let (mut new, answer) = location.resume(&owner, &session, (secret, 1), 0).await;
        assert_eq!(answer, Answer::Resumed { received: 0 });
        assert!(said(&mut old).await.is_empty());
        begun.link.close().await;
        assert_eq!(said(&mut new).await, [[4]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_within_the_process_is_continued_too() {
        let mut location = location_over(|dial| Arc::new(dial));
        let owner = SecretKey::generate();
        let (sealed, session, secret) = location.start(&owner).await;
        let begun = location.sessions.recv().await.expect("a session");
        drop(sealed);
        let mut status = begun.link.status();
        let lost = status.wait_for(|status| matches!(status, Status::Down { .. }));
        lost.await.expect("the link goes on");
        let (mut sealed, answer) = location.resume(&owner, &session, (secret, 1), 0).await;
        assert_eq!(answer, Answer::Resumed { received: 0 });
        let mut records = sealed.records().expect("both ends are in this process");
        begun.link.close().await;
        let mut next = async || {
            let record = poll_fn(|cx| records.poll_receive(cx)).await;
            record.expect("the link ends later").concat()
        };
        assert_eq!(next().await[..], PING);
        assert_eq!(next().await[..], [4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_forged_message_ends_the_connection_and_not_the_session() {
        let mut location = location();
        let owner = SecretKey::generate();
        let (mut sealed, session, secret) = location.start(&owner).await;
        let begun = location.sessions.recv().await.expect("a session");
        let forged = [&[0, 30][..], &[7; 30]].concat();
        sealed.transport.write_all(&forged).await.expect("it goes");
        let mut rest = Vec::new();
        let end = sealed.transport.read_to_end(&mut rest).await;
        end.expect("its end");
        let (_sealed, answer) = location.resume(&owner, &session, (secret, 1), 0).await;
        assert_eq!(answer, Answer::Resumed { received: 0 });
        assert_eq!(begun.link.owner.shared.closed(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_breaks_the_protocol_ends_its_session() {
        let mut location = location();
        for (record, problem) in [
            (&[9][..], "a record of unknown kind"),
            (&[], "an empty record"),
            (&[0, 1, 2, 3], "a truncated frame"),
            (
                &[1, 0, 0, 0, 0, 0, 0, 0, 1],
                "an acknowledgement of what was not sent",
            ),
            // 64 MiB and a byte announced on the control stream.
            (
                &[0, 0, 0, 0, 10, 0, 0, 0, 0, 4, 0, 0, 1, 0, 1, 0, 0, 0, 1],
                "a message that is too long",
            ),
        ] {
            let (mut sealed, ..) = location.start(&SecretKey::generate()).await;
            let begun = location.sessions.recv().await.expect("a session");
            let mut message = vec![0; record.len() + 18];
            sealed.cipher.seal(record, &[], &mut message);
            sealed.transport.write_all(&message).await.expect("it goes");
            let reason = begun.link.closed().await;
            assert_eq!(reason, CloseReason::Protocol(problem));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_peer_is_told_the_version() {
        let location = location();
        let identity = SecretKey::generate();
        let transport = location.dial.dial().await.expect("it listens");
        let mut handshake = Handshake::connecting(transport, &identity, &location.key);
        let hello = Hello {
            version: 0,
            role: Role::Client,
            token: None,
        };
        handshake.send(&hello).await.expect("it goes");
        let welcome: Welcome = handshake.receive().await.expect("an answer");
        assert_eq!(welcome.version, VERSION);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_has_expired_is_gone() {
        let mut location = location();
        let owner = SecretKey::generate();
        let (sealed, session, secret) = location.start(&owner).await;
        let begun = location.sessions.recv().await.expect("a session");
        drop(sealed);
        assert_eq!(begun.link.closed().await, CloseReason::Expired);
        let (_, answer) = location.resume(&owner, &session, (secret, 1), 0).await;
        assert_eq!(answer, Answer::Refused(Refusal::SessionGone));
    }
}
