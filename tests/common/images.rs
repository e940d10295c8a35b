//! Small images for tests, in every form that images come in, and a sink that takes their layers.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tfnz::ids::Digest;
use tfnz::image::{Description, Image, Layer, LayerReader, LayerSink, Platform};
use tfnz::protocol::messages::MissingLayer;

/// How content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Gzip, Self::Zstd];

    pub(crate) fn apply(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => content.to_vec(),
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).expect("write to memory");
                encoder.finish().expect("write to memory")
            }
            Self::Zstd => zstd::encode_all(content, 1).expect("compress in memory"),
        }
    }
}

/// The uncompressed tar of a layer with these files.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, path, *content)
            .expect("write to memory");
    }
    builder.into_inner().expect("write to memory")
}

/// Three layers, of which the last is larger than any buffer and the first comes twice.
pub(crate) fn layers() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..700_000u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let first = layer(&[("etc/motd", b"first")]);
    vec![
        first.clone(),
        layer(&[("bin/app", &noise), ("etc/motd", b"second")]),
        first,
    ]
}

/// A configuration for these layers.
pub(crate) fn config(layers: &[Vec<u8>], platform: &str) -> Vec<u8> {
    let (os, architecture) = platform.split_once('/').expect("os/architecture");
    let (architecture, variant) = architecture.split_once('/').unwrap_or((architecture, ""));
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({
        "created": "1970-01-01T00:00:00Z", "os": os, "architecture": architecture, "variant": variant,
        "config": {"Cmd": ["/bin/app"], "Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}, "Entrypoint": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    serde_json::to_vec(&config).expect("valid")
}

/// The platform that the tests' images are for unless they say otherwise.
pub(crate) fn amd64() -> Platform {
    platform("linux/amd64")
}

/// Reads `os/architecture`.
pub(crate) fn platform(text: &str) -> Platform {
    let (os, architecture) = text.split_once('/').expect("os/architecture");
    Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: None,
    }
}

/// The entries of an archive or layout, by path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) links: BTreeMap<String, String>,
}

impl Entries {
    /// Adds a blob and returns its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let digest = Digest::of(&content);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": content.len()});
        self.files
            .insert(format!("blobs/sha256/{}", digest.hex()), content);
        descriptor
    }

    /// Adds an image and returns the descriptor of its manifest.
    pub(crate) fn image(
        &mut self,
        layers: &[Vec<u8>],
        compression: Compression,
        platform: &str,
    ) -> Value {
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config(layers, platform),
        );
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| {
                self.blob(
                    "application/vnd.oci.image.layer.v1.tar",
                    compression.apply(layer),
                )
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.json_blob("application/vnd.oci.image.manifest.v1+json", &manifest)
    }

    /// Adds a document as a blob and returns its descriptor.
    pub(crate) fn json_blob(&mut self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, serde_json::to_vec(document).expect("valid"))
    }

    /// Adds an index as a blob and returns its descriptor.
    pub(crate) fn index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.json_blob("application/vnd.oci.image.index.v1+json", &index)
    }

    /// Adds a document under a name.
    pub(crate) fn document(&mut self, name: &str, document: &Value) {
        self.files.insert(
            name.to_owned(),
            serde_json::to_vec(document).expect("valid"),
        );
    }

    /// Makes it an OCI layout whose top index lists `manifests`.
    pub(crate) fn finish_layout(&mut self, manifests: &[Value]) {
        self.document("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}));
        self.document(
            "index.json",
            &json!({"schemaVersion": 2, "manifests": manifests}),
        );
    }

    /// Writes it as a directory.
    pub(crate) fn write_directory(&self, path: &Path) {
        for (name, content) in &self.files {
            let path = path.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make directory");
            fs::write(path, content).expect("write file");
        }
    }

    /// It as a tar, links last.
    pub(crate) fn to_tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            // Set as it is: the usual way refuses the paths that hostile archives have.
            header.as_gnu_mut().expect("a GNU header").name[..name.len()]
                .copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder
                .append(&header, &content[..])
                .expect("write to memory");
        }
        for (name, target) in &self.links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder
                .append_link(&mut header, name, target)
                .expect("write to memory");
        }
        builder.into_inner().expect("write to memory")
    }

    /// Writes it as a tar, compressed as a whole.
    pub(crate) fn write_tar(&self, path: &Path, compression: Compression) {
        fs::write(path, compression.apply(&self.to_tar())).expect("write file");
    }
}

/// An OCI layout with one image.
pub(crate) fn layout(layers: &[Vec<u8>], compression: Compression, platform: &str) -> Entries {
    let mut entries = Entries::default();
    let manifest = entries.image(layers, compression, platform);
    entries.finish_layout(&[manifest]);
    entries
}

/// What `docker save` writes before version 25: a directory per layer, links for those that come again.
pub(crate) fn saved(
    layers: &[Vec<u8>],
    compression: Compression,
    platform: &str,
    name: &str,
) -> Entries {
    let mut entries = Entries::default();
    let config = config(layers, platform);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    entries.files.insert(config_name.clone(), config);
    let mut first = HashMap::new();
    let mut paths = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let directory = Digest::of(format!("{name}{index}").as_bytes()).hex();
        let path = format!("{directory}/layer.tar");
        if let Some(earlier) = first.get(layer) {
            entries.links.insert(path.clone(), format!("../{earlier}"));
        } else {
            entries.files.insert(path.clone(), compression.apply(layer));
            first.insert(layer.clone(), path.clone());
        }
        paths.push(path);
    }
    let list = json!([{"Config": config_name, "RepoTags": [name], "Layers": paths}]);
    entries.document("manifest.json", &list);
    entries
}

/// What `docker save` writes since version 25: an OCI layout with a `manifest.json`.
pub(crate) fn saved_as_layout(
    layers: &[Vec<u8>],
    compression: Compression,
    platform: &str,
    name: &str,
) -> Entries {
    let mut entries = Entries::default();
    let mut manifest = entries.image(layers, compression, platform);
    manifest["annotations"] =
        json!({"io.containerd.image.name": format!("docker.io/library/{name}")});
    entries.finish_layout(&[manifest]);
    let path = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).hex());
    let paths: Vec<_> = layers
        .iter()
        .map(|layer| path(&compression.apply(layer)))
        .collect();
    let list =
        json!([{"Config": path(&config(layers, platform)), "RepoTags": [name], "Layers": paths}]);
    entries.document("manifest.json", &list);
    entries
}

/// All layers of an image as a location without any of them would ask for them.
pub(crate) fn all_missing(description: &Description) -> Vec<MissingLayer> {
    let mut missing: Vec<MissingLayer> = Vec::new();
    for layer in &description.layers {
        if missing
            .iter()
            .all(|other| other.layer.digest != layer.digest)
        {
            missing.push(MissingLayer {
                layer: layer.clone(),
                offset: 0,
            });
        }
    }
    missing
}

/// One layer from an offset on.
pub(crate) fn missing(digest: Digest, offset: u64) -> MissingLayer {
    MissingLayer {
        layer: Layer { digest, size: None },
        offset,
    }
}

/// Keeps the layers that it is given.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) layers: Mutex<HashMap<Digest, Vec<u8>>>,
}

impl Collected {
    /// Checks that it has the layers of the image and nothing else, each with the content of its name.
    pub(crate) fn assert_complete(&self, description: &Description) {
        let layers = self.layers.lock().expect("no panic while it was held");
        for (digest, content) in layers.iter() {
            assert_eq!(Digest::of(content), *digest);
        }
        for layer in &description.layers {
            let content = layers.get(&layer.digest).expect("every layer has come");
            assert!(layer.size.is_none_or(|size| size == content.len() as u64));
        }
        assert_eq!(layers.len(), all_missing(description).len());
    }

    /// The content of a layer.
    pub(crate) fn content(&self, digest: &Digest) -> Vec<u8> {
        self.layers.lock().expect("no panic while it was held")[digest].clone()
    }
}

impl LayerSink for Collected {
    fn layer<'a>(
        &'a self,
        wanted: &'a MissingLayer,
        mut tar: LayerReader,
    ) -> BoxFuture<'a, io::Result<()>> {
        async move {
            use tokio::io::AsyncReadExt as _;
            let mut content = Vec::new();
            tar.read_to_end(&mut content).await?;
            let mut layers = self.layers.lock().expect("no panic while it was held");
            assert!(
                layers.insert(wanted.layer.digest, content).is_none(),
                "a layer came twice"
            );
            Ok(())
        }
        .boxed()
    }
}

/// Reads all layers of an image that has them at hand.
pub(crate) async fn read_all(image: &Image) -> io::Result<Collected> {
    let collected = Collected::default();
    read_into(image, &collected).await?;
    Ok(collected)
}

/// The same for an image that is to be whole.
pub(crate) async fn read_whole(image: &Image) -> Collected {
    let collected = read_all(image).await.expect("read");
    collected.assert_complete(&image.description);
    collected
}

/// How long all layers of an image together are, of any length, which is to be whole.
pub(crate) async fn length_of_whole(image: &Image) -> u64 {
    let verified = Verified::default();
    read_into(image, &verified).await.expect("read");
    verified.bytes.into_inner()
}

async fn read_into(image: &Image, sink: &dyn LayerSink) -> io::Result<()> {
    let source = image.source.as_ref().expect("it has layers");
    source.read(&all_missing(&image.description), sink).await
}

/// Checks digests and keeps nothing, as a location does with layers of any size.
#[derive(Debug, Default)]
struct Verified {
    bytes: std::sync::atomic::AtomicU64,
}

impl LayerSink for Verified {
    fn layer<'a>(
        &'a self,
        wanted: &'a MissingLayer,
        mut tar: LayerReader,
    ) -> BoxFuture<'a, io::Result<()>> {
        async move {
            use sha2::Digest as _;
            use tokio::io::AsyncReadExt as _;
            let mut hasher = sha2::Sha256::new();
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let length = tar.read(&mut buffer).await?;
                if length == 0 {
                    break;
                }
                hasher.update(&buffer[..length]);
                self.bytes
                    .fetch_add(length as u64, std::sync::atomic::Ordering::Relaxed);
            }
            let found = Digest::new(hasher.finalize().into());
            assert_eq!(found, wanted.layer.digest);
            Ok(())
        }
        .boxed()
    }
}

/// The most memory that this process has had, in bytes.
pub(crate) fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    let kilobytes = line
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number");
    kilobytes * 1024
}

/// Writes an OCI archive with one layer of `size` bytes in constant memory, and returns the layer's digest.
pub(crate) fn write_large(path: &Path, size: u64) -> Digest {
    use sha2::Digest as _;
    use std::io::{Read as _, Seek as _};
    // The layer is a tar with one file of zeros, of which the file system keeps none.
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").expect("short");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let padded = size.next_multiple_of(512);
    let mut layer = io::Cursor::new(*header.as_bytes()).chain(io::repeat(0).take(padded + 1024));
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match layer.read(&mut buffer).expect("read memory") {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    let digest = Digest::new(hasher.finalize().into());
    let layer_size = 512 + padded + 1024;

    let mut entries = Entries::default();
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest]}});
    let config = entries.json_blob("application/vnd.oci.image.config.v1+json", &config);
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer_size});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = entries.json_blob("application/vnd.oci.image.manifest.v1+json", &manifest);
    entries.finish_layout(&[manifest]);
    let start = entries.to_tar();
    // Without the two blocks of zeros that end an archive.
    let mut file = File::create(path).expect("create");
    file.write_all(&start[..start.len() - 1024]).expect("write");
    let mut outer = tar::Header::new_gnu();
    outer
        .set_path(format!("blobs/sha256/{}", digest.hex()))
        .expect("short");
    outer.set_size(layer_size);
    outer.set_mode(0o644);
    outer.set_cksum();
    file.write_all(outer.as_bytes()).expect("write");
    file.write_all(header.as_bytes()).expect("write");
    let end = file.stream_position().expect("position") + padded + 1024 + 1024;
    file.set_len(end.next_multiple_of(512)).expect("set length");
    digest
}
