//! Archives of images, opened: what `docker save` writes and OCI layouts in a tar.

use std::fs;

use tfnz::image::archive::open;
use tfnz::protocol::image::Platform;

use super::layers::{entry, with_checksums};

/// Opens the bytes as a file.
pub fn run(data: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers needs nothing");
    }
    let Ok(file) = tempfile::NamedTempFile::new() else {
        return;
    };
    fs::write(file.path(), with_checksums(data)).expect("it is ours");
    let opened =
        RUNTIME.with(|runtime| runtime.block_on(open(file.path(), None, &Platform::host())));
    let _ = opened;
}

/// A `docker save` archive without layers, and an OCI layout that leads nowhere.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let platform = Platform::host();
    let config = format!(
        r#"{{"os":"{}","architecture":"{}","config":{{"Cmd":["sh"],"ExposedPorts":{{"80/tcp":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#,
        platform.os, platform.architecture
    );
    let manifest = br#"[{"Config":"config.json","RepoTags":["a:b"],"Layers":[]}]"#;
    let index = br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2}]}"#;
    let end = vec![0; 1024];
    vec![
        [
            entry(b'0', "manifest.json", "", manifest),
            entry(b'0', "config.json", "", config.as_bytes()),
            end.clone(),
        ]
        .concat(),
        [
            entry(b'0', "oci-layout", "", br#"{"imageLayoutVersion":"1.0.0"}"#),
            entry(b'0', "index.json", "", index),
            entry(
                b'0',
                "blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "",
                b"{}",
            ),
            end,
        ]
        .concat(),
    ]
}
