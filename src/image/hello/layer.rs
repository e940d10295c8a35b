//! The one layer of the image, the same bytes for the same files, and the cache of its digest.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::binary::{LIBRARIES, Part, Stamp, parts};
use super::{HelloError, PROGRAM, VERB};
use crate::ids::Digest;
use crate::image::delivery::{deliver_to, no_such_layer};
use crate::image::{Description, Image, ImageConfig, Layer, LayerSink, Platform, Port, Source};
use crate::protocol::messages::MissingLayer;

/// Name of the cache's file.
const CACHE_FILE: &str = "hello.json";

/// Version of the layer's form. A cache of another one is not believed.
const FORM: u32 = 1;

/// Size of a header, and what contents are padded to, in bytes.
const BLOCK: u64 = 512;

/// Bytes that are hashed at a time.
const BUFFER: usize = 128 * 1024;

/// What the cache holds: the layer's name for files of these stamps.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cached {
    form: u32,
    stamps: Vec<Stamp>,
    digest: Digest,
}

/// Makes the image.
pub(super) fn image(cache_dir: Option<&Path>) -> Result<Image, HelloError> {
    let content = LayerContent { parts: parts()? };
    let error = |source| HelloError::Binary {
        what: "cannot read its files".to_owned(),
        source,
    };
    let cache = cache_dir.map(|dir| dir.join(CACHE_FILE));
    let digest = if let Some(digest) = cache.as_ref().and_then(|path| cached(path, &content)) {
        digest
    } else {
        let digest = content.digest().map_err(error)?;
        if let Some(path) = &cache {
            keep(path, &content, digest);
        }
        digest
    };
    let layer = Layer {
        digest,
        size: Some(content.size()),
    };
    Ok(Image {
        description: describe(layer),
        names: vec![super::NAME.to_owned()],
        source: Some(Arc::new(Hello { content, digest })),
    })
}

fn describe(layer: Layer) -> Description {
    let mut description = Description {
        // Replaced below: the id covers all the rest.
        id: layer.digest,
        platform: Platform::host(),
        layers: vec![layer],
        config: ImageConfig {
            env: vec![format!("LD_LIBRARY_PATH={LIBRARIES}")],
            entrypoint: vec![PROGRAM.to_owned(), VERB.to_owned()],
            exposed_ports: [Port::tcp(80)].into(),
            ..ImageConfig::default()
        },
    };
    let json = serde_json::to_vec(&description).expect("a description has only what JSON can say");
    description.id = Digest::of(&json);
    description
}

fn cached(path: &Path, content: &LayerContent) -> Option<Digest> {
    let cached: Cached = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (cached.form == FORM && cached.stamps == content.stamps()).then_some(cached.digest)
}

/// Keeps the digest. Failing costs the time to calculate it again, so it is no error.
fn keep(path: &Path, content: &LayerContent, digest: Digest) {
    let cached = Cached {
        form: FORM,
        stamps: content.stamps(),
        digest,
    };
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        // Written beside and renamed, so that nobody reads a half of it.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        std::fs::write(&new, serde_json::to_vec(&cached)?)?;
        std::fs::rename(&new, path).inspect_err(|_| drop(std::fs::remove_file(&new)))
    };
    if let Err(error) = write() {
        tracing::debug!(
            "cannot keep the digest of `hello` in {}: {error}",
            path.display()
        );
    }
}

/// The layer as a tar that is made while it is read.
#[derive(Debug, Clone)]
struct LayerContent {
    parts: Vec<Part>,
}

impl LayerContent {
    fn stamps(&self) -> Vec<Stamp> {
        self.parts.iter().map(|part| part.stamp.clone()).collect()
    }

    /// Directories above the files, upper ones first.
    fn directories(&self) -> Vec<PathBuf> {
        let mut directories: Vec<PathBuf> = self
            .parts
            .iter()
            .flat_map(|part| {
                Path::new(part.target.trim_start_matches('/'))
                    .ancestors()
                    .skip(1)
            })
            .filter(|path| !path.as_os_str().is_empty())
            .map(Path::to_owned)
            .collect();
        directories.sort();
        directories.dedup();
        directories
    }

    /// Length of the tar, in bytes.
    fn size(&self) -> u64 {
        let files: u64 = self
            .parts
            .iter()
            .map(|part| BLOCK + part.stamp.size.next_multiple_of(BLOCK))
            .sum();
        files + BLOCK * self.directories().len() as u64 + 2 * BLOCK
    }

    /// The tar from its start.
    fn read(&self) -> io::Result<impl Read + use<>> {
        let mut pieces: Vec<Box<dyn Read + Send>> = Vec::new();
        for directory in self.directories() {
            let header = header(&directory, tar::EntryType::Directory, 0)?;
            pieces.push(Box::new(io::Cursor::new(header)));
        }
        for part in &self.parts {
            let size = part.stamp.size;
            let path = Path::new(part.target.trim_start_matches('/'));
            let header = header(path, tar::EntryType::Regular, size)?;
            pieces.push(Box::new(io::Cursor::new(header)));
            pieces.push(Box::new(exact(File::open(&part.source)?, size)));
            pieces.push(Box::new(
                io::repeat(0).take(size.next_multiple_of(BLOCK) - size),
            ));
        }
        pieces.push(Box::new(io::repeat(0).take(2 * BLOCK)));
        Ok(Joined {
            pieces: pieces.into_iter().collect(),
        })
    }

    fn digest(&self) -> io::Result<Digest> {
        let mut tar = self.read()?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match tar.read(&mut buffer)? {
                0 => return Ok(Digest::new(hasher.finalize().into())),
                length => hasher.update(&buffer[..length]),
            }
        }
    }
}

fn header(path: &Path, kind: tar::EntryType, size: u64) -> io::Result<[u8; 512]> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// The first `size` bytes of a file; an error if it has become shorter.
fn exact(file: File, size: u64) -> impl Read {
    Exact {
        file: file.take(size),
    }
}

struct Exact {
    file: io::Take<File>,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        if length == 0 && !buffer.is_empty() && self.file.limit() > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file of this program has been truncated since it was started",
            ));
        }
        Ok(length)
    }
}

/// Readers one after another.
struct Joined {
    pieces: std::collections::VecDeque<Box<dyn Read + Send>>,
}

impl Read for Joined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.pieces.front_mut() {
            match piece.read(buffer)? {
                0 if !buffer.is_empty() => drop(self.pieces.pop_front()),
                length => return Ok(length),
            }
        }
        Ok(0)
    }
}

/// The layer of this program.
struct Hello {
    content: LayerContent,
    digest: Digest,
}

impl Source for Hello {
    fn read<'a>(
        &'a self,
        wanted: &'a [MissingLayer],
        sink: &'a dyn LayerSink,
    ) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let Some(first) = wanted.first() else {
                return Ok(());
            };
            if let Some(other) = wanted
                .iter()
                .find(|wanted| wanted.layer.digest != self.digest)
            {
                return Err(no_such_layer(&other.layer.digest));
            }
            let (content, wanted) = (self.content.clone(), first.clone());
            deliver_to(sink, move |deliveries| {
                deliveries.deliver(&wanted, content.read())
            })
            .await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_is_a_tar_of_the_files_and_always_the_same() {
        let content = LayerContent {
            parts: parts().expect("parts"),
        };
        let mut bytes = Vec::new();
        content
            .read()
            .expect("read")
            .read_to_end(&mut bytes)
            .expect("read");
        assert_eq!(bytes.len() as u64, content.size());
        assert_eq!(content.digest().expect("digest"), Digest::of(&bytes));

        let mut archive = tar::Archive::new(&bytes[..]);
        let paths: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                entry
                    .expect("entry")
                    .path()
                    .expect("path")
                    .display()
                    .to_string()
            })
            .collect();
        assert!(paths.contains(&"tf".to_owned()), "{paths:?}");
        assert!(paths.iter().all(|path| !path.starts_with('/')), "{paths:?}");
    }

    #[test]
    fn the_digest_is_kept_for_the_same_files_only() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = dir.path().join("new").join(CACHE_FILE);
        let mut content = LayerContent {
            parts: parts().expect("parts"),
        };
        // A digest that cannot be the real one shows that nothing was read.
        let kept = Digest::of(b"kept");
        keep(&cache, &content, kept);
        assert_eq!(cached(&cache, &content), Some(kept));
        assert_eq!(
            image(cache.parent()).expect("image").description.layers[0].digest,
            kept
        );

        content.parts[0].stamp.modified.1 += 1;
        assert_eq!(cached(&cache, &content), None);
        std::fs::write(&cache, "{").expect("write");
        let made = image(cache.parent()).expect("a damaged cache is no error");
        assert_ne!(made.description.layers[0].digest, kept);
    }

    #[test]
    fn the_image_says_how_it_is_run() {
        let description = image(None).expect("image").description;
        assert_eq!(description.platform, Platform::host());
        assert_eq!(description.config.entrypoint, ["/tf", "__hello"]);
        assert!(description.config.exposed_ports.contains(&Port::tcp(80)));
    }
}
