//! Where an image is looked for by its name.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tfnz::ids::Digest;
use tfnz::image::resolve::NoneKnown;
use tfnz::image::{self, Description, KnownImages, ResolveError};

use super::{open, options, temp, write};
use crate::common::free_port;
use crate::common::images::{Compression, layers, layout, length_of_whole, platform};

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
    let name = format!("127.0.0.1:{}/app", free_port());
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
    let size = length_of_whole(&first).await;
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
