//! What the stores keep when things go wrong: damaged, torn and concurrent arrivals, dead processes, a full disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustix::fs::XattrFlags;
use tfnz::ids::Digest;
use tfnz::link::chunks;
use tfnz::location::layers as location;
use tfnz::node::engine::EngineError;
use tfnz::node::engine::linux::layers::Store;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, duplex};

use super::archive::Archive;
use super::{Fixture, is_root, names};
use crate::common::PATIENCE;

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path, size: &str) -> Self {
        let path = dir.join("disk");
        fs::create_dir(&path).expect("made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .status()
            .expect("mount is there");
        assert!(mounted.success());
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// Counts how often it is read.
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

/// Content that does not compress.
fn noise(length: usize) -> String {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b' ' + u8::try_from(state >> 58).expect("six bits"))
        })
        .collect()
}

/// Adds a layer for each of these files.
async fn add_each<const N: usize>(fixture: &Fixture, names: [&str; N]) -> [Digest; N] {
    let tars = names.map(|name| Archive::new().file(name, "x").finish());
    for tar in &tars {
        fixture.add(tar.clone()).await.expect("added");
    }
    tars.map(|tar| Digest::of(&tar))
}

/// Which of these layers the store has.
fn present<const N: usize>(store: &Store, layers: &[Digest; N]) -> [bool; N] {
    layers.map(|layer| store.has(&layer))
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_on_the_node() {
    if !is_root("a full disk") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(dir.path(), "4M");
    let store = Store::open(&disk.0.join("layers")).expect("a store");
    let tar = Archive::new()
        .file("small", "x")
        .file("dir/large", &noise(6 << 20))
        .finish();
    let layer = Digest::of(&tar);
    let error = store
        .add(layer, Box::new(io::Cursor::new(tar)), &|_| ())
        .await
        .expect_err("it does not fit");
    assert!(matches!(error, EngineError::DiskFull(_)), "{error:?}");
    assert_eq!(names(&disk.0.join("layers")), [""; 0]);

    let tar = Archive::new().file("large", &noise(2 << 20)).finish();
    let layer = Digest::of(&tar);
    store
        .add(layer, Box::new(io::Cursor::new(tar)), &|_| ())
        .await
        .expect("now there is room");
    assert!(store.has(&layer));
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_at_the_location() {
    if !is_root("a full disk") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(dir.path(), "4M");
    let store = location::Store::open(disk.0.join("layers")).expect("a store");
    let upload = async |length| {
        let tar = noise(length);
        let mut wire = Vec::new();
        chunks::send(tar.as_bytes(), &mut wire, &chunks::Spare::default(), |_| ())
            .await
            .expect("sent");
        let layer = Digest::of(tar.as_bytes());
        (layer, store.receive(layer, 0, &wire[..]).await)
    };
    let (layer, received) = upload(8 << 20).await;
    assert!(
        matches!(received, Err(location::ReceiveError::DiskFull)),
        "{received:?}"
    );
    assert!(!store.has(&layer));
    assert_eq!(store.partial(&layer), 0);
    assert_eq!(names(&disk.0.join("layers")), [""; 0]);

    let (layer, received) = upload(2 << 20).await;
    assert_eq!(
        received.expect("now there is room"),
        location::Receipt::Stored
    );
    assert!(store.has(&layer));
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing() {
    if !is_root("a wrong digest") {
        return;
    }
    let fixture = Fixture::new();
    let tar = Archive::new().file("a", "x").finish();
    let found = Digest::of(&tar);
    let expected = Digest::of(b"something else");
    let error = fixture
        .store
        .add(expected, Box::new(io::Cursor::new(tar)), &|_| ())
        .await
        .expect_err("another digest");
    assert!(
        matches!(error, EngineError::WrongDigest { expected: e, found: f } if e == expected && f == found),
        "{error:?}"
    );
    assert_eq!(fixture.names(), [""; 0]);
}

#[tokio::test]
async fn what_follows_the_end_counts_for_the_digest() {
    if !is_root("padding") {
        return;
    }
    let fixture = Fixture::new();
    let mut tar = Archive::new().file("a", "x").finish();
    tar.resize(1 << 20, 0);
    fixture.add(tar).await.expect("padded, as GNU tar does");
    fixture.add(Vec::new()).await.expect("an empty layer");
    fixture
        .add(vec![0; 1024])
        .await
        .expect("another empty layer");
}

#[tokio::test]
async fn a_reader_that_fails_leaves_nothing() {
    if !is_root("a failing reader") {
        return;
    }
    let fixture = Fixture::new();
    let tar = Archive::new().file("a", &noise(1 << 20)).finish();
    let layer = Digest::of(&tar);
    let mut wire = Vec::new();
    chunks::send(&tar[..], &mut wire, &chunks::Spare::default(), |_| ())
        .await
        .expect("sent");
    wire.truncate(wire.len() / 2);
    let reader = chunks::reader(io::Cursor::new(wire));
    let error = fixture
        .store
        .add(layer, Box::new(reader), &|_| ())
        .await
        .expect_err("half of it is missing");
    match error {
        EngineError::Failed { source, .. } => {
            assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.names(), [""; 0]);
}

#[tokio::test]
async fn giving_up_leaves_nothing() {
    if !is_root("giving up") {
        return;
    }
    let fixture = Fixture::new();
    let tar = Archive::new().file("a", &noise(1 << 20)).torn();
    let (mut writer, reader) = duplex(1 << 20);
    let layer = Digest::of(b"whatever");
    {
        let adding = fixture.store.add(layer, Box::new(reader), &|_| ());
        let writing = async {
            writer.write_all(&tar).await.expect("read");
            // Until the part is there: then it is in the middle.
            while fixture.names().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            result = adding => panic!("it cannot end: {result:?}"),
            () = writing => {}
        }
    }
    eventually(|| fixture.names().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_add_the_same_layer_unpack_it_once() {
    if !is_root("adding twice") {
        return;
    }
    let fixture = Fixture::new();
    // As another process would see it.
    let other = Store::open(&fixture.layers()).expect("a store");
    let tar = Archive::new().file("a", &noise(1 << 20)).finish();
    let layer = Digest::of(&tar);
    let (mut writer, reader) = duplex(64 << 10);
    let first = {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.add(layer, Box::new(reader), &|_| ()).await })
    };
    writer.write_all(&tar[..100_000]).await.expect("read");
    let reads = Arc::new(AtomicU64::new(0));
    let second = {
        let tar = Counted(io::Cursor::new(tar.clone()), Arc::clone(&reads));
        tokio::spawn(async move { other.add(layer, Box::new(tar), &|_| ()).await })
    };
    writer.write_all(&tar[100_000..]).await.expect("read");
    drop(writer);
    first.await.expect("no panic").expect("added");
    second.await.expect("no panic").expect("added by the first");
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    assert_eq!(fixture.names(), [layer.hex()]);
}

#[tokio::test]
async fn progress_ends_at_the_length_of_the_tar() {
    if !is_root("progress") {
        return;
    }
    let fixture = Fixture::new();
    let tar = Archive::new().file("a", &noise(3 << 20)).finish();
    let (length, layer) = (tar.len() as u64, Digest::of(&tar));
    let done = AtomicU64::new(0);
    let progress = |so_far| {
        assert!(done.swap(so_far, Ordering::Relaxed) <= so_far);
    };
    fixture
        .store
        .add(layer, Box::new(io::Cursor::new(tar)), &progress)
        .await
        .expect("added");
    assert_eq!(done.load(Ordering::Relaxed), length);
}

#[tokio::test]
async fn held_layers_are_not_dropped() {
    if !is_root("holding") {
        return;
    }
    let fixture = Fixture::new();
    let other = Store::open(&fixture.layers()).expect("a store");
    let layers = add_each(&fixture, ["a", "b", "c"]).await;
    let asked = [layers[2], layers[0]];
    let held = fixture.store.hold(&asked).expect("there");
    let again = other.hold(&asked[..1]).expect("shared");
    assert_eq!(
        held.paths(),
        asked.map(|layer| fixture.layers().join(layer.hex()))
    );
    other
        .drop_layers(&layers)
        .await
        .expect("those that are free");
    assert_eq!(present(&other, &layers), [true, false, true]);
    drop(held);
    other
        .drop_layers(&layers)
        .await
        .expect("those that are free");
    assert_eq!(present(&other, &layers), [false, false, true]);
    drop(again);
    other.drop_layers(&layers).await.expect("all");
    assert_eq!(fixture.names(), [""; 0]);
    let error = other.hold(&layers[..1]).expect_err("gone");
    assert!(matches!(error, EngineError::BadSpec(_)), "{error:?}");
}

#[tokio::test]
async fn what_dead_processes_leave_is_swept() {
    if !is_root("sweeping") {
        return;
    }
    let fixture = Fixture::new();
    let tar = Archive::new().file("a", "x").finish();
    let layer = Digest::of(&tar);
    let part = fixture.layers().join(format!("{}.part", layer.hex()));
    let gone = fixture
        .layers()
        .join(format!("{}.0123456789abcdef.gone", layer.hex()));
    for dir in [&part, &gone] {
        fs::create_dir_all(dir.join("some/dir")).expect("made");
        fs::write(dir.join("some/file"), "left").expect("written");
    }
    let living = fixture
        .layers()
        .join(format!("{}.part", Digest::of(b"living").hex()));
    fs::create_dir(&living).expect("made");
    let lock = fs::File::open(&living).expect("opened");
    lock.lock().expect("locked");
    // Without a new start, too: adding the layer takes the part over.
    let root = fixture.add(tar.clone()).await.expect("added");
    assert_eq!(names(&root), ["a"]);
    fs::create_dir_all(part.join("some/dir")).expect("made");

    Store::open(&fixture.layers()).expect("a store");
    let mut expected = [
        layer.hex(),
        living
            .file_name()
            .expect("a name")
            .to_str()
            .expect("text")
            .to_owned(),
    ];
    expected.sort();
    assert_eq!(fixture.names(), expected);
}

#[tokio::test]
async fn a_layer_of_another_boot_that_may_have_holes_is_unpacked_again() {
    const MARK: &str = "trusted.20ft.boot";
    if !is_root("another boot") {
        return;
    }
    let fixture = Fixture::new();
    let layers = add_each(&fixture, ["crashed", "settled", "new"]).await;
    let path = |layer: &Digest| fixture.layers().join(layer.hex());
    let flags = XattrFlags::empty();
    rustix::fs::lsetxattr(path(&layers[0]), MARK, b"another boot", flags).expect("set");
    rustix::fs::lremovexattr(path(&layers[1]), MARK).expect("removed");
    let store = Store::open(&fixture.layers()).expect("a store");
    assert_eq!(present(&store, &layers), [false, true, true]);
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "it does not come true"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
