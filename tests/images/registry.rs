//! Registries that behave well, badly, or not at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use serde_json::json;
use tfnz::ids::Digest;
use tfnz::image::reference::Reference;
use tfnz::image::registry::{self, RegistryError, Settings};

use super::fake_registry::{Behaviour, FakeRegistry};
use super::temp;
use crate::common::free_port;
use crate::common::http::{Response, serve, serve_on};
use crate::common::images::{
    Collected, Compression, Entries, amd64, config, layer, layers, layout, missing, platform,
    read_all, read_whole,
};

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
            read_whole(&image).await;
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
        read_whole(&image).await;
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

    let dir = temp();
    let login = base64::engine::general_purpose::STANDARD.encode("user:secret");
    let auths = json!({"auths": {registry.reference.registry(): {"auth": login}}});
    std::fs::write(dir.path().join("config.json"), auths.to_string()).expect("write");
    let mut settings = Settings::default();
    settings.config_dir = Some(dir.path().to_owned());
    let image = registry::image(&registry.reference, &amd64(), &settings)
        .await
        .expect("with login");
    read_whole(&image).await;
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
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
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
