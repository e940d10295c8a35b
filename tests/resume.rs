//! Lost connections: the session goes on where it was, each byte once and in order, or ends when it should.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tfnz::ids::ContainerId;
use tfnz::keys::SecretKey;
use tfnz::link::{
    ByteStream, CloseReason, ConnectError, Dial, Inbound, Incoming, Link, Status, connect, memory,
};
use tfnz::protocol::container::Exit;
use tfnz::protocol::handshake::Refusal;
use tfnz::protocol::messages::{Call as _, ContainerEnded, Fault, FaultCode, Wake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::common::PATIENCE;
use crate::cut::{Cut, Fate};
use crate::pair::{Location, Pair, options};

const LINGER: Duration = Duration::from_mins(2);

/// Bytes that repeat nowhere near.
fn content(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Answers `Wake` with a fault that counts the calls, tells of each by a notice, and echoes streams.
async fn serve(link: Link, mut incoming: Incoming) {
    let mut streams = JoinSet::new();
    let mut calls = 0;
    while let Some(inbound) = incoming.next().await {
        match inbound {
            Inbound::Call(call) if call.kind() == Wake::KIND => {
                let (Wake { container }, reply) = call.decode::<Wake>().expect("well-formed");
                calls += 1;
                let exit = Exit::Code(calls);
                let notice = ContainerEnded { container, exit };
                link.notify(&notice).await.expect("the link goes on");
                reply.send(Err(Fault::new(FaultCode::InUse, calls.to_string())));
            }
            Inbound::Call(call) => call.unknown(),
            Inbound::Notice(_) => {}
            Inbound::Stream(opened) => {
                let (_, mut stream) = opened.accept::<u32>().expect("well-formed");
                streams.spawn(async move {
                    let (mut read, mut write) = tokio::io::split(&mut stream);
                    tokio::io::copy(&mut read, &mut write).await?;
                    stream.shutdown().await
                });
            }
        }
    }
    while let Some(ended) = streams.join_next().await {
        ended.expect("no panic").expect("each echo finishes");
    }
}

/// Does a bit of everything and checks all of it.
async fn converse(link: &Link, incoming: &mut Incoming, length: usize) {
    let mut streams = JoinSet::new();
    for seed in 1..=3_u32 {
        let link = link.clone();
        streams.spawn(async move {
            let bytes = content(seed, length);
            let mut stream = link.open(&seed).await.expect("the link goes on");
            let (mut read, mut write) = tokio::io::split(&mut stream);
            let mut echo = Vec::new();
            let (written, received) = tokio::join!(
                async {
                    write.write_all(&bytes).await?;
                    write.shutdown().await
                },
                read.read_to_end(&mut echo)
            );
            written.expect("the link goes on");
            received.expect("the link goes on");
            assert!(echo == bytes, "stream {seed} came back changed");
        });
    }
    let container = ContainerId::random();
    for number in 1..=5_u8 {
        let call = Wake {
            container: container.clone(),
        };
        let error = link.call(&call).await.expect_err("answered with a fault");
        assert_eq!(error.to_string(), number.to_string());
        let Some(Inbound::Notice(notice)) = incoming.next().await else {
            panic!("the notice comes before the answer");
        };
        let ended: ContainerEnded = notice.decode().expect("well-formed");
        assert_eq!(ended.exit, Exit::Code(number));
    }
    while let Some(ended) = streams.join_next().await {
        ended.expect("no panic");
    }
}

/// A whole session over a connection that meets these fates. Returns the bytes sent and received, and how often it dialled;
/// nothing if the first connection did not live long enough for a session.
async fn session(fates: Vec<Fate>, length: usize) -> Option<(usize, usize, usize)> {
    let (dial, listener) = memory();
    let cut = Cut::new(dial, fates);
    let identity = SecretKey::generate();
    let mut location = Location::start(listener, identity.public(), LINGER);
    let linked = connect(Arc::new(cut.clone()), options(&identity, location.key)).await;
    let Ok((link, mut incoming)) = linked else {
        assert_eq!(cut.dialled.load(Ordering::Relaxed), 1);
        return None;
    };
    let session = location.sessions.recv().await.expect("a session");
    let server = tokio::spawn(serve(session.link, session.incoming));
    let talk = converse(&link, &mut incoming, length);
    timeout(Duration::from_hours(1), talk)
        .await
        .expect("it ends");
    link.close().await;
    assert_eq!(link.closed().await, CloseReason::Clean);
    timeout(PATIENCE, server)
        .await
        .expect("it ends")
        .expect("no panic");
    Some((
        cut.sent.load(Ordering::Relaxed),
        cut.received.load(Ordering::Relaxed),
        cut.dialled.load(Ordering::Relaxed),
    ))
}

#[tokio::test(start_paused = true)]
async fn a_session_survives_a_cut_anywhere() {
    const LENGTH: usize = 70_000;
    let (sent, received, _) = session(Vec::new(), LENGTH).await.expect("nothing is cut");
    let points = |total: usize| (0..600).step_by(7).chain((600..total).step_by(total / 60));
    let sends = points(sent).map(|sends| Fate {
        sends,
        ..Fate::default()
    });
    let receives = points(received).map(|receives| Fate {
        receives,
        ..Fate::default()
    });
    let mut survived = 0;
    for fate in sends.chain(receives) {
        survived += usize::from(session(vec![fate], LENGTH).await.is_some());
    }
    // All but those that were cut within the handshake.
    assert!(survived > 120, "{survived}");
}

#[tokio::test(start_paused = true)]
async fn a_session_survives_many_cuts() {
    let fates = (0..40).map(|number| match number % 3 {
        0 => Fate {
            sends: 150_000 + 7919 * number,
            ..Fate::default()
        },
        1 => Fate {
            receives: 150_000 + 6007 * number,
            ..Fate::default()
        },
        // Too short to get anything done.
        _ => Fate {
            sends: 31 * number,
            ..Fate::default()
        },
    });
    let ended = session(fates.collect(), 3_000_000).await;
    let (_, _, dialled) = ended.expect("the first connection lives long enough");
    assert!(dialled > 20, "{dialled}");
}

#[tokio::test(start_paused = true)]
async fn a_session_survives_a_peer_that_falls_silent() {
    for silent in [
        Fate {
            sends: 100_000,
            silent: true,
            ..Fate::default()
        },
        Fate {
            receives: 100_000,
            silent: true,
            ..Fate::default()
        },
    ] {
        let start = tokio::time::Instant::now();
        let ended = session(vec![silent], 200_000).await;
        let (_, _, dialled) = ended.expect("the first connection lives long enough");
        assert_eq!(dialled, 2);
        let noticed = start.elapsed();
        assert!(noticed >= Duration::from_secs(7), "{noticed:?}");
        assert!(noticed <= Duration::from_secs(16), "{noticed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_survives_connections_in_pieces() {
    for piece in [1, 7, 1000] {
        let fate = Fate {
            piece,
            ..Fate::default()
        };
        let cut = Fate {
            piece,
            sends: 90_000,
            ..Fate::default()
        };
        let ended = session(vec![cut, fate], 60_000).await;
        assert!(ended.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_survives_flipped_bits() {
    const LENGTH: usize = 70_000;
    let (_, received, _) = session(Vec::new(), LENGTH).await.expect("nothing is cut");
    // From here on, the handshake is done.
    for at in (300..received - 2000).step_by(received / 100) {
        let fate = Fate {
            flips: Some(at),
            ..Fate::default()
        };
        let ended = session(vec![fate], LENGTH).await;
        let (.., dialled) = ended.expect("the handshake is not touched");
        assert_eq!(dialled, 2, "flipped at {at}");
    }
}

/// A way to connect of which the first connection breaks, though not before the handshake is done.
fn breaking(dial: impl Dial) -> Cut {
    let fate = Fate {
        sends: 5000,
        ..Fate::default()
    };
    Cut::new(dial, [fate])
}

/// Sends more than goes through a connection that breaks.
async fn break_it(stream: &mut ByteStream) {
    let sent = stream.write_all(&content(1, 20_000)).await;
    sent.expect("it is taken");
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_of_a_lost_connection() {
    let (dial, listener) = memory();
    let cut = breaking(dial.clone());
    let pair = Pair::over(cut.clone(), listener, LINGER).await;
    let (nowhere, _) = memory();
    cut.redirect(nowhere);
    let mut status = pair.client.status();
    assert_eq!(*status.borrow(), Status::Up);
    let mut stream = pair.client.open(&1_u32).await.expect("up");
    break_it(&mut stream).await;
    let down = status.wait_for(|status| matches!(status, Status::Down { .. }));
    down.await.expect("the link lives");
    cut.redirect(dial);
    let up = status.wait_for(|status| *status == Status::Up);
    up.await.expect("the link lives");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stays_away_expires() {
    let (dial, listener) = memory();
    let cut = breaking(dial);
    // Nobody listens there any more.
    let (nowhere, _) = memory();
    let mut pair = Pair::over(cut.clone(), listener, LINGER).await;
    cut.redirect(nowhere);
    let mut stream = pair.client.open(&1_u32).await.expect("up");
    let Some(Inbound::Stream(opened)) = pair.server_incoming.next().await else {
        panic!("a stream");
    };
    let (_, mut other) = opened.accept::<u32>().expect("well-formed");
    let start = tokio::time::Instant::now();
    break_it(&mut stream).await;
    let call = Wake {
        container: ContainerId::random(),
    };
    assert!(pair.client.call(&call).await.is_err());
    assert_eq!(pair.client.closed().await, CloseReason::Expired);
    assert!(start.elapsed() >= LINGER, "{:?}", start.elapsed());
    assert_eq!(pair.server.closed().await, CloseReason::Expired);
    assert!(start.elapsed() < LINGER * 2, "{:?}", start.elapsed());
    assert!(pair.server_incoming.next().await.is_none());
    assert!(stream.write_all(b"more").await.is_err());
    assert!(other.read_to_end(&mut Vec::new()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_to_wait_ends_with_its_connection() {
    let (dial, listener) = memory();
    // What dials again would find the location.
    let cut = breaking(dial);
    let pair = Pair::over(cut, listener, Duration::ZERO).await;
    let mut stream = pair.client.open(&1_u32).await.expect("up");
    let start = tokio::time::Instant::now();
    break_it(&mut stream).await;
    assert_eq!(pair.client.closed().await, CloseReason::Expired);
    assert_eq!(pair.server.closed().await, CloseReason::Expired);
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// A link whose connection was lost a while ago, with the way to make it again, and to where it would lead.
async fn lost() -> (Pair, Cut, impl Dial + Clone) {
    let (dial, listener) = memory();
    let cut = breaking(dial.clone());
    let pair = Pair::over(cut.clone(), listener, LINGER).await;
    let (nowhere, _) = memory();
    cut.redirect(nowhere);
    let mut stream = pair.client.open(&1_u32).await.expect("up");
    break_it(&mut stream).await;
    tokio::time::sleep(LINGER / 2).await;
    assert!(matches!(
        *pair.client.status().borrow(),
        Status::Down { .. }
    ));
    (pair, cut, dial)
}

#[tokio::test(start_paused = true)]
async fn who_leaves_without_a_connection_makes_one_to_say_so() {
    let (pair, cut, dial) = lost().await;
    cut.redirect(dial);
    let start = tokio::time::Instant::now();
    pair.client.close().await;
    assert_eq!(pair.client.closed().await, CloseReason::Clean);
    assert_eq!(pair.server.closed().await, CloseReason::Clean);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_say_goodbye_leaves_all_the_same() {
    let (pair, _cut, _dial) = lost().await;
    let start = tokio::time::Instant::now();
    pair.client.close().await;
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(pair.client.closed().await, CloseReason::Clean);
    assert_eq!(pair.server.closed().await, CloseReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_is_no_lost_connection() {
    let mut pair = Pair::memory().await;
    let start = tokio::time::Instant::now();
    let mut stream = pair.client.open(&1_u32).await.expect("up");
    stream.write_all(b"last words").await.expect("it is taken");
    stream.shutdown().await.expect("up");
    pair.client.close().await;
    assert_eq!(pair.server.closed().await, CloseReason::Clean);
    assert!(start.elapsed() < Duration::from_secs(1));
    // What was sent before is there.
    let Some(Inbound::Stream(opened)) = pair.server_incoming.next().await else {
        panic!("a stream");
    };
    let (_, mut stream) = opened.accept::<u32>().expect("well-formed");
    let mut words = String::new();
    stream.read_to_string(&mut words).await.expect("its end");
    assert_eq!(words, "last words");
    assert!(pair.server_incoming.next().await.is_none());
    assert!(pair.server.open(&1_u32).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dropping_all_of_a_link_ends_it() {
    let pair = Pair::memory().await;
    let stream = pair.client.open(&1_u32).await.expect("up");
    drop((pair.client, pair.client_incoming));
    let held = timeout(Duration::from_mins(1), pair.server.closed()).await;
    assert!(held.is_err(), "a stream holds the link");
    drop(stream);
    assert_eq!(pair.server.closed().await, CloseReason::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_location_does_not_know_the_session() {
    let (dial, listener) = memory();
    let cut = breaking(dial);
    let (key, identity) = (SecretKey::generate(), SecretKey::generate());
    let first = Location::with_key(&key, listener, identity.public(), LINGER);
    let (link, _incoming) = connect(Arc::new(cut.clone()), options(&identity, key.public()))
        .await
        .expect("a link");
    let (dial, listener) = memory();
    let _second = Location::with_key(&key, listener, identity.public(), LINGER);
    cut.redirect(dial);
    let mut stream = link.open(&1_u32).await.expect("up");
    break_it(&mut stream).await;
    assert_eq!(
        link.closed().await,
        CloseReason::Refused(Refusal::SessionGone)
    );
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_cut_within_the_handshake_is_an_error() {
    for sends in [0, 1, 2, 50, 100, 120] {
        let (dial, listener) = memory();
        let cut = Cut::new(
            dial,
            [Fate {
                sends,
                silent: sends % 2 == 1,
                ..Fate::default()
            }],
        );
        let identity = SecretKey::generate();
        let location = Location::start(listener, identity.public(), LINGER);
        let start = tokio::time::Instant::now();
        let linked = connect(Arc::new(cut), options(&identity, location.key)).await;
        let error = linked.expect_err("no handshake, no link");
        assert!(
            matches!(error, ConnectError::Broken(_) | ConnectError::TimedOut),
            "{error:?}"
        );
        assert!(start.elapsed() <= Duration::from_secs(11));
    }
}
