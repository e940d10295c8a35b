//! Archives of every form: what is read is what was written.

use std::fs;
use std::path::Path;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use tfnz::ids::Digest;
use tfnz::image::archive::{self, ArchiveError};
use tfnz::image::resolve::NoneKnown;
use tfnz::image::{self, Port};

use super::{open, open_error, options, temp, write};
use crate::common::images::{
    Collected, Compression, Entries, all_missing, amd64, layer, layers, layout, length_of_whole,
    missing, peak_memory, platform, read_whole, saved, saved_as_layout, write_large,
};
use crate::common::only;

#[tokio::test]
async fn every_form_of_an_archive_yields_the_same_layers() {
    let layers = layers();
    let dir = temp();
    for inner in Compression::ALL {
        let forms = [
            ("layout", layout(&layers, inner, "linux/amd64")),
            ("saved", saved(&layers, inner, "linux/amd64", "app:1")),
            (
                "saved since 25",
                saved_as_layout(&layers, inner, "linux/amd64", "app:1"),
            ),
        ];
        for (form, entries) in forms {
            let mut paths = Vec::new();
            if form != "saved" {
                let path = dir.path().join(format!("{form}-{inner:?}"));
                entries.write_directory(&path);
                paths.push(path);
            }
            for outer in Compression::ALL {
                let path = dir.path().join(format!("{form}-{inner:?}-{outer:?}.tar"));
                entries.write_tar(&path, outer);
                paths.push(path);
            }
            for path in paths {
                let image = open(&path)
                    .await
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let expected: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
                let found: Vec<_> = image
                    .description
                    .layers
                    .iter()
                    .map(|layer| layer.digest)
                    .collect();
                assert_eq!(found, expected, "{}", path.display());
                assert_eq!(image.description.config.cmd, ["/bin/app"]);
                assert!(
                    image
                        .description
                        .config
                        .exposed_ports
                        .contains(&Port::tcp(80))
                );
                assert!(image.names.is_empty());
                read_whole(&image).await;
            }
        }
    }
}

#[tokio::test]
async fn a_layer_is_read_from_an_offset() {
    let layers = layers();
    let whole = &layers[1];
    let digest = Digest::of(whole);
    let dir = temp();
    let path = dir.path().join("image.tar");
    for inner in Compression::ALL {
        for outer in Compression::ALL {
            layout(&layers, inner, "linux/amd64").write_tar(&path, outer);
            let image = open(&path).await.expect("open");
            let source = image.source.expect("layers");
            let collected = Collected::default();
            source
                .read(&[missing(digest, 300_001)], &collected)
                .await
                .expect("read");
            assert!(collected.content(&digest) == whole[300_001..]);
            let beyond = whole.len() as u64 + 1;
            let error = source
                .read(&[missing(digest, beyond)], &Collected::default())
                .await;
            assert!(error.is_err(), "{inner:?} in {outer:?}");
        }
    }
}

#[tokio::test]
async fn a_layer_of_another_image_is_refused() {
    let (_dir, path) = write(&layout(&layers(), Compression::Gzip, "linux/amd64"));
    let image = open(&path).await.expect("open");
    let wanted = [missing(Digest::of(b"other"), 0)];
    let result = image
        .source
        .expect("layers")
        .read(&wanted, &Collected::default())
        .await;
    assert_eq!(
        result.expect_err("not there").kind(),
        std::io::ErrorKind::NotFound
    );
}

#[tokio::test]
async fn the_platform_is_chosen_from_an_index_nested_in_another() {
    let mut entries = Entries::default();
    let wanted = vec![layer(&[("which", b"amd64")])];
    let other = vec![layer(&[("which", b"arm64")])];
    let mut amd = entries.image(&wanted, Compression::Zstd, "linux/amd64");
    amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut arm = entries.image(&other, Compression::Zstd, "linux/arm64/v8");
    arm["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let statement = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(b"not there"), "size": 9,
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        "platform": {"os": "unknown", "architecture": "unknown"},
    });
    // A platform's manifest that was left out, as tools do which copy one platform only.
    let absent = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(b"left out"), "size": 8,
        "platform": {"os": "linux", "architecture": "s390x"},
    });
    let inner = entries.index(&[arm, amd, statement, absent]);
    let outer = entries.index(&[inner]);
    entries.finish_layout(&[outer]);
    let (_dir, path) = write(&entries);

    for (wanted_platform, layers) in [("linux/amd64", &wanted), ("linux/arm64", &other)] {
        let image = archive::open(&path, None, &platform(wanted_platform))
            .await
            .expect("open");
        assert_eq!(image.description.layers[0].digest, Digest::of(&layers[0]));
        read_whole(&image).await;
    }
    let error = archive::open(&path, None, &platform("linux/riscv64"))
        .await
        .err()
        .expect("none");
    let text = format!("{:#}", anyhow::Error::from(error));
    for part in [
        "linux/arm64/v8",
        "linux/amd64",
        "linux/s390x",
        "run on linux/riscv64",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn an_image_for_another_processor_is_refused_with_both_named() {
    for entries in [
        layout(&layers(), Compression::Gzip, "linux/arm64"),
        saved(&layers(), Compression::Plain, "linux/arm64", "app:1"),
    ] {
        let (_dir, path) = write(&entries);
        let error = open_error(&path).await;
        assert!(matches!(error, ArchiveError::Platform { .. }), "{error}");
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(
            text.contains("linux/arm64") && text.contains("linux/amd64"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn one_of_several_images_is_chosen_by_name() {
    let one = saved(
        &[layer(&[("a", b"1")])],
        Compression::Plain,
        "linux/amd64",
        "one:1",
    );
    let two = saved(
        &[layer(&[("a", b"2")])],
        Compression::Plain,
        "linux/amd64",
        "two:latest",
    );
    let list = |entries: &Entries| -> Vec<serde_json::Value> {
        serde_json::from_slice(&entries.files["manifest.json"]).expect("valid")
    };
    let mut both = one.clone();
    both.files.extend(two.files.clone());
    both.document("manifest.json", &json!([list(&one)[0], list(&two)[0]]));
    let (_dir, path) = write(&both);

    let error = open_error(&path).await;
    assert!(
        matches!(&error, ArchiveError::Ambiguous { names, .. } if names.len() == 2),
        "{error}"
    );
    let image = archive::open(&path, Some("two"), &amd64())
        .await
        .expect("by name");
    assert_eq!(
        image.description.layers[0].digest,
        Digest::of(&layer(&[("a", b"2")]))
    );
    let error = archive::open(&path, Some("three"), &amd64())
        .await
        .err()
        .expect("none");
    assert!(matches!(error, ArchiveError::NoSuchImage { .. }), "{error}");

    let written = format!("{}:one:1", path.display());
    let image = image::resolve(&written, &NoneKnown, &options())
        .await
        .expect("resolve");
    assert_eq!(
        image.description.layers[0].digest,
        Digest::of(&layer(&[("a", b"1")]))
    );
}

#[tokio::test]
async fn a_failing_sink_ends_the_reading() {
    struct Full;
    impl image::LayerSink for Full {
        fn layer<'a>(
            &'a self,
            _wanted: &'a tfnz::protocol::messages::MissingLayer,
            _tar: image::LayerReader,
        ) -> BoxFuture<'a, std::io::Result<()>> {
            async { Err(std::io::Error::new(std::io::ErrorKind::StorageFull, "full")) }.boxed()
        }
    }
    let dir = temp();
    let path = dir.path().join("image.tar");
    for outer in Compression::ALL {
        layout(&layers(), Compression::Plain, "linux/amd64").write_tar(&path, outer);
        let image = open(&path).await.expect("open");
        let source = image.source.expect("layers");
        let result = source.read(&all_missing(&image.description), &Full).await;
        assert_eq!(
            result.expect_err("full").kind(),
            std::io::ErrorKind::StorageFull
        );
    }
}

/// Runs in a process of its own, since memory is measured per process.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_depend_on_the_size_of_an_archive() {
    const CHILD: &str = "TF_TEST_LARGE_ARCHIVE";
    const SIZE: u64 = 300 << 20;
    if let Some(path) = std::env::var_os(CHILD) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let image = open(Path::new(&path)).await.expect("open");
            assert!(length_of_whole(&image).await > SIZE);
        });
        assert!(peak_memory() < 32 << 20, "{} bytes", peak_memory());
        return;
    }
    let dir = temp();
    let path = dir.path().join("large.tar");
    write_large(&path, SIZE);
    let compressed = dir.path().join("large.tar.zst");
    let mut encoder =
        zstd::Encoder::new(fs::File::create(&compressed).expect("create"), 1).expect("encoder");
    std::io::copy(&mut fs::File::open(&path).expect("open"), &mut encoder).expect("compress");
    encoder.finish().expect("finish");
    for path in [path, compressed] {
        let name = "memory_does_not_depend_on_the_size_of_an_archive";
        let output = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(only(module_path!(), name))
            .env(CHILD, &path)
            .output()
            .expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
