//! Two linked sides for tests, and ways to disturb what is between them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tfnz::keys::{PublicKey, SecretKey};
use tfnz::link::{
    AcceptOptions, Accepted, Acceptor, ConnectOptions, Dial, Incoming, Link, Listen, Session,
    connect, memory,
};
use tfnz::protocol::handshake::Role;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// An accepting side: whoever has the right key comes out of `sessions`.
pub(crate) struct Location {
    pub(crate) key: PublicKey,
    pub(crate) sessions: mpsc::Receiver<Session<()>>,
    task: JoinHandle<()>,
}

impl Location {
    /// Accepts from `listener` whoever has the key `client`.
    pub(crate) fn start(listener: impl Listen, client: PublicKey, linger: Duration) -> Self {
        Self::with_key(&SecretKey::generate(), listener, client, linger)
    }

    /// The same for a location whose key is given.
    pub(crate) fn with_key(
        identity: &SecretKey,
        mut listener: impl Listen,
        client: PublicKey,
        linger: Duration,
    ) -> Self {
        let key = identity.public();
        let mut options = AcceptOptions::default();
        options.linger = linger;
        options.max_linger = linger;
        let acceptor = Arc::new(Acceptor::new(identity.clone(), options));
        let (sender, sessions) = mpsc::channel(100);
        let task = tokio::spawn(async move {
            while let Ok(transport) = listener.accept().await {
                let (acceptor, sender) = (Arc::clone(&acceptor), sender.clone());
                tokio::spawn(async move {
                    let admit = async |applicant: &tfnz::link::Applicant| {
                        (applicant.key == client).then_some(())
                    };
                    if let Ok(Accepted::New(session)) = acceptor.handshake(transport, admit).await {
                        // A test that has seen enough takes no more sessions.
                        let _ = sender.send(*session).await;
                    }
                });
            }
        });
        Self {
            key,
            sessions,
            task,
        }
    }
}

impl Drop for Location {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn options(identity: &SecretKey, location: PublicKey) -> ConnectOptions {
    ConnectOptions {
        identity: identity.clone(),
        location,
        role: Role::Client,
        agent: "test".to_owned(),
        token: None,
        linger: None,
    }
}

/// Both sides of a link.
pub(crate) struct Pair {
    pub(crate) client: Link,
    pub(crate) client_incoming: Incoming,
    pub(crate) server: Link,
    pub(crate) server_incoming: Incoming,
    /// Goes on accepting, so that a lost connection can be made again.
    _location: Location,
}

impl Pair {
    /// Linked within the process.
    pub(crate) async fn memory() -> Self {
        let (dial, listener) = memory();
        Self::over(dial, listener, Duration::from_mins(2)).await
    }

    /// Linked by what `dial` dials and `listener` accepts.
    pub(crate) async fn over(dial: impl Dial, listener: impl Listen, linger: Duration) -> Self {
        let identity = SecretKey::generate();
        let mut location = Location::start(listener, identity.public(), linger);
        let options = options(&identity, location.key);
        let (client, client_incoming) = connect(Arc::new(dial), options).await.expect("a link");
        let session = location.sessions.recv().await.expect("a session");
        Self {
            client,
            client_incoming,
            server: session.link,
            server_incoming: session.incoming,
            _location: location,
        }
    }
}

/// Linked over TCP on this machine.
pub(crate) async fn tcp() -> io::Result<Pair> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let dial = tfnz::link::TcpDial::new(listener.local_addr()?.to_string());
    Ok(Pair::over(dial, listener, Duration::from_mins(2)).await)
}
