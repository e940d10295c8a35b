//! Layers that are no archives, or more than a machine can take.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tar::EntryType;

use super::archive::Archive;
use super::hostile::refused;
use super::{Fixture, is_root};

#[tokio::test]
async fn names_that_cannot_be_are_refused() {
    let tar = Archive::new()
        .pax(&[("path", b"a\0b")])
        .file("harmless", "")
        .finish();
    refused("NUL", tar, &["NUL"]).await;
    let part = "x".repeat(256);
    refused(
        "long part",
        Archive::new().file(&part, "").finish(),
        &["255"],
    )
    .await;
    let long = "x/".repeat(2100);
    refused(
        "long name",
        Archive::new().file(&long, "").finish(),
        &["4095"],
    )
    .await;
    let target = "x".repeat(5000);
    let tar = Archive::new().symlink("link", &target).finish();
    refused("long target", tar, &["`link`", "too long"]).await;
    refused(
        "empty target",
        Archive::new().symlink("link", "").finish(),
        &["`link`"],
    )
    .await;
    let tar = Archive::new().file("bell\x07\x1b[31m/../..", "").finish();
    refused("control characters", tar, &["bell\\u{7}\\u{1b}[31m"]).await;
}

#[tokio::test]
async fn a_tree_deeper_than_any_path_is_unpacked_and_removed() {
    if !is_root("deep tree") {
        return;
    }
    // Each link leads to the bottom of the one before, so that names stay short and the tree gets deep.
    let down = "d/".repeat(1500);
    let mut archive = Archive::new().dir("0");
    for step in 0..10 {
        let below = format!("{step}/{down}");
        let next = (step + 1).to_string();
        archive = archive.dir(&below).symlink(&next, &below);
    }
    let tar = archive.finish();
    let fixture = Fixture::in_memory();
    let layer = tfnz::ids::Digest::of(&tar);
    fixture.add(tar).await.expect("deep, but good");
    fixture.store.drop_layers(&[layer]).await.expect("removed");
    assert_eq!(fixture.names(), [""; 0]);
}

#[tokio::test]
async fn owners_out_of_range_are_refused() {
    for id in [
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "-1",
        "x",
    ] {
        let tar = Archive::new()
            .pax(&[("uid", id.as_bytes())])
            .file("owned", "")
            .finish();
        refused(id, tar, &["number"]).await;
    }
}

#[tokio::test]
async fn sizes_that_are_not_there_are_refused() {
    let tar = Archive::new()
        .with(EntryType::Regular, "huge", "", "", |header| {
            header.set_size(u64::MAX >> 1);
        })
        .torn();
    refused("huge", tar, &["huge"]).await;
    let tar = Archive::new()
        .pax(&[("size", b"18446744073709551615")])
        .file("huge", "")
        .finish();
    refused("largest number", tar, &["number"]).await;
    let whole = Archive::new().file("a", &"x".repeat(3000)).torn();
    for length in [1, 511, 513, 2000, 3000] {
        refused("torn", whole[..length].to_vec(), &["in the middle"]).await;
    }
    let tar = Archive::new()
        .with(EntryType::GNULongName, "././@LongLink", "", "", |header| {
            header.set_size(1 << 40);
        })
        .torn();
    refused("a name of a tebibyte", tar, &["mebibyte"]).await;
}

#[tokio::test]
async fn a_sparse_file_of_an_exbibyte_takes_no_room_or_is_refused() {
    if !is_root("sparse") {
        return;
    }
    let fixture = Fixture::new();
    let tar = Archive::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"hole"),
            ("GNU.sparse.realsize", b"1152921504606846976"),
        ])
        .file("GNUSparseFile.0/hole", &format!("{:\0<512}", "0\n"))
        .finish();
    match fixture.add(tar).await {
        Ok(root) => assert_eq!(fs::metadata(root.join("hole")).expect("there").blocks(), 0),
        Err(error) => assert!(error.to_string().contains("hole"), "{error}"),
    }
}

#[tokio::test]
async fn what_is_no_tar_is_refused() {
    refused("text", vec![b'x'; 2000], &["not a tar", "checksum"]).await;
    refused("short", b"x".to_vec(), &["not a tar"]).await;
    let mut tar = Archive::new().file("a", "").finish();
    tar[0] ^= 1;
    refused("damaged header", tar, &["checksum"]).await;
    let tar = Archive::new()
        .entry(EntryType::new(b'V'), "label", "", "")
        .finish();
    refused("volume label", tar, &["unknown type"]).await;
    let mut tar = vec![0; 512];
    tar.extend_from_slice(&Archive::new().file("a", "").finish());
    refused("hidden behind zeros", tar, &["follows its end"]).await;
}
