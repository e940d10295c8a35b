//! What a location keeps of what it was sent.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tfnz::ids::Digest;
use tfnz::link::{chunks, read_value};
use tfnz::location::Bounds;
use tfnz::progress::Silent;
use tfnz::protocol::messages::{EnsureImage, FaultCode, LayerResult, StreamHeader};
use tfnz::sdk::Location;
use tokio::time::timeout;

use crate::common::PATIENCE;
use crate::common::inside::{Inside, Member};
use crate::cut::Cut;

const MIB: usize = 1 << 20;

/// Waits until the user's images are these, by what they were cached as.
async fn until_kept(location: &Location, expected: &[Digest]) {
    let mut found = Vec::new();
    let looking = async {
        loop {
            let images = location.cached_images().await.expect("a list");
            found = images.iter().map(|image| image.description.id).collect();
            found.sort_unstable();
            if found == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let looked = timeout(PATIENCE, looking).await;
    assert!(looked.is_ok(), "{found:?} instead of {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_forgets_what_was_used_least_recently() {
    let inside = Inside::open(Bounds {
        max_cache: Some(7 << 19),
        ..Bounds::default()
    })
    .await;
    let ann = inside.member("ann").await;
    let running = ann.connected().await;
    let runs = inside.image(&running, &[(1, MIB)]).await;
    let node = running.node().await.expect("a node");
    let container = node.spawn(&runs).entrypoint(["sleep"]).start().await;
    let container = container.expect("it starts");
    // Each in a session of its own: what one has just asked for is in use until it ends.
    let mut ids = vec![runs.description.id];
    for seed in 2..=5 {
        let session = ann.connected().await;
        let image = inside.image(&session, &[(seed, MIB)]).await;
        let kept = if seed == 3 {
            session.cache_image(&image, &Silent).await
        } else {
            session.ensure_image_uploaded(&image, &Silent).await
        };
        kept.expect("it is sent");
        ids.push(image.description.id);
        session.disconnect().await;
    }
    // The one that runs is the oldest; of the others, the one to be kept stays, and the newest.
    let mut expected = [ids[0], ids[2], ids[4]];
    expected.sort_unstable();
    until_kept(&running, &expected).await;
    assert_eq!(running.cached_images().await.expect("a list").len(), 3);

    // It takes part in the same way once it has ended; that counts as its last use.
    container.destroy().await.expect("it is there");
    let session = ann.connected().await;
    let image = inside.image(&session, &[(6, MIB), (7, MIB)]).await;
    let sent = session.ensure_image_uploaded(&image, &Silent).await;
    sent.expect("it is sent");
    let mut expected = [ids[2], image.description.id];
    expected.sort_unstable();
    until_kept(&running, &expected).await;
    // What was removed is sent again when it is asked for.
    let again = node.spawn(&runs).entrypoint(["sleep"]).start().await;
    again.expect("it starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cache_cannot_hold_is_not_said_to_be_cached() {
    let inside = Inside::open(Bounds {
        max_cache: Some(7 << 19),
        ..Bounds::default()
    })
    .await;
    let ann = inside.member("ann").await;
    let session = ann.connected().await;
    let small = inside.image(&session, &[(1, MIB), (2, MIB)]).await;
    let kept = session.cache_image(&small, &Silent).await;
    kept.expect("there is room for it");
    // It can be run all the same, and caching it is refused then, too.
    let large = [(3, MIB), (4, MIB), (5, MIB), (6, MIB)];
    let large = inside.image(&session, &large).await;
    for _ in 0..2 {
        let refused = session.cache_image(&large, &Silent).await;
        let refused = refused.expect_err("there is no room for it").to_string();
        assert!(refused.contains("3.50 MiB of all images"), "{refused}");
        let sent = session.ensure_image_uploaded(&large, &Silent).await;
        sent.expect("it is there");
    }
    session.disconnect().await;
    until_kept(&ann.connected().await, &[small.description.id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_merely_names_layers_does_not_learn_how_large_they_are() {
    let inside = Inside::open(Bounds {
        max_cache: Some(MIB as u64),
        ..Bounds::default()
    })
    .await;
    let (ann, bob) = (inside.member("ann").await, inside.member("bob").await);
    let session = ann.connected().await;
    let image = inside.image(&session, &[(1, MIB), (2, MIB)]).await;
    let sent = session.ensure_image_uploaded(&image, &Silent).await;
    sent.expect("it is sent");
    let ensure = EnsureImage {
        description: image.description.clone(),
        names: Vec::new(),
        keep: true,
    };
    let answer = bob.link().await.call(&ensure).await;
    assert_eq!(answer.expect("he may send them").missing.len(), 2);
}

/// Has two clients cache the same image at the same time, and returns how many bytes they have sent.
async fn sent_by_both(inside: &Inside, members: [&Member; 2]) -> [usize; 2] {
    let ways = members.map(|member| Cut::new(member.dial(), []));
    let mut sessions = Vec::new();
    for (member, way) in members.into_iter().zip(&ways) {
        sessions.push(member.connect_by(way.clone()).await.expect("a session"));
    }
    let image = inside
        .image(&sessions[0], &[(1, 4 * MIB), (2, 4 * MIB)])
        .await;
    let (first, second) = tokio::join!(
        sessions[0].cache_image(&image, &Silent),
        sessions[1].cache_image(&image, &Silent),
    );
    first.expect("it is sent");
    second.expect("it is sent, or there");
    for session in &sessions {
        let kept = session.cached_images().await.expect("a list");
        assert_eq!(kept.len(), 1);
    }
    ways.map(|way| way.sent.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_of_one_user_send_an_image_once() {
    let inside = Inside::open(Bounds::default()).await;
    let ann = inside.member("ann").await;
    let sent = sent_by_both(&inside, [&ann, &ann]).await;
    let all = sent[0] + sent[1];
    // Whoever waits has sent what fits into the window of a stream.
    assert!((8 * MIB..10 * MIB).contains(&all), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_shows_that_they_have_an_image() {
    let inside = Inside::open(Bounds::default()).await;
    let (ann, bob) = (inside.member("ann").await, inside.member("bob").await);
    let sent = sent_by_both(&inside, [&ann, &bob]).await;
    assert!(sent.iter().all(|sent| *sent > 8 * MIB), "{sent:?}");
    let layers = inside.state.path().join("location/layers");
    let stored = std::fs::read_dir(layers).expect("it is there").count();
    assert_eq!(stored, 2, "each layer is stored once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_no_image_is_refused() {
    let inside = Inside::open(Bounds::default()).await;
    let ann = inside.member("ann").await;
    let link = ann.link().await;
    let layer = Digest::of(b"layer");
    let header = StreamHeader::Upload { layer, offset: 0 };
    let mut stream = link.open(&header).await.expect("a stream");
    // Whether it takes what is sent or not, it keeps nothing.
    let _ = chunks::send(
        &b"layer"[..],
        &mut stream,
        &chunks::Spare::default(),
        |_| (),
    )
    .await;
    let answer: LayerResult = read_value(&mut stream).await.expect("an answer");
    assert_eq!(answer.expect_err("refused").code, FaultCode::NotFound);
    let layers = inside.state.path().join("location/layers");
    let stored = std::fs::read_dir(layers).expect("it is there").count();
    assert_eq!(stored, 0);
}
