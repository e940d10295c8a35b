//! Images in archives of every form: what is read is what was written, and what is wrong is said.

use std::fs;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;
use tfnz::ids::Digest;
use tfnz::image::archive::{self, ArchiveError};
use tfnz::image::resolve::NoneKnown;
use tfnz::image::{self, Description, Image, KnownImages, Options, Port, ResolveError};

use crate::common::images::{
    Collected, Compression, Entries, Verified, all_missing, amd64, layer, layers, layout, missing,
    peak_memory, platform, saved, saved_as_layout, write_large,
};

fn temp() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

async fn open(path: &Path) -> Result<Image, ArchiveError> {
    archive::open(path, None, &amd64()).await
}

async fn open_error(path: &Path) -> ArchiveError {
    match open(path).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

async fn read_all(image: &Image) -> std::io::Result<Collected> {
    let collected = Collected::default();
    let source = image.source.as_ref().expect("an archive has layers");
    source
        .read(&all_missing(&image.description), &collected)
        .await?;
    Ok(collected)
}

/// An archive in a temporary directory.
fn write(entries: &Entries) -> (TempDir, PathBuf) {
    let dir = temp();
    let path = dir.path().join("image.tar");
    entries.write_tar(&path, Compression::Plain);
    (dir, path)
}

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
                read_all(&image)
                    .await
                    .expect("read")
                    .assert_complete(&image.description);
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
        read_all(&image)
            .await
            .expect("read")
            .assert_complete(&image.description);
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

/// Options that lead to no Docker daemon and to no login.
fn options() -> Options {
    let mut options = Options::default();
    options.platform = amd64();
    options.docker = tfnz::image::docker::Settings::default();
    options.docker.host = Some("unix:///no/such/docker.sock".to_owned());
    options.registry = tfnz::image::registry::Settings::default();
    options
}

/// A cache with one image.
struct Cache(&'static str, Description);

impl KnownImages for Cache {
    fn describe<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Description>> {
        let found = (name == self.0).then(|| self.1.clone());
        std::future::ready(found).boxed()
    }
}

#[tokio::test]
async fn a_name_is_found_in_the_cache_and_has_no_layers_then() {
    let (_dir, path) = write(&layout(&layers(), Compression::Gzip, "linux/amd64"));
    let description = open(&path).await.expect("open").description;
    let cache = Cache("docker.io/library/app:latest", description.clone());
    let image = image::resolve("app", &cache, &options())
        .await
        .expect("known");
    assert_eq!(image.description, description);
    assert_eq!(image.names, ["docker.io/library/app:latest"]);
    assert!(image.source.is_none());

    let cache = Cache("0ed0f774a451", description);
    assert!(
        image::resolve("0ed0f774a451", &cache, &options())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_unknown_image_lists_where_it_was_looked_for() {
    // Nothing listens on this port of this machine.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    drop(listener);
    let name = format!("127.0.0.1:{port}/app");
    let error = image::resolve(&name, &NoneKnown, &options())
        .await
        .err()
        .expect("nowhere");
    let text = error.to_string();
    for part in [
        "unix:///no/such/docker.sock",
        "start it",
        "cache of the location",
        "cannot be reached",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let ResolveError::NotFound { tried, .. } = error else {
        panic!("{text}");
    };
    assert_eq!(tried.len(), 3);
}

#[tokio::test]
async fn ids_and_nonsense_are_not_asked_of_a_registry() {
    let id = Digest::of(b"no such image").to_string();
    let error = image::resolve(&id, &NoneKnown, &options())
        .await
        .err()
        .expect("nowhere");
    assert!(matches!(error, ResolveError::NotFound { .. }), "{error}");
    for nonsense in ["", "UPPER", "a b", "-x", "http://x"] {
        let error = image::resolve(nonsense, &NoneKnown, &options())
            .await
            .err()
            .expect("nonsense");
        assert!(
            matches!(error, ResolveError::Name(_)),
            "{nonsense}: {error}"
        );
    }
}

#[tokio::test]
async fn without_a_daemon_the_most_recent_image_is_an_error_that_says_so() {
    let error = image::resolve(".", &NoneKnown, &options())
        .await
        .err()
        .expect("no daemon");
    let text = error.to_string();
    assert!(matches!(error, ResolveError::Docker(_)), "{text}");
    assert!(text.contains("systemctl start docker"), "{text}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn hello_is_made_of_this_program() {
    let dir = temp();
    let mut options = options();
    options.platform = image::Platform::host();
    options.cache_dir = Some(dir.path().to_owned());
    let first = image::resolve("hello", &NoneKnown, &options)
        .await
        .expect("hello");
    let sink = Verified::default();
    let source = first.source.expect("layers");
    source
        .read(&all_missing(&first.description), &sink)
        .await
        .expect("read");
    let size = sink.bytes.into_inner();
    assert_eq!(first.description.layers[0].size, Some(size));
    let second = image::resolve("hello", &NoneKnown, &options)
        .await
        .expect("hello again");
    assert_eq!(second.description, first.description);

    options.platform = platform("linux/riscv64");
    let error = image::resolve("hello", &NoneKnown, &options)
        .await
        .err()
        .expect("another processor");
    assert!(matches!(error, ResolveError::Platform(_)), "{error}");
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
            let sink = Verified::default();
            let source = image.source.expect("layers");
            source
                .read(&all_missing(&image.description), &sink)
                .await
                .expect("read");
            assert!(sink.bytes.into_inner() > SIZE);
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
        let name = "images::memory_does_not_depend_on_the_size_of_an_archive";
        let output = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name, "--nocapture"])
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
