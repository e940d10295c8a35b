//! Tests of the store. Those that need a disk to be full are among the system tests.

use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::future::poll_immediate;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, duplex};

use super::*;
use crate::link::chunks;
use crate::protocol::chunks::{HEADER_LENGTH, Header};

/// A reader that counts its polls.
struct Counted<R>(R, Arc<AtomicU64>);

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        Self { dir, store }
    }

    /// As another process would see it.
    fn other(&self) -> Store {
        Store::open(self.dir.path()).expect("a store")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .expect("a directory")
            .map(|entry| {
                let name = entry.expect("an entry").file_name();
                name.into_string().expect("text")
            })
            .collect();
        names.sort();
        names
    }
}

/// A tar of some chunks, and its digest. No two bytes at equal distance are the same for long.
fn tar() -> (Vec<u8>, Digest) {
    let tar: Vec<u8> = (0..900_000_u32)
        .flat_map(|number| (number.wrapping_mul(number) >> 5).to_le_bytes()[..1].to_vec())
        .collect();
    let layer = Digest::of(&tar);
    (tar, layer)
}

async fn packed(tar: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    chunks::send(tar, &mut wire, &chunks::Spare::default(), |_| ())
        .await
        .expect("sent");
    wire
}

/// Where in `wire` the chunk after the first `count` begins, and where that is in the tar.
fn boundary(wire: &[u8], count: usize) -> (usize, u64) {
    let (mut position, mut content) = (0, 0);
    for _ in 0..count {
        let header = *wire[position..].first_chunk().expect("a header");
        let header = Header::parse(header).expect("good").expect("a chunk");
        position += header.chunk_length();
        content += header.content_length() as u64;
    }
    (position, content)
}

#[tokio::test]
async fn a_layer_is_kept_as_it_came() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    assert!(!store.has(&layer));
    let receipt = store.receive(layer, 0, &wire[..]).await.expect("good");
    assert_eq!(receipt, Receipt::Stored);
    assert!(store.has(&layer));
    assert_eq!(store.partial(&layer), 0);
    assert_eq!(store.list().expect("readable"), [layer]);
    assert_eq!(fixture.names(), [layer.hex()]);
    assert_eq!(store.content_size(&layer).expect("there"), tar.len() as u64);
    assert_eq!(
        store.size(&layer).expect("there"),
        (wire.len() + TRAILER) as u64
    );
    let mut kept = Vec::new();
    let mut reader = store.open_layer(&layer).expect("there");
    reader.read_to_end(&mut kept).await.expect("readable");
    assert_eq!(kept, wire);
}

#[tokio::test]
async fn an_empty_layer_is_a_layer() {
    let fixture = Fixture::new();
    let layer = Digest::of(b"");
    let wire = packed(b"").await;
    fixture
        .store
        .receive(layer, 0, &wire[..])
        .await
        .expect("good");
    assert_eq!(fixture.store.content_size(&layer).expect("there"), 0);
}

#[tokio::test]
async fn an_interrupted_upload_goes_on_where_it_stopped() {
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (second, _) = boundary(&wire, 1);
    let (third, content) = boundary(&wire, 2);
    // In the middle of a header, of a frame, and at a chunk's end.
    for cut in [third, third + 3, third + HEADER_LENGTH + 5] {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let error = store
            .receive(layer, 0, &wire[..cut])
            .await
            .expect_err("torn");
        assert!(matches!(error, ReceiveError::Interrupted(_)), "{error:?}");
        assert!(!store.has(&layer));
        assert_eq!(store.partial(&layer), content);
        let rest = packed(&tar[usize::try_from(content).expect("small")..]).await;
        let receipt = fixture.other().receive(layer, content, &rest[..]).await;
        assert_eq!(receipt.expect("whole now"), Receipt::Stored);
        assert_eq!(store.content_size(&layer).expect("there"), tar.len() as u64);
        assert_eq!(fixture.names(), [layer.hex()]);
    }
    assert!(second < third);
}

#[tokio::test]
async fn an_upload_may_begin_at_any_earlier_chunk() {
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (cut, _) = boundary(&wire, 3);
    for count in [0, 1, 2] {
        let fixture = Fixture::new();
        let (start, offset) = boundary(&wire, count);
        let torn = fixture.store.receive(layer, 0, &wire[..cut]).await;
        torn.expect_err("torn");
        let receipt = fixture.store.receive(layer, offset, &wire[start..]).await;
        assert_eq!(receipt.expect("whole"), Receipt::Stored);
    }
}

#[tokio::test]
async fn an_upload_that_begins_elsewhere_is_told_where() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (cut, content) = boundary(&wire, 2);
    let torn = fixture.store.receive(layer, 0, &wire[..cut]).await;
    torn.expect_err("torn");
    for wrong in [1, content - 1, content + 1, u64::MAX] {
        let error = fixture.store.receive(layer, wrong, &wire[..]).await;
        match error.expect_err("wrong offset") {
            ReceiveError::WrongOffset { offset, expected } => {
                assert_eq!((offset, expected), (wrong, content));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fixture.store.partial(&layer), content);
    }
}

#[tokio::test]
async fn a_torn_or_damaged_part_is_cut_back_to_what_is_good() {
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (second, offset) = boundary(&wire, 1);
    let (third, _) = boundary(&wire, 2);
    // What a machine that went down may leave: a torn chunk, zeros, a damaged frame, a chunk of another layer.
    let mut damaged = wire[..third].to_vec();
    damaged[second + HEADER_LENGTH..].fill(0);
    let zeros = [&wire[..second], &[0; 5000]].concat();
    for part in [&wire[..=second], &zeros, &damaged] {
        let fixture = Fixture::new();
        fs::write(fixture.store.part_path(&layer), part).expect("written");
        let seen = fixture.store.partial(&layer);
        if seen != offset {
            let error = fixture.store.receive(layer, seen, &wire[third..]).await;
            match error.expect_err("less is good than it seems") {
                ReceiveError::WrongOffset { expected, .. } => assert_eq!(expected, offset),
                other => panic!("{other:?}"),
            }
            assert_eq!(fixture.store.partial(&layer), offset);
        }
        let receipt = fixture.store.receive(layer, offset, &wire[second..]).await;
        assert_eq!(receipt.expect("whole"), Receipt::Stored);
    }
}

#[tokio::test]
async fn another_digest_leaves_nothing() {
    let fixture = Fixture::new();
    let (tar, found) = tar();
    let wire = packed(&tar).await;
    let wanted = Digest::of(b"something else");
    let error = fixture.store.receive(wanted, 0, &wire[..]).await;
    match error.expect_err("not the layer") {
        ReceiveError::Damaged {
            expected,
            found: came,
        } => {
            assert_eq!((expected, came), (wanted, found));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.names(), [""; 0]);
}

#[tokio::test]
async fn a_part_that_is_not_of_the_layer_costs_one_upload() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let poison = packed(&[7; 1000]).await;
    let poison = &poison[..poison.len() - HEADER_LENGTH];
    let torn = fixture.store.receive(layer, 0, poison).await;
    torn.expect_err("torn");
    let rest = packed(&tar[1000..]).await;
    let error = fixture.store.receive(layer, 1000, &rest[..]).await;
    assert!(
        matches!(error, Err(ReceiveError::Damaged { .. })),
        "{error:?}"
    );
    assert_eq!(fixture.store.partial(&layer), 0);
    let receipt = fixture.store.receive(layer, 0, &wire[..]).await;
    assert_eq!(receipt.expect("whole"), Receipt::Stored);
}

#[tokio::test]
async fn what_is_no_chunk_ends_the_upload_and_keeps_what_was() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let mut wire = packed(&tar).await;
    let (position, content) = boundary(&wire, 1);
    wire[position + HEADER_LENGTH] ^= 1;
    let error = fixture.store.receive(layer, 0, &wire[..]).await;
    assert!(
        matches!(error, Err(ReceiveError::Interrupted(_))),
        "{error:?}"
    );
    assert_eq!(fixture.store.partial(&layer), content);
    wire[position..position + HEADER_LENGTH].fill(0xff);
    let error = fixture.store.receive(layer, 0, &wire[..]).await;
    assert!(
        matches!(error, Err(ReceiveError::Interrupted(_))),
        "{error:?}"
    );
    assert_eq!(fixture.store.partial(&layer), content);
}

#[tokio::test]
async fn a_dropped_upload_keeps_whole_chunks_and_lets_the_next_one_in() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (cut, content) = boundary(&wire, 2);
    let (mut client, server) = duplex(1 << 20);
    {
        let receiving = fixture.store.receive(layer, 0, server);
        let sending = async {
            client.write_all(&wire[..cut + 100]).await.expect("read");
            while fixture.store.partial(&layer) != content {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            result = receiving => panic!("it cannot end: {result:?}"),
            () = sending => {}
        }
    }
    let (start, offset) = boundary(&wire, 2);
    let receipt = fixture.store.receive(layer, offset, &wire[start..]).await;
    assert_eq!(receipt.expect("whole"), Receipt::Stored);
}

#[tokio::test]
async fn the_second_of_two_uploads_waits_and_reads_nothing() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (cut, content) = boundary(&wire, 1);
    let (mut client, server) = duplex(1 << 20);
    let other = fixture.other();
    let reads = Arc::new(AtomicU64::new(0));
    let first = fixture.store.receive(layer, 0, server);
    let (comes, has_come) = tokio::sync::oneshot::channel();
    let second = async {
        // The first one has the part.
        while fixture.store.partial(&layer) != content {
            tokio::task::yield_now().await;
        }
        comes.send(()).expect("somebody waits");
        let stream = Counted(&wire[..], Arc::clone(&reads));
        other.receive(layer, 0, stream).await
    };
    let send = async {
        client.write_all(&wire[..cut]).await.expect("read");
        // The second goes on to the part, which it finds locked, before this is polled again.
        has_come.await.expect("it comes");
        client.write_all(&wire[cut..]).await.expect("read");
    };
    let (first, second, ()) = tokio::join!(first, second, send);
    assert_eq!(first.expect("whole"), Receipt::Stored);
    assert_eq!(second.expect("there"), Receipt::AlreadyThere);
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    let third = fixture.store.receive(layer, 0, &wire[..]).await;
    assert_eq!(third.expect("there"), Receipt::AlreadyThere);
}

#[tokio::test]
async fn the_second_of_two_uploads_takes_over_when_the_first_is_cut() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (cut, content) = boundary(&wire, 1);
    let (mut client, server) = duplex(1 << 20);
    let other = fixture.other();
    let first = fixture.store.receive(layer, 0, server);
    let second = async {
        while fixture.store.partial(&layer) != content {
            tokio::task::yield_now().await;
        }
        other.receive(layer, 0, &wire[..]).await
    };
    let wire = &wire;
    let send = async move {
        client.write_all(&wire[..cut]).await.expect("read");
        drop(client);
    };
    let (first, second, ()) = tokio::join!(first, second, send);
    first.expect_err("cut");
    assert_eq!(second.expect("whole"), Receipt::Stored);
}

#[tokio::test]
async fn an_upload_that_stands_still_does_not_hold_others_up_for_ever() {
    let mut fixture = Fixture::new();
    fixture.store.patience = Duration::from_millis(10);
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (cut, content) = boundary(&wire, 2);
    let (mut client, server) = duplex(1 << 20);
    let stalled = fixture.store.receive(layer, 0, server);
    let send = async {
        client.write_all(&wire[..cut]).await.expect("read");
        while fixture.store.partial(&layer) != content {
            tokio::task::yield_now().await;
        }
        let receipt = fixture.store.receive(layer, content, &wire[cut..]).await;
        assert_eq!(receipt.expect("whole"), Receipt::Stored);
        // Too late, but no harm.
        client.write_all(&wire[cut..]).await.expect("read");
    };
    let (stalled, ()) = tokio::join!(stalled, send);
    assert_eq!(stalled.expect("there"), Receipt::AlreadyThere);
    assert_eq!(fixture.names(), [layer.hex()]);
}

#[tokio::test]
async fn what_is_in_use_is_not_removed() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    fixture
        .store
        .receive(layer, 0, &wire[..])
        .await
        .expect("good");
    let other = fixture.other();

    let held = fixture.store.hold(&[layer]).expect("there");
    let again = other.hold(&[layer]).expect("shared");
    assert!(matches!(other.remove(&layer), Err(RemoveError::InUse(_))));
    drop(held);
    assert!(matches!(other.remove(&layer), Err(RemoveError::InUse(_))));
    drop(again);
    let reader = fixture.store.open_layer(&layer).expect("there");
    assert!(matches!(other.remove(&layer), Err(RemoveError::InUse(_))));
    drop(reader);

    let size = other.size(&layer).expect("there");
    assert_eq!(other.remove(&layer).expect("free"), size);
    assert!(!fixture.store.has(&layer));
    assert!(matches!(
        other.remove(&layer),
        Err(RemoveError::NotFound(_))
    ));
    let error = other.hold(&[layer]).expect_err("gone");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn old_parts_are_swept_and_living_ones_are_not() {
    let fixture = Fixture::new();
    let aged = |path: &Path, age: Duration| {
        let file = File::create(path).expect("made");
        file.set_modified(SystemTime::now() - age).expect("set");
        file
    };
    let [old, young, living, beside] =
        [b"old", b"you", b"liv", b"bes"].map(|name| Digest::of(name));
    aged(
        &fixture.store.part_path(&old),
        PART_LIFE + Duration::from_mins(1),
    );
    aged(&fixture.store.part_path(&young), PART_LIFE / 2);
    let file = aged(&fixture.store.part_path(&living), PART_LIFE * 2);
    file.lock().expect("locked");
    let name = format!("{}.0123456789abcdef.part", beside.hex());
    aged(&fixture.dir.path().join(name), Duration::ZERO);
    fs::write(fixture.dir.path().join("stranger"), "").expect("written");

    fixture.other();
    let mut expected = [
        format!("{}.part", young.hex()),
        format!("{}.part", living.hex()),
        "stranger".to_owned(),
    ];
    expected.sort();
    assert_eq!(fixture.names(), expected);
    assert_eq!(fixture.store.list().expect("readable"), []);
}

/// Somebody who knows the digest of a layer that another user has uploaded, or begins to, and does not have it.
#[tokio::test]
async fn a_digest_is_no_way_to_a_layer_of_another_user() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let (ann, bob) = (UserId::random(), UserId::random());
    let (anns, bobs) = (fixture.store.of_user(&ann), fixture.store.of_user(&bob));

    // All of it but the end mark: what is missing can be guessed.
    let end = wire.len() - crate::protocol::chunks::END.len();
    let torn = anns.receive(layer, 0, &wire[..end]).await;
    assert!(matches!(torn, Err(ReceiveError::Interrupted(_))));
    assert_eq!(anns.partial(&layer), tar.len() as u64);
    assert_eq!(bobs.partial(&layer), 0);
    let offset = tar.len() as u64;
    let guessed = bobs.receive(layer, offset, &wire[end..]).await;
    assert!(matches!(guessed, Err(ReceiveError::WrongOffset { .. })));
    // Another store sweeps at its start, and leaves what can be gone on with.
    drop(fixture.other());
    let receipt = anns.receive(layer, offset, &wire[end..]).await;
    assert_eq!(receipt.expect("whole"), Receipt::Stored);

    for (content, offset) in [(&wire[end..], 0), (&[][..], 0), (&wire[..end], 0)] {
        let claimed = bobs.receive(layer, offset, content).await;
        assert!(
            matches!(
                claimed,
                Err(ReceiveError::Damaged { .. }
                    | ReceiveError::Interrupted(_)
                    | ReceiveError::WrongOffset { .. })
            ),
            "{claimed:?}"
        );
    }
    // Whoever has it shows it by sending it.
    let receipt = bobs
        .receive(layer, bobs.partial(&layer), &wire[end..])
        .await;
    assert_eq!(receipt.expect("all of it came"), Receipt::AlreadyThere);
    assert_eq!(fixture.names(), [layer.hex()]);
}

#[tokio::test]
async fn a_user_with_two_clients_sends_a_layer_once() {
    let fixture = Fixture::new();
    let (tar, layer) = tar();
    let wire = packed(&tar).await;
    let store = fixture.store.of_user(&UserId::random());
    let (mut slow, from) = duplex(1 << 10);
    let first = tokio::spawn({
        let store = store.clone();
        async move { store.receive(layer, 0, from).await }
    });
    // Once more than fits in between is written, the first is at work.
    let half = wire.len() / 2;
    slow.write_all(&wire[..half]).await.expect("it reads");
    let polls = Arc::new(AtomicU64::new(0));
    let mut second = pin!(store.receive(layer, 0, Counted(&wire[..], Arc::clone(&polls))));
    // The second has found it at work when it waits.
    assert!(poll_immediate(second.as_mut()).await.is_none());
    slow.write_all(&wire[half..]).await.expect("it reads");
    let receipt = first.await.expect("it ends").expect("whole");
    assert_eq!(receipt, Receipt::Stored);
    let receipt = second.await.expect("brought");
    assert_eq!(receipt, Receipt::AlreadyThere);
    assert_eq!(polls.load(Ordering::Relaxed), 0);
}
