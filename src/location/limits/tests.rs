//! Tests of the limits.

use std::io;

use tokio::io::AsyncReadExt;

use super::*;
use crate::ids::Digest;
use crate::protocol::limits::Limit;

async fn limits(changes: LimitChanges) -> (tempfile::TempDir, Limits) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("db")).unwrap();
    let store = Store::open(dir.path().join("layers")).unwrap();
    let mut limits = Limits::new(db, store, true);
    limits.patience = Duration::ZERO;
    limits.set(None, changes).await.unwrap();
    (dir, limits)
}

#[track_caller]
fn told<T>(result: Result<T, Fault>, texts: &[&str]) {
    let Err(fault) = result else {
        panic!("it is allowed");
    };
    assert_eq!(fault.code, FaultCode::LimitReached);
    for text in texts {
        assert!(fault.message.contains(text), "{fault}");
    }
    assert!(fault.message.contains("`tf location limits`"), "{fault}");
}

#[tokio::test]
async fn sessions_are_counted_for_each_user() {
    let (_dir, limits) = limits(LimitChanges {
        sessions: Some(Limit::AtMost(2)),
        ..LimitChanges::default()
    })
    .await;
    let (ann, bob) = (UserId::random(), UserId::random());
    let first = limits.session(&ann).await.unwrap();
    let _second = limits.session(&ann).await.unwrap();
    told(
        limits.session(&ann).await,
        &["limit of sessions is reached, 2 of 2"],
    );
    let _bobs = limits.session(&bob).await.unwrap();
    drop(first);
    let _again = limits.session(&ann).await.unwrap();
}

#[tokio::test]
async fn containers_share_their_memory() {
    let (_dir, limits) = limits(LimitChanges {
        containers: Some(Limit::AtMost(3)),
        memory: Some(Limit::AtMost(1 << 30)),
        ..LimitChanges::default()
    })
    .await;
    let ann = UserId::random();
    told(
        limits.container(&ann, None).await,
        &["0 B of 1.00 GiB are taken", "start it with --memory"],
    );
    let large = limits.container(&ann, Some(3 << 28)).await.unwrap();
    told(
        limits.container(&ann, Some((1 << 28) + 1)).await,
        &["768.00 MiB of 1.00 GiB", "256.00 MiB more"],
    );
    told(
        limits.container(&ann, Some(u64::MAX)).await,
        &["limit of memory"],
    );
    let _fits = limits.container(&ann, Some(1 << 28)).await.unwrap();
    drop(large);
    let _others = [
        limits.container(&ann, Some(1)).await.unwrap(),
        limits.container(&ann, Some(1)).await.unwrap(),
    ];
    told(
        limits.container(&ann, Some(1)).await,
        &["3 of 3 are in use"],
    );
    let bob = UserId::random();
    let recovered = limits.recovered(&bob, 1);
    let all = limits.container(&bob, Some(1 << 30)).await;
    told(all, &["1 B of 1.00 GiB"]);
    drop(recovered);
    let _bobs = limits.container(&bob, Some(1 << 30)).await.unwrap();
}

#[tokio::test]
async fn uploads_end_where_the_room_does() {
    let (dir, limits) = limits(LimitChanges {
        stored: Some(Limit::AtMost(1000)),
        ..LimitChanges::default()
    })
    .await;
    let ann = UserId::random();
    let layer = Digest::of(b"layer");
    limits.db.own_layer(ann.clone(), layer).await.unwrap();
    std::fs::write(dir.path().join("layers").join(layer.hex()), [0; 300]).unwrap();
    let part = format!("{}.{ann}.part", Digest::of(b"part").hex());
    let part = dir.path().join("layers").join(part);
    std::fs::write(&part, [0; 200]).unwrap();

    // 500 are there, and two uploads bring 300 each.
    let mut first = limits.meter(&ann, &[1; 300][..]).await.unwrap();
    let mut second = limits.meter(&ann, &[2; 300][..]).await.unwrap();
    let mut bytes = Vec::new();
    first.read_to_end(&mut bytes).await.unwrap();
    let ended = second.read_to_end(&mut bytes).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    assert!(first.fault().is_none());
    told(second.fault().map_or(Ok(()), Err), &["1000 B of 1000 B"]);
    drop((first, second));

    // An interrupted upload makes room.
    limits.check_stored(&ann, 500).await.unwrap();
    assert!(part.exists());
    limits.check_stored(&ann, 700).await.unwrap();
    assert!(!part.exists());
    told(limits.check_stored(&ann, 701).await, &["300 B of 1000 B"]);
    assert_eq!(
        limits.list(Vec::new()).await.unwrap()[0].stored.limit,
        Some(1000)
    );
}

#[tokio::test]
async fn a_location_for_one_has_no_limits() {
    let (dir, limits) = limits(LimitChanges {
        sessions: Some(Limit::AtMost(0)),
        ..LimitChanges::default()
    })
    .await;
    let store = Store::open(dir.path().join("layers")).unwrap();
    let alone = Limits::new(limits.db.clone(), store, false);
    let _one = alone.session(&UserId::random()).await.unwrap();
}

#[test]
fn sizes_can_be_read() {
    for (size, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (3 << 29, "1.50 GiB"),
        (u64::MAX, "16777216.00 TiB"),
    ] {
        assert_eq!(Bytes(size).to_string(), text);
    }
}

#[tokio::test]
async fn what_is_just_ending_is_waited_for() {
    let (_dir, mut limits) = limits(LimitChanges {
        sessions: Some(Limit::AtMost(1)),
        ..LimitChanges::default()
    })
    .await;
    limits.patience = PATIENCE * 60;
    let ann = UserId::random();
    let first = limits.session(&ann).await.unwrap();
    let (again, ()) = tokio::join!(limits.session(&ann), async {
        tokio::task::yield_now().await;
        drop(first);
    });
    drop(again.unwrap());
}
