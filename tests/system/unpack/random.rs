//! Archives made at random of what attacks are made of. Whatever comes of one, it stays inside.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use proptest::prelude::*;
use tar::EntryType;
use tfnz::ids::Digest;

use super::archive::Archive;
use super::{Fixture, is_root, names};

/// Names that lead here and there, to one another, and out.
fn name() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "..",
        ".",
        "",
        ".wh.a",
        ".wh.b",
        ".wh..",
        ".wh...",
        ".wh..wh..opq",
        "victim",
        "layers",
    ]);
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn kind() -> impl Strategy<Value = EntryType> {
    prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Link,
        EntryType::Fifo,
        EntryType::Char,
    ])
}

/// What must not change, with what tells that it has.
fn outside(dir: &Path) -> Vec<(String, u32, u64, i64, i64, Vec<u8>)> {
    let mut seen = Vec::new();
    for name in ["victim", "victim/a", "victim/b"] {
        let found = fs::symlink_metadata(dir.join(name)).expect("still there");
        let content = fs::read(dir.join(name)).unwrap_or_default();
        seen.push((
            name.to_owned(),
            found.mode(),
            found.nlink(),
            found.ctime(),
            found.ctime_nsec(),
            content,
        ));
    }
    seen
}

#[test]
fn no_archive_reaches_outside() {
    if !is_root("random archives") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let fixture = Fixture::in_memory();
    let dir = fixture.dir.path();
    fs::create_dir(dir.join("victim")).expect("made");
    fs::write(dir.join("victim/a"), "untouched").expect("written");
    fs::write(dir.join("victim/b"), "untouched").expect("written");
    let before = outside(dir);

    let entries = prop::collection::vec((kind(), name(), name()), 1..12);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1000)
    };
    let unpacked = Cell::new(0);
    proptest!(config, |(entries in entries)| {
        let tar = entries.iter().fold(Archive::new(), |archive, (kind, name, link)| {
            // Half of the links name what is really there.
            let link = link.replace("layers", dir.to_str().expect("text"));
            let content = if *kind == EntryType::Regular { "changed" } else { "" };
            archive.entry(*kind, name, link, content)
        });
        let tar = tar.finish();
        let layer = Digest::of(&tar);
        let added = runtime.block_on(fixture.add(tar));
        prop_assert_eq!(outside(dir), before.clone());
        prop_assert_eq!(names(dir), ["layers", "victim"]);
        match added {
            Ok(_) => {
                unpacked.set(unpacked.get() + 1);
                runtime.block_on(fixture.store.drop_layers(&[layer])).expect("removed");
            }
            Err(error) => {
                let bad = matches!(error, tfnz::node::engine::EngineError::BadLayer { .. });
                prop_assert!(bad, "{error:?}");
            }
        }
        prop_assert_eq!(fixture.names(), [""; 0]);
    });
    // Else it would show nothing.
    let unpacked = unpacked.get();
    assert!(unpacked > 50, "only {unpacked} were good");
}
