//! Sources that are servers, played by the tests: exports of every kind of Docker daemon, registries that behave well,
//! badly, or not at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::{Value, json};
use tfnz::ids::Digest;
use tfnz::image::docker::{Daemon, DockerError, Settings as DockerSettings};
use tfnz::image::reference::Reference;
use tfnz::image::registry::{self, RegistryError, Settings};
use tfnz::image::{Image, Platform};

use crate::common::http::{Request, Response, serve, serve_on, serve_unix};
use crate::common::images::{
    Collected, Compression, Entries, all_missing, amd64, config, layer, layers, layout, missing,
    platform, saved, saved_as_layout,
};

/// A daemon that has one image and counts how often it is exported.
struct FakeDaemon {
    _dir: tempfile::TempDir,
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
        let dir = tempfile::tempdir().expect("temporary directory");
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
        let mut settings = DockerSettings::default();
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

async fn read_all(image: &Image) -> std::io::Result<Collected> {
    let collected = Collected::default();
    let source = image.source.as_ref().expect("layers");
    source
        .read(&all_missing(&image.description), &collected)
        .await?;
    Ok(collected)
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
        read_all(&image)
            .await
            .expect("read")
            .assert_complete(&image.description);
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
    let dir = tempfile::tempdir().expect("temporary directory");
    let socket = dir.path().join("docker.sock");
    serve_unix(&socket, |_| {
        Response::new(
            200,
            r#"{"Id":"../../etc","Os":"linux","Architecture":"amd64"}"#,
        )
    });
    let mut settings = DockerSettings::default();
    settings.host = Some(format!("unix://{}", socket.display()));
    let client = Daemon::new(&settings).expect("the socket is there");
    let error = client.image("app", &amd64()).await.err().expect("nonsense");
    assert!(matches!(error, DockerError::Answer { .. }), "{error}");
    assert!(matches!(
        client.last_image().await,
        Err(DockerError::Answer { .. })
    ));
}

/// How a registry treats its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Good,
    /// Never sends parts of a blob.
    NoRanges,
    /// Breaks every answer of a blob off after this many bytes.
    Breaks(usize),
    /// Wants a token, which a user and password are given for.
    Tokens,
    /// Flips a bit in the middle of each layer.
    Damages,
    /// Goes on sending after the end of a blob.
    TooMuch,
}

/// A registry with one repository, `app`, of which `latest` is the given document.
struct FakeRegistry {
    reference: Reference,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeRegistry {
    fn new(entries: &Entries, behaviour: Behaviour) -> Self {
        let index: Value = serde_json::from_slice(&entries.files["index.json"]).expect("valid");
        let top = index["manifests"][0]["digest"]
            .as_str()
            .expect("a digest")
            .to_owned();
        let blobs: BTreeMap<String, Vec<u8>> = entries
            .files
            .iter()
            .filter_map(|(name, content)| {
                Some((
                    format!("sha256:{}", name.strip_prefix("blobs/sha256/")?),
                    content.clone(),
                ))
            })
            .collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = requests.clone();
        let address = serve(move |request| {
            noted
                .lock()
                .expect("no panic while it was held")
                .push(request.clone());
            respond(request, &blobs, &top, behaviour)
        });
        Self {
            reference: format!("{address}/app").parse().expect("a name"),
            requests,
        }
    }

    async fn image(&self, platform: &Platform) -> Result<Image, RegistryError> {
        registry::image(&self.reference, platform, &Settings::default()).await
    }

    /// The `Range` headers of all requests for this blob.
    fn ranges(&self, digest: &Digest) -> Vec<Option<String>> {
        let requests = self.requests.lock().expect("no panic while it was held");
        let requests = requests
            .iter()
            .filter(|request| request.path.ends_with(&digest.to_string()));
        requests
            .map(|request| request.headers.get("range").cloned())
            .collect()
    }
}

fn respond(
    request: &Request,
    blobs: &BTreeMap<String, Vec<u8>>,
    top: &str,
    behaviour: Behaviour,
) -> Response {
    let host = &request.headers["host"];
    if behaviour == Behaviour::Tokens {
        let authorization = request.headers.get("authorization").map(String::as_str);
        if request.path.starts_with("/token") {
            let login = base64::engine::general_purpose::STANDARD.encode("user:secret");
            let right = authorization == Some(&format!("Basic {login}"));
            assert!(
                !right || request.path.contains("scope=repository%3Aapp%3Apull"),
                "{}",
                request.path
            );
            return if right {
                Response::new(200, r#"{"token":"the-token"}"#)
            } else {
                Response::new(401, "wrong password")
            };
        }
        if authorization != Some("Bearer the-token") {
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="test""#);
            return Response::new(
                401,
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#,
            )
            .header("WWW-Authenticate", challenge);
        }
    }
    if request.path == "/v2/" {
        return Response::new(200, "{}");
    }
    let (kind, name) = match request
        .path
        .strip_prefix("/v2/app/")
        .and_then(|path| path.split_once('/'))
    {
        Some(("manifests", "latest")) => ("manifests", top),
        Some((kind, name)) => (kind, name),
        None => ("", ""),
    };
    let Some(content) = blobs.get(name) else {
        return Response::new(
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#,
        );
    };
    let mut content = content.clone();
    if kind == "manifests" || content.starts_with(b"{") {
        return Response::new(200, content).header("Docker-Content-Digest", name);
    }
    if behaviour == Behaviour::Damages {
        let middle = content.len() / 2;
        content[middle] ^= 1;
    }
    if behaviour == Behaviour::TooMuch {
        content.extend(b"more".repeat(100_000));
    }
    let start = request
        .headers
        .get("range")
        .filter(|_| behaviour != Behaviour::NoRanges)
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
    let status = if start.is_some() { 206 } else { 200 };
    let mut response = Response::new(status, &content[start.unwrap_or(0)..]);
    if let Behaviour::Breaks(after) = behaviour
        && response.body.len() > after
    {
        response.cut = Some(after);
    }
    response
}

#[tokio::test]
async fn layers_of_a_registry_are_read_whatever_their_compression() {
    for compression in Compression::ALL {
        for behaviour in [Behaviour::Good, Behaviour::NoRanges, Behaviour::TooMuch] {
            let registry =
                FakeRegistry::new(&layout(&layers(), compression, "linux/amd64"), behaviour);
            let image = registry.image(&amd64()).await.expect("image");
            assert_eq!(image.names, [registry.reference.to_string()]);
            assert_eq!(
                image.description.id,
                Digest::of(&config(&layers(), "linux/amd64"))
            );
            read_all(&image)
                .await
                .expect("read")
                .assert_complete(&image.description);
        }
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    for compression in Compression::ALL {
        let blob = compression.apply(&layers()[1]);
        let third = blob.len() / 3 + 1;
        let entries = layout(&layers(), compression, "linux/amd64");
        let registry = FakeRegistry::new(&entries, Behaviour::Breaks(third));
        let image = registry.image(&amd64()).await.expect("image");
        read_all(&image)
            .await
            .expect("read")
            .assert_complete(&image.description);
        let ranges = registry.ranges(&Digest::of(&blob));
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        let starts: Vec<_> = ranges.into_iter().flatten().collect();
        assert_eq!(
            starts,
            [
                "bytes=0-".to_owned(),
                format!("bytes={third}-"),
                format!("bytes={}-", 2 * third)
            ]
        );
    }
    let registry = FakeRegistry::new(
        &layout(&layers(), Compression::Plain, "linux/amd64"),
        Behaviour::Breaks(0),
    );
    let image = registry.image(&amd64()).await.expect("image");
    let error = read_all(&image).await.expect_err("it never sends anything");
    assert!(error.to_string().contains("broke off"), "{error}");
}

#[tokio::test]
async fn an_upload_that_goes_on_downloads_only_the_rest_of_a_plain_layer() {
    let layers = layers();
    let digest = Digest::of(&layers[1]);
    for behaviour in [Behaviour::Good, Behaviour::NoRanges] {
        for compression in Compression::ALL {
            let registry =
                FakeRegistry::new(&layout(&layers, compression, "linux/amd64"), behaviour);
            let image = registry.image(&amd64()).await.expect("image");
            let collected = Collected::default();
            let source = image.source.expect("layers");
            source
                .read(&[missing(digest, 500_000)], &collected)
                .await
                .expect("read");
            assert!(collected.content(&digest) == layers[1][500_000..]);
            let range = registry.ranges(&Digest::of(&compression.apply(&layers[1])))[0].clone();
            let expected = if compression == Compression::Plain {
                "bytes=500000-"
            } else {
                "bytes=0-"
            };
            assert_eq!(range.as_deref(), Some(expected));
        }
    }
}

#[tokio::test]
async fn damaged_layers_of_a_registry_are_noticed() {
    for compression in Compression::ALL {
        let registry = FakeRegistry::new(
            &layout(&layers(), compression, "linux/amd64"),
            Behaviour::Damages,
        );
        let image = registry.image(&amd64()).await.expect("image");
        assert!(read_all(&image).await.is_err(), "{compression:?}");
    }
}

#[tokio::test]
async fn a_platform_is_chosen_from_an_index_of_a_registry() {
    let mut entries = Entries::default();
    let one = vec![layer(&[("which", b"amd64")])];
    let two = vec![layer(&[("which", b"arm64")])];
    let mut amd = entries.image(&one, Compression::Gzip, "linux/amd64");
    amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
    // The index does not say what this one is for; its configuration does.
    let arm = entries.image(&two, Compression::Gzip, "linux/arm64");
    let index = entries.index(&[arm, amd]);
    entries.finish_layout(&[index]);
    let registry = FakeRegistry::new(&entries, Behaviour::Good);
    for (wanted, layers) in [("linux/amd64", &one), ("linux/arm64", &two)] {
        let image = registry.image(&platform(wanted)).await.expect("image");
        assert_eq!(image.description.layers[0].digest, Digest::of(&layers[0]));
    }
    let error = registry
        .image(&platform("linux/s390x"))
        .await
        .err()
        .expect("none");
    assert!(matches!(error, RegistryError::Platform(_)), "{error}");
}

#[tokio::test]
async fn a_token_is_had_for_a_login_and_without_one_access_is_refused() {
    let entries = layout(&layers(), Compression::Gzip, "linux/amd64");
    let registry = FakeRegistry::new(&entries, Behaviour::Tokens);
    let error = registry.image(&amd64()).await.err().expect("no login");
    assert!(
        matches!(error, RegistryError::Unauthorized { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&format!("docker login {}", registry.reference.registry())),
        "{text}"
    );

    let dir = tempfile::tempdir().expect("temporary directory");
    let login = base64::engine::general_purpose::STANDARD.encode("user:secret");
    let auths = json!({"auths": {registry.reference.registry(): {"auth": login}}});
    std::fs::write(dir.path().join("config.json"), auths.to_string()).expect("write");
    let mut settings = Settings::default();
    settings.config_dir = Some(dir.path().to_owned());
    let image = registry::image(&registry.reference, &amd64(), &settings)
        .await
        .expect("with login");
    read_all(&image)
        .await
        .expect("read")
        .assert_complete(&image.description);
}

#[tokio::test]
async fn what_a_registry_lacks_or_garbles_is_told_apart() {
    let entries = layout(&layers(), Compression::Gzip, "linux/amd64");
    let registry = FakeRegistry::new(&entries, Behaviour::Good);
    let other: Reference = format!(
        "{}:other",
        registry.reference.to_string().trim_end_matches(":latest")
    )
    .parse()
    .expect("a name");
    let error = registry::image(&other, &amd64(), &Settings::default())
        .await
        .err()
        .expect("unknown");
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");

    for (status, body) in [
        (200, "not JSON"),
        (200, "{}"),
        (500, "oops"),
        (429, "slow down"),
        (200, ""),
    ] {
        let address = serve(move |request| {
            if request.path == "/v2/" {
                Response::new(200, "{}")
            } else {
                Response::new(status, body)
            }
        });
        let reference: Reference = format!("{address}/app").parse().expect("a name");
        let error = registry::image(&reference, &amd64(), &Settings::default())
            .await
            .err()
            .expect("garbled");
        let expected = match status {
            200 => matches!(error, RegistryError::Malformed { .. }),
            429 => matches!(error, RegistryError::TooManyRequests { .. }),
            _ => matches!(error, RegistryError::Failed { .. }),
        };
        assert!(expected, "{status} {body}: {error:?}");
    }
}

#[tokio::test]
async fn a_configuration_without_end_is_not_taken_into_memory() {
    let mut entries = Entries::default();
    let config = entries.blob("application/vnd.oci.image.config.v1+json", b"{}".to_vec());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
    let manifest = entries.json_blob("application/vnd.oci.image.manifest.v1+json", &manifest);
    let manifest_digest = manifest["digest"].as_str().expect("a digest").to_owned();
    let manifest = entries.files[&format!("blobs/sha256/{}", &manifest_digest[7..])].clone();
    let address = serve(move |request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        path if path.contains("/manifests/") => Response::new(200, manifest.clone()),
        _ => Response::new(200, vec![b' '; 20 << 20]),
    });
    let reference: Reference = format!("{address}/app").parse().expect("a name");
    let error = registry::image(&reference, &amd64(), &Settings::default())
        .await
        .err()
        .expect("endless");
    assert!(error.to_string().contains("more than"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_no_registry_does_not_hold_anybody_up() {
    // Nothing listens there; a server that closes at once; one that speaks something else.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let nobody = free.local_addr().expect("address");
    drop(free);
    let closing = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let closes = closing.local_addr().expect("address");
    std::thread::spawn(move || closing.incoming().for_each(drop));
    for (address, unreachable) in [(nobody, true), (closes, false)] {
        let reference: Reference = format!("{address}/app").parse().expect("a name");
        let error = registry::image(&reference, &amd64(), &Settings::default())
            .await
            .err()
            .expect("no registry");
        assert_eq!(
            matches!(error, RegistryError::Unreachable { .. }),
            unreachable,
            "{error}"
        );
    }
}

#[tokio::test]
async fn plain_http_is_not_spoken_to_other_machines() {
    // The address of this machine by which others know it: nothing is sent to find it out.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
    let own = socket
        .connect("192.0.2.1:9")
        .and_then(|()| socket.local_addr());
    let Ok(std::net::IpAddr::V4(own)) = own.map(|address| address.ip()) else {
        return;
    };
    let spoken = Arc::new(AtomicUsize::new(0));
    let counter = spoken.clone();
    let address = serve_on(own, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Response::new(200, "{}")
    });
    let reference: Reference = format!("{address}/app").parse().expect("a name");
    let error = registry::image(&reference, &amd64(), &Settings::default())
        .await
        .err()
        .expect("no TLS there");
    assert!(matches!(error, RegistryError::NoTls { .. }), "{error}");
    assert!(error.to_string().contains("plain HTTP"), "{error}");
    assert_eq!(spoken.load(Ordering::Relaxed), 0);
}
