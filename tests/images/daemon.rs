//! A Docker daemon that is played by the tests: exports of every kind, sound and unsound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tempfile::TempDir;
use tfnz::ids::Digest;
use tfnz::image::Image;
use tfnz::image::docker::{Daemon, DockerError, Settings};

use super::temp;
use crate::common::http::{Response, serve_unix};
use crate::common::images::{
    Collected, Compression, amd64, config, layer, layers, missing, read_all, read_whole, saved,
    saved_as_layout,
};

/// A daemon that has one image and counts how often it is exported.
struct FakeDaemon {
    _dir: TempDir,
    client: Daemon,
    exports: Arc<AtomicUsize>,
}

impl FakeDaemon {
    fn new(layers: &[Vec<u8>], export: Vec<u8>) -> Self {
        Self::with_export(layers, move || Response::new(200, export.clone()))
    }

    fn with_export(
        layers: &[Vec<u8>],
        export: impl Fn() -> Response + Send + Sync + 'static,
    ) -> Self {
        let dir = temp();
        let socket = dir.path().join("docker.sock");
        let digests: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let inspected = json!({
            "Id": Digest::of(&config(layers, "linux/amd64")), "Os": "linux", "Architecture": "amd64",
            "RepoTags": ["app:1"], "RootFS": {"Type": "layers", "Layers": digests}, "Config": {"Cmd": ["/bin/app"]},
        });
        let exports = Arc::new(AtomicUsize::new(0));
        let counter = exports.clone();
        serve_unix(&socket, move |request| {
            if request.path.ends_with("/json") {
                return Response::new(200, inspected.to_string())
                    .header("Content-Type", "application/json");
            }
            counter.fetch_add(1, Ordering::Relaxed);
            export()
        });
        let mut settings = Settings::default();
        settings.host = Some(format!("unix://{}", socket.display()));
        Self {
            _dir: dir,
            client: Daemon::new(&settings).expect("the socket is there"),
            exports,
        }
    }

    async fn image(&self) -> Image {
        self.client
            .image("app:1", &amd64())
            .await
            .expect("it has one image")
    }
}

#[tokio::test]
async fn exports_of_every_daemon_are_read_in_as_few_passes_as_they_allow() {
    let layers = layers();
    for (export, passes) in [
        // Since Docker 25: blobs are named by the digests of the tars.
        (
            saved_as_layout(&layers, Compression::Plain, "linux/amd64", "app:1"),
            1,
        ),
        // With containerd's store: blobs are compressed, and only what comes last tells which is which.
        (
            saved_as_layout(&layers, Compression::Gzip, "linux/amd64", "app:1"),
            2,
        ),
        (
            saved_as_layout(&layers, Compression::Zstd, "linux/amd64", "app:1"),
            2,
        ),
        // Directories that are named by something else than the digest that Docker before 25 uses.
        (
            saved(&layers, Compression::Plain, "linux/amd64", "app:1"),
            2,
        ),
    ] {
        let daemon = FakeDaemon::new(&layers, export.to_tar());
        let image = daemon.image().await;
        read_whole(&image).await;
        assert_eq!(daemon.exports.load(Ordering::Relaxed), passes);

        let digest = Digest::of(&layers[1]);
        let one = Collected::default();
        let source = image.source.expect("layers");
        source
            .read(&[missing(digest, 1000)], &one)
            .await
            .expect("read one");
        assert!(one.content(&digest) == layers[1][1000..]);
    }
}

#[tokio::test]
async fn an_export_that_breaks_off_or_makes_no_sense_is_an_error() {
    let layers = layers();
    let whole = saved_as_layout(&layers, Compression::Plain, "linux/amd64", "app:1").to_tar();
    for cut in [0, 1, 512, 10_000, whole.len() / 2] {
        let export = whole.clone();
        let daemon = FakeDaemon::with_export(&layers, move || Response {
            cut: Some(cut),
            ..Response::new(200, export.clone())
        });
        assert!(read_all(&daemon.image().await).await.is_err(), "{cut}");
    }
    let mut without = saved_as_layout(&layers, Compression::Plain, "linux/amd64", "app:1");
    without
        .files
        .remove(&format!("blobs/sha256/{}", Digest::of(&layers[1]).hex()));
    let other = saved(
        &[layer(&[("a", b"other")])],
        Compression::Plain,
        "linux/amd64",
        "other:1",
    );
    for export in [
        without.to_tar(),
        other.to_tar(),
        b"garbage".repeat(1000),
        Vec::new(),
    ] {
        let daemon = FakeDaemon::new(&layers, export);
        assert!(read_all(&daemon.image().await).await.is_err());
    }
    let daemon = FakeDaemon::with_export(&layers, || {
        Response::new(500, r#"{"message":"out of disk"}"#)
    });
    let error = read_all(&daemon.image().await)
        .await
        .expect_err("it failed");
    assert!(error.to_string().contains("out of disk"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_answers_nonsense_is_an_error() {
    let dir = temp();
    let socket = dir.path().join("docker.sock");
    serve_unix(&socket, |_| {
        Response::new(
            200,
            r#"{"Id":"../../etc","Os":"linux","Architecture":"amd64"}"#,
        )
    });
    let mut settings = Settings::default();
    settings.host = Some(format!("unix://{}", socket.display()));
    let client = Daemon::new(&settings).expect("the socket is there");
    let error = client.image("app", &amd64()).await.err().expect("nonsense");
    assert!(matches!(error, DockerError::Answer { .. }), "{error}");
    assert!(matches!(
        client.last_image().await,
        Err(DockerError::Answer { .. })
    ));
}
