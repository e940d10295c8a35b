//! The start of a connection: who is let in, who is not, and what strangers can do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tfnz::keys::{PublicKey, SecretKey};
use tfnz::link::{
    AcceptOptions, Accepted, Acceptor, Applicant, ConnectError, Dial, HandshakeError, Link,
    Transport, connect,
};
use tfnz::protocol::handshake::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use crate::pair::options;

/// Dials one connection that exists already.
struct Once(std::sync::Mutex<Option<DuplexStream>>);

impl Dial for Once {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        let stream = self.0.lock().expect("no test panics with it").take();
        let stream = stream.ok_or(io::ErrorKind::ConnectionRefused);
        Box::pin(async { Ok(Box::new(stream?) as Box<dyn Transport>) })
    }
}

fn once(stream: DuplexStream) -> Arc<Once> {
    Arc::new(Once(std::sync::Mutex::new(Some(stream))))
}

/// Whom a location admits: everybody with this key.
fn only(key: PublicKey) -> impl AsyncFnOnce(&Applicant) -> Option<PublicKey> {
    async move |applicant: &Applicant| (applicant.key == key).then_some(applicant.key)
}

/// What the two sides make of each other.
type Outcome = (
    Result<Link, ConnectError>,
    Result<Accepted<PublicKey>, HandshakeError>,
);

/// Both sides of a handshake over a connection that holds `capacity` bytes.
async fn shake(
    location: &SecretKey,
    expected: PublicKey,
    client: &SecretKey,
    admitted: PublicKey,
    capacity: usize,
) -> Outcome {
    let (ours, theirs) = duplex(capacity);
    let acceptor = Acceptor::new(location.clone(), AcceptOptions::default());
    let (linked, accepted) = tokio::join!(
        connect(once(ours), options(client, expected)),
        acceptor.handshake(Box::new(theirs), only(admitted)),
    );
    (linked.map(|(link, _)| link), accepted)
}

#[tokio::test(start_paused = true)]
async fn each_learns_who_the_other_is() {
    let (location, client) = (SecretKey::generate(), SecretKey::generate());
    for capacity in [1, 8, 100_000] {
        let (linked, accepted) = shake(
            &location,
            location.public(),
            &client,
            client.public(),
            capacity,
        )
        .await;
        assert_eq!(linked.expect("a link").peer(), location.public());
        let Ok(Accepted::New(session)) = accepted else {
            panic!("a session");
        };
        assert_eq!(session.peer, client.public());
        assert_eq!(session.link.peer(), client.public());
        assert_eq!(session.admission, client.public());
        assert_eq!(session.role, Role::Client);
        assert_eq!(session.agent, "test");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_lost_connection_is_agreed_on() {
    let (location, client) = (SecretKey::generate(), SecretKey::generate());
    let seconds = Duration::from_secs;
    for (role, asked, granted) in [
        (Role::Client, None, seconds(120)),
        (Role::Client, Some(seconds(7)), seconds(7)),
        (Role::Client, Some(seconds(0)), seconds(0)),
        (Role::Client, Some(seconds(3600)), seconds(300)),
        (Role::Client, Some(seconds(u64::MAX)), seconds(300)),
        (Role::Node, Some(seconds(3600)), seconds(120)),
    ] {
        let (ours, theirs) = duplex(1000);
        let mut accept = AcceptOptions::default();
        accept.max_linger = seconds(300);
        let acceptor = Acceptor::new(location.clone(), accept);
        let mut options = options(&client, location.public());
        options.role = role;
        options.linger = asked;
        let (linked, accepted) = tokio::join!(
            connect(once(ours), options),
            acceptor.handshake(Box::new(theirs), only(client.public())),
        );
        assert_eq!(linked.expect("a link").0.linger(), granted, "{asked:?}");
        let Ok(Accepted::New(session)) = accepted else {
            panic!("a session");
        };
        assert_eq!(session.link.linger(), granted, "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_dropped_without_a_word() {
    let (location, client) = (SecretKey::generate(), SecretKey::generate());
    let other = SecretKey::generate().public();
    let (linked, accepted) = shake(&location, location.public(), &client, other, 1000).await;
    assert!(matches!(linked, Err(ConnectError::Rejected)), "{linked:?}");
    assert!(matches!(accepted, Err(HandshakeError::NotAdmitted)));
}

#[tokio::test(start_paused = true)]
async fn a_location_with_another_key_is_not_talked_to() {
    let (location, client) = (SecretKey::generate(), SecretKey::generate());
    let expected = SecretKey::generate().public();
    let (linked, accepted) = shake(&location, expected, &client, client.public(), 1000).await;
    assert!(matches!(linked, Err(ConnectError::Rejected)), "{linked:?}");
    assert!(matches!(accepted, Err(HandshakeError::Malformed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_token_reaches_the_decision() {
    let (location, client) = (SecretKey::generate(), SecretKey::generate());
    let (ours, theirs) = duplex(1000);
    let acceptor = Acceptor::new(location.clone(), AcceptOptions::default());
    let mut options = options(&client, location.public());
    options.token = Some("invited".to_owned());
    options.role = Role::Node;
    let admit = async |applicant: &Applicant| {
        (applicant.token.as_deref() == Some("invited") && applicant.role == Role::Node)
            .then_some(())
    };
    let (linked, accepted) = tokio::join!(
        connect(once(ours), options),
        acceptor.handshake(Box::new(theirs), admit),
    );
    assert!(linked.is_ok());
    assert!(matches!(accepted, Ok(Accepted::New(_))));
}

#[tokio::test]
async fn text_that_is_too_long_is_not_sent() {
    let client = SecretKey::generate();
    let mut options = options(&client, client.public());
    options.agent = "a".repeat(1000);
    let (ours, _theirs) = duplex(100_000);
    let linked = connect(once(ours), options).await;
    assert!(matches!(linked, Err(ConnectError::TooLong)), "{linked:?}");
}

/// What a stranger gets that sends `bytes` and then says nothing: how long until it is thrown out, why, and what it has read.
async fn stranger(bytes: &[u8]) -> (Duration, HandshakeError, Vec<u8>) {
    let (mut ours, theirs) = duplex(100_000);
    let acceptor = Acceptor::new(SecretKey::generate(), AcceptOptions::default());
    ours.write_all(bytes).await.expect("there is room");
    let start = Instant::now();
    let admit = async |_: &Applicant| -> Option<()> { panic!("nobody to decide about") };
    let error = acceptor.handshake(Box::new(theirs), admit).await;
    let error = error.expect_err("no handshake, no session");
    let elapsed = start.elapsed();
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).await.expect("its end");
    (elapsed, error, answer)
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_thrown_out_after_ten_seconds() {
    // Nothing, half a length, half a message.
    for bytes in [&[][..], &[0], &[0, 96, 1, 2, 3]] {
        let (elapsed, error, answer) = stranger(bytes).await;
        assert!(matches!(error, HandshakeError::TimedOut), "{error:?}");
        assert_eq!(elapsed.as_secs(), 10);
        assert!(answer.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_handshake_is_thrown_out_at_once_without_a_word() {
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let zeros = [[0, 96].as_slice(), &[0; 96]].concat();
    for bytes in [
        http.as_slice(),
        &[255; 100],
        &[0, 0],
        &[0, 3, 1, 2, 3],
        &zeros,
    ] {
        let (elapsed, error, answer) = stranger(bytes).await;
        assert!(matches!(error, HandshakeError::Malformed(_)), "{error:?}");
        assert_eq!(elapsed, Duration::ZERO);
        assert!(answer.is_empty());
    }
}

/// Reads one message of a handshake, with its length.
async fn message(stream: &mut DuplexStream) -> Vec<u8> {
    let length = stream.read_u16().await.expect("a length");
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.expect("a message");
    [length.to_be_bytes().as_slice(), &bytes].concat()
}

#[tokio::test(start_paused = true)]
async fn a_recorded_first_message_has_no_effect() {
    let (location, client) = (SecretKey::generate(), SecretKey::generate());
    // The recording, by somebody between the two.
    let (ours, mut between) = duplex(1000);
    let options = options(&client, location.public());
    let connecting = tokio::spawn(connect(once(ours), options));
    let recorded = message(&mut between).await;
    drop(between);
    assert!(connecting.await.expect("no panic").is_err());

    let acceptor = Acceptor::new(location, AcceptOptions::default());
    let asked = AtomicUsize::new(0);
    let admit = async |_: &Applicant| {
        asked.fetch_add(1, Ordering::Relaxed);
        Some(())
    };
    // It is answered, since it is not yet known to be a recording, but nobody can go on from there.
    for guess in [
        &[][..],
        &[0, 20],
        &[[0, 40].as_slice(), &[7; 40]].concat(),
        &recorded,
    ] {
        let (mut ours, theirs) = duplex(1000);
        ours.write_all(&recorded).await.expect("there is room");
        ours.write_all(guess).await.expect("there is room");
        let accepted = acceptor.handshake(Box::new(theirs), admit).await;
        assert!(accepted.is_err(), "{accepted:?}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}
