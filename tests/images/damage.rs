//! Archives that are damaged, that are none, or that mean harm: what is wrong is said, and nothing else happens.

use std::fs;
use std::path::Path;

use serde_json::json;
use tfnz::image::archive::ArchiveError;

use super::{open, open_error, temp, write};
use crate::common::images::{Compression, Entries, layer, layers, layout, read_all, saved};

#[tokio::test]
async fn what_is_no_image_is_said_to_be_none() {
    let dir = temp();
    fs::create_dir(dir.path().join("empty-directory")).expect("make directory");
    fs::write(dir.path().join("text"), "not a tar\n".repeat(1000)).expect("write");
    fs::write(dir.path().join("nothing"), "").expect("write");
    fs::write(dir.path().join("other.tar"), layer(&[("some", b"files")])).expect("write");
    fs::write(
        dir.path().join("x.tar.xz"),
        [0xfd, b'7', b'z', b'X', b'Z', 0],
    )
    .expect("write");
    for name in [
        "empty-directory",
        "text",
        "nothing",
        "other.tar",
        "x.tar.xz",
    ] {
        let error = open_error(&dir.path().join(name)).await;
        assert!(
            matches!(error, ArchiveError::NotAnImage { .. }),
            "{name}: {error}"
        );
    }
    let error = open_error(&dir.path().join("missing")).await;
    assert!(matches!(error, ArchiveError::Unreadable { .. }), "{error}");
    let error = open_error(Path::new("/dev/null")).await;
    assert!(matches!(error, ArchiveError::NotAnImage { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_blob_is_named() {
    let whole = layout(&layers(), Compression::Gzip, "linux/amd64");
    for name in whole.files.keys().filter(|name| name.starts_with("blobs/")) {
        let mut entries = whole.clone();
        entries.files.remove(name);
        let (_dir, path) = write(&entries);
        let error = open_error(&path).await;
        assert!(
            matches!(&error, ArchiveError::Incomplete { part, .. } if part == name),
            "{error}"
        );
    }
}

#[tokio::test]
async fn wrong_content_is_noticed_wherever_it_is() {
    let whole = layout(&layers(), Compression::Gzip, "linux/amd64");
    for name in whole.files.keys().filter(|name| name.starts_with("blobs/")) {
        let mut entries = whole.clone();
        let content = entries.files.get_mut(name).expect("there");
        let middle = content.len() / 2;
        content[middle] ^= 1;
        let (_dir, path) = write(&entries);
        match open(&path).await {
            Err(error) => assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}"),
            Ok(image) => drop(
                read_all(&image)
                    .await
                    .expect_err("a damaged layer is never passed on as whole"),
            ),
        }
    }
    // Without digests in the names, that of the tar is compared.
    let mut entries = saved(&layers(), Compression::Plain, "linux/amd64", "app:1");
    let name = entries
        .files
        .keys()
        .find(|name| name.ends_with("layer.tar"))
        .expect("a layer")
        .clone();
    entries.files.get_mut(&name).expect("there")[600] ^= 1;
    let (_dir, path) = write(&entries);
    let image = open(&path).await.expect("its documents are right");
    let error = read_all(&image).await.expect_err("damaged");
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_truncated_archive_is_an_error_at_every_length() {
    let layers = vec![layer(&[("a", &[7; 3000])])];
    for entries in [
        layout(&layers, Compression::Plain, "linux/amd64"),
        saved(&layers, Compression::Plain, "linux/amd64", "app:1"),
    ] {
        let whole = entries.to_tar();
        let dir = temp();
        let path = dir.path().join("image.tar");
        for length in (0..whole.len() - 1024).step_by(173) {
            fs::write(&path, &whole[..length]).expect("write");
            if let Ok(image) = open(&path).await {
                // All that the image needs may be there although the archive's end is not.
                read_all(&image).await.expect("complete");
            }
            let compressed = Compression::Gzip.apply(&whole);
            let length = length * compressed.len() / whole.len();
            fs::write(&path, &compressed[..length]).expect("write");
            assert!(open(&path).await.is_err(), "{length} bytes of gzip");
        }
    }
}

#[tokio::test]
async fn flipped_bits_never_do_more_than_fail() {
    let layers = vec![layer(&[("a", b"content")])];
    let whole = layout(&layers, Compression::Gzip, "linux/amd64").to_tar();
    let dir = temp();
    let path = dir.path().join("image.tar");
    for index in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[index] ^= 1 << (index % 8);
        fs::write(&path, &damaged).expect("write");
        if let Ok(image) = open(&path).await
            && let Ok(collected) = read_all(&image).await
        {
            collected.assert_complete(&image.description);
        }
    }
}

#[tokio::test]
async fn oversized_documents_are_refused_unread() {
    let huge = vec![b' '; 5 * 1024 * 1024];
    let mut entries = layout(&layers(), Compression::Gzip, "linux/amd64");
    entries.files.insert("index.json".to_owned(), huge.clone());
    let (dir, path) = write(&entries);
    let error = open_error(&path).await;
    assert!(error.to_string().contains("more than"), "{error}");

    let mut entries = Entries::default();
    let config = entries.blob("application/vnd.oci.image.config.v1+json", huge);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
    let manifest = entries.json_blob("application/vnd.oci.image.manifest.v1+json", &manifest);
    entries.finish_layout(&[manifest]);
    entries.write_tar(&path, Compression::Gzip);
    let error = open_error(&path).await;
    assert!(error.to_string().contains("more than"), "{error}");
    drop(dir);
}

#[tokio::test]
async fn an_index_that_contains_too_much_is_refused() {
    let mut entries = Entries::default();
    let mut nested = entries.image(&layers(), Compression::Plain, "linux/amd64");
    for _ in 0..20 {
        nested = entries.index(&[nested]);
    }
    entries.finish_layout(&[nested]);
    let (_dir, path) = write(&entries);
    let error = open_error(&path).await;
    assert!(error.to_string().contains("nested too deep"), "{error}");

    // Each level lists the next one many times: 200^4 manifests, if all were looked at.
    let mut entries = Entries::default();
    let mut nested = entries.image(&layers(), Compression::Plain, "linux/amd64");
    for _ in 0..4 {
        let many = vec![nested; 200];
        nested = entries.index(&many);
    }
    entries.finish_layout(&[nested]);
    let (_dir, path) = write(&entries);
    let error = open_error(&path).await;
    assert!(matches!(error, ArchiveError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn names_that_lead_out_of_an_archive_lead_nowhere() {
    let whole = saved(&layers(), Compression::Plain, "linux/amd64", "app:1");
    let config = whole
        .files
        .keys()
        .find(|name| *name != "manifest.json" && !name.contains('/'))
        .expect("a configuration")
        .clone();
    let secret = temp();
    let outside = secret.path().join("secret");
    fs::write(&outside, layer(&[("a", b"secret")])).expect("write");
    let outside = outside.to_str().expect("a plain path");
    for (config, layer) in [
        ("/etc/passwd", outside),
        ("../../../../../etc/passwd", outside),
        (config.as_str(), outside),
        (
            config.as_str(),
            &format!("../../../../../../../..{outside}"),
        ),
    ] {
        let mut entries = whole.clone();
        let list =
            json!([{"Config": config, "RepoTags": ["app:1"], "Layers": [layer, layer, layer]}]);
        entries.document("manifest.json", &list);
        let (_dir, path) = write(&entries);
        let error = open_error(&path).await;
        assert!(matches!(error, ArchiveError::Incomplete { .. }), "{error}");
    }

    // A link out of the archive, one into itself, and a pair in a circle.
    let list: serde_json::Value =
        serde_json::from_slice(&whole.files["manifest.json"]).expect("valid");
    let layer = list[0]["Layers"][0].as_str().expect("a path").to_owned();
    for links in [
        vec![(layer.as_str(), outside)],
        vec![(layer.as_str(), "../../../../../../../../etc/passwd")],
        vec![(layer.as_str(), "layer.tar")],
        vec![(layer.as_str(), "other"), ("other", layer.as_str())],
    ] {
        let mut entries = whole.clone();
        entries.files.remove(&layer);
        for (name, target) in links {
            entries.links.insert(name.to_owned(), target.to_owned());
        }
        let (_dir, path) = write(&entries);
        let error = open_error(&path).await;
        assert!(matches!(error, ArchiveError::Incomplete { .. }), "{error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn special_files_in_a_layout_are_not_opened() {
    let entries = layout(&layers(), Compression::Gzip, "linux/amd64");
    let dir = temp();
    entries.write_directory(dir.path());
    let pipe = dir.path().join("index.json");
    fs::remove_file(&pipe).expect("remove");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("make pipe");
    // Opening the pipe would wait for ever.
    let error = open_error(dir.path()).await;
    assert!(matches!(error, ArchiveError::Unreadable { .. }), "{error}");
}
