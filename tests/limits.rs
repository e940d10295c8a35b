//! What users may take of a location, with two of them at it.

use tfnz::location::Bounds;
use tfnz::progress::Silent;
use tfnz::protocol::container::Limits;
use tfnz::protocol::limits::{Limit, LimitChanges};
use tfnz::protocol::messages::FaultCode;
use tfnz::sdk::{Container, Error, Location};

use crate::common::PATIENCE;
use crate::common::inside::Inside;

const MIB: u64 = 1 << 20;

/// Starts a container that stays, with so much memory.
async fn spawn(
    inside: &Inside,
    location: &Location,
    memory: Option<u64>,
) -> Result<Container, Error> {
    let image = inside.image(location, &[(1, 1000)]).await;
    let node = location.node().await?;
    let limits = Limits {
        memory,
        ..Limits::default()
    };
    let spawning = node.spawn(&image).entrypoint(["sleep"]).limits(limits);
    spawning.start().await
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, text: &str) {
    let Err(error) = result else {
        panic!("it is allowed");
    };
    assert_eq!(error.fault(), Some(FaultCode::LimitReached), "{error}");
    let said = error.to_string();
    assert!(said.contains(text), "{said}");
    assert!(said.contains("`tf location limits`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_counted_over_all_sessions() {
    let inside = Inside::open(Bounds::default()).await;
    let (ann, bob) = (inside.member("ann").await, inside.member("bob").await);
    let changes = LimitChanges {
        containers: Some(Limit::AtMost(2)),
        ..LimitChanges::default()
    };
    assert_eq!(inside.limit(Some("ann"), changes).await, 1);
    let (here, there, bobs) = (
        ann.connected().await,
        ann.connected().await,
        bob.connected().await,
    );
    let first = spawn(&inside, &here, None).await.expect("the first");
    let _second = spawn(&inside, &there, None).await.expect("the second");
    let too_many = spawn(&inside, &here, None).await;
    refused(too_many.map(drop), "limit of containers is reached, 2 of 2");
    for _ in 0..3 {
        // They stay until the session ends.
        std::mem::forget(spawn(&inside, &bobs, None).await.expect("he has no limit"));
    }
    let used = inside.limits_of(&ann).await;
    assert_eq!((used.containers.used, used.sessions.used), (2, 2));
    assert_eq!(inside.limits_of(&bob).await.containers.used, 3);

    first.destroy().await.expect("it is there");
    let _third = spawn(&inside, &here, None)
        .await
        .expect("there is room again");
    there.disconnect().await;
    let freed = async || {
        while inside.limits_of(&ann).await.containers.used > 1 {
            tokio::task::yield_now().await;
        }
    };
    let freed = tokio::time::timeout(crate::common::PATIENCE, freed()).await;
    freed.expect("a session's containers end with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_share_their_users_memory() {
    let inside = Inside::open(Bounds::default()).await;
    let (ann, bob) = (inside.member("ann").await, inside.member("bob").await);
    let memory = |limit| LimitChanges {
        memory: Some(limit),
        ..LimitChanges::default()
    };
    inside.limit(None, memory(Limit::AtMost(64 * MIB))).await;
    inside.limit(Some(&bob.id), memory(Limit::Unlimited)).await;
    let (anns, bobs) = (ann.connected().await, bob.connected().await);
    refused(
        spawn(&inside, &anns, None).await.map(drop),
        "start it with --memory",
    );
    let _half = spawn(&inside, &anns, Some(40 * MIB))
        .await
        .expect("there is room");
    let too_much = spawn(&inside, &anns, Some(30 * MIB)).await;
    refused(
        too_much.map(drop),
        "40.00 MiB of 64.00 MiB are taken, and 30.00 MiB more",
    );
    let _rest = spawn(&inside, &anns, Some(24 * MIB))
        .await
        .expect("there is room");
    let _bobs = spawn(&inside, &bobs, None).await.expect("he has no limit");
    let limits = inside.limits_of(&ann).await.memory;
    assert_eq!(
        (limits.limit, limits.own, limits.used),
        (Some(64 * MIB), false, 64 * MIB)
    );
    let limits = inside.limits_of(&bob).await.memory;
    assert_eq!((limits.limit, limits.own, limits.used), (None, true, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_stored_up_to_the_limit() {
    let inside = Inside::open(Bounds::default()).await;
    let (ann, bob) = (inside.member("ann").await, inside.member("bob").await);
    let changes = LimitChanges {
        stored: Some(Limit::AtMost(8 * MIB)),
        ..LimitChanges::default()
    };
    inside.limit(Some("ann"), changes).await;
    let (anns, bobs) = (ann.connected().await, bob.connected().await);
    let five = 5 << 20;
    let small = inside.image(&anns, &[(1, five)]).await;
    let large = inside.image(&anns, &[(2, five), (3, five)]).await;
    anns.cache_image(&small, &Silent).await.expect("it fits");

    // It ends on the way, and leaves nothing.
    let Err(error) = anns.cache_image(&large, &Silent).await else {
        panic!("it is too large");
    };
    let text = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(text.contains("8.00 MiB of 8.00 MiB"), "{error}: {text}");
    assert!(text.contains("tf cache rm"), "{error}: {text}");
    let dropped = async {
        while inside.limits_of(&ann).await.stored.used >= 6 * MIB {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, dropped)
        .await
        .expect("it is not counted any more");
    bobs.cache_image(&large, &Silent)
        .await
        .expect("he has no limit");

    // What is there can be used, and another one is refused before it is sent.
    let changes = LimitChanges {
        stored: Some(Limit::AtMost(5 * MIB)),
        ..LimitChanges::default()
    };
    inside.limit(Some("ann"), changes).await;
    anns.cache_image(&small, &Silent)
        .await
        .expect("it is there");
    let tiny = inside.image(&anns, &[(4, 10)]).await;
    refused(
        anns.cache_image(&tiny, &Silent).await,
        "of 5.00 MiB are taken",
    );
    let id = small.description.id.to_string();
    anns.remove_image(&id).await.expect("it is there");
    anns.cache_image(&tiny, &Silent)
        .await
        .expect("there is room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_somebody_else_counts_and_goes() {
    let inside = Inside::open(Bounds::default()).await;
    let (ann, bob) = (inside.member("ann").await, inside.member("bob").await);
    for member in [&ann, &bob] {
        let location = member.connected().await;
        let image = inside.image(&location, &[(1, 1 << 20)]).await;
        location
            .cache_image(&image, &Silent)
            .await
            .expect("it is sent");
        assert!(inside.limits_of(member).await.stored.used > MIB);
    }
    let location = ann.connected().await;
    let id = inside
        .image(&location, &[(1, 1 << 20)])
        .await
        .description
        .id;
    location
        .remove_image(&id.to_string())
        .await
        .expect("it is there");
    assert_eq!(inside.limits_of(&ann).await.stored.used, 0);
    assert!(inside.limits_of(&bob).await.stored.used > MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted() {
    let inside = Inside::open(Bounds::default()).await;
    let (ann, bob) = (inside.member("ann").await, inside.member("bob").await);
    let changes = LimitChanges {
        sessions: Some(Limit::AtMost(1)),
        ..LimitChanges::default()
    };
    inside.limit(None, changes).await;
    let first = ann.connected().await;
    let second = ann.connect().await;
    refused(second.map(drop), "limit of sessions is reached, 1 of 1");
    let _bobs = bob.connected().await;
    first.disconnect().await;
    let again = ann.connect().await;
    again.expect("there is room again");
}
