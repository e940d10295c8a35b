//! Which images an archive holds, and the one that is meant.

use std::io::Read as _;

use super::ArchiveError;
use super::storage::{Part, Storage, blob_name};
use crate::ids::Digest;
use crate::image::compression::Compression;
use crate::image::manifest::{
    self, Descriptor, Document, MAX_DEPTH, MAX_MANIFESTS, Manifest, SavedImage,
};
use crate::image::platform::best;
use crate::image::reference::Reference;
use crate::image::{Description, Platform};

/// Annotations that name an image: its whole name, or often only its tag.
const NAME_ANNOTATIONS: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// An image of an archive.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) description: Description,
    /// Where its layers are, in the order of the description.
    pub(super) layers: Vec<StoredLayer>,
}

/// A layer in an archive.
#[derive(Debug, Clone)]
pub(super) struct StoredLayer {
    /// Digest of the uncompressed tar.
    pub(super) digest: Digest,
    /// Digest of the part as it is, compressed or not, where the archive tells it.
    pub(super) blob: Option<Digest>,
    pub(super) part: Part,
}

/// An image that may be the one that is meant.
#[derive(Debug)]
struct Candidate {
    names: Vec<String>,
    platform: Platform,
    /// Tells whether two candidates are the same image under two names.
    identity: Digest,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A manifest that has not been read yet.
    Manifest(Descriptor),
    Saved(SavedImage, Box<Description>),
}

/// Finds the image called `name`, or the only one, that suits `wanted`.
pub(super) fn select(
    storage: &Storage,
    name: Option<&str>,
    wanted: &Platform,
) -> Result<Selected, ArchiveError> {
    // Docker since 25 writes both files; the index has digests to verify.
    let candidates = if let Some(index) = storage.find("index.json")? {
        from_index(storage, &index)?
    } else if let Some(list) = storage.find("manifest.json")? {
        from_list(storage, &list)?
    } else {
        return Err(not_an_image(
            storage,
            "it has neither `index.json` nor `manifest.json`",
        ));
    };
    if candidates.is_empty() {
        return Err(not_an_image(storage, "no image is listed in it"));
    }
    match choose(storage, candidates, name, wanted)? {
        Content::Manifest(descriptor) => {
            let manifest = read_manifest(storage, &descriptor)?;
            let config = read_config(storage, &manifest.config)?;
            with_blobs(storage, config, &manifest)
        }
        Content::Saved(saved, description) => with_parts(storage, *description, &saved),
    }
}

fn choose(
    storage: &Storage,
    candidates: Vec<Candidate>,
    name: Option<&str>,
    wanted: &Platform,
) -> Result<Content, ArchiveError> {
    let path = storage.path().to_owned();
    let mut names = all_names(&candidates);
    let mut meant = candidates;
    if let Some(name) = name {
        meant.retain(|candidate| candidate.names.iter().any(|own| is_called(own, name)));
        if meant.is_empty() {
            return Err(ArchiveError::NoSuchImage {
                path,
                name: name.to_owned(),
                names,
            });
        }
    }
    let ranked = meant
        .into_iter()
        .map(|candidate| (candidate.platform.clone(), candidate))
        .collect();
    let mut suitable = match best(ranked, wanted) {
        Ok(suitable) => suitable,
        Err(source) => return Err(ArchiveError::Platform { path, source }),
    };
    let first = suitable.swap_remove(0);
    if suitable
        .iter()
        .any(|other| other.identity != first.identity)
    {
        if names.is_empty() {
            names.push("none of them has a name".to_owned());
        }
        return Err(ArchiveError::Ambiguous { path, names });
    }
    Ok(first.content)
}

fn all_names(candidates: &[Candidate]) -> Vec<String> {
    let mut names: Vec<_> = candidates
        .iter()
        .filter_map(|candidate| candidate.names.first().cloned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Whether an image that is called `own` is meant by `asked`: the same text, the same name, or its tag.
fn is_called(own: &str, asked: &str) -> bool {
    let parse = |text: &str| text.parse::<Reference>().ok();
    if own == asked {
        return true;
    }
    parse(own).is_some_and(|own| parse(asked).as_ref() == Some(&own) || own.tag() == Some(asked))
}

fn not_an_image(storage: &Storage, reason: &str) -> ArchiveError {
    ArchiveError::NotAnImage {
        path: storage.path().to_owned(),
        reason: reason.to_owned(),
    }
}

fn from_index(storage: &Storage, index: &Part) -> Result<Vec<Candidate>, ArchiveError> {
    let content = storage.document(index, None)?;
    let Document::Index(descriptors) = parse_document(storage, index, &content)? else {
        return Err(storage.malformed("index.json", "it is a manifest, expected an index"));
    };
    let mut walk = IndexWalk {
        storage,
        seen: 0,
        candidates: Vec::new(),
    };
    for descriptor in descriptors {
        let names = names_of(&descriptor);
        walk.visit(descriptor, &names, 0)?;
    }
    Ok(walk.candidates)
}

fn names_of(descriptor: &Descriptor) -> Vec<String> {
    NAME_ANNOTATIONS
        .iter()
        .filter_map(|key| descriptor.annotations.get(*key).cloned())
        .collect()
}

/// Goes through an index and those nested in it.
struct IndexWalk<'a> {
    storage: &'a Storage,
    seen: usize,
    candidates: Vec<Candidate>,
}

impl IndexWalk<'_> {
    fn visit(
        &mut self,
        descriptor: Descriptor,
        names: &[String],
        depth: usize,
    ) -> Result<(), ArchiveError> {
        if !descriptor.may_be_image() {
            return Ok(());
        }
        self.seen += 1;
        if self.seen > MAX_MANIFESTS || depth > MAX_DEPTH {
            return Err(self.storage.malformed(
                "index.json",
                "it is nested too deep, or lists too many manifests",
            ));
        }
        let document = match descriptor.platform() {
            // A descriptor with a platform is one of a manifest; the others' need not even be in the archive.
            Some(platform) => {
                self.push(descriptor, platform, names);
                return Ok(());
            }
            None => read_document(self.storage, &descriptor)?,
        };
        match document {
            Document::Index(nested) => {
                for child in nested {
                    self.visit(child, names, depth + 1)?;
                }
            }
            Document::Manifest(manifest) => {
                // Charts, signatures and the like are manifests too, with configurations of their own kind.
                if manifest.config.media_type.contains("image")
                    || manifest.config.media_type.is_empty()
                {
                    let description = read_config(self.storage, &manifest.config)?;
                    self.push(descriptor, description.platform, names);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, descriptor: Descriptor, platform: Platform, names: &[String]) {
        self.candidates.push(Candidate {
            names: names.to_vec(),
            platform,
            identity: descriptor.digest,
            content: Content::Manifest(descriptor),
        });
    }
}

fn from_list(storage: &Storage, list: &Part) -> Result<Vec<Candidate>, ArchiveError> {
    let images = manifest::saved_images(&storage.document(list, None)?)
        .map_err(|reason| storage.malformed("manifest.json", reason))?;
    if images.len() > MAX_MANIFESTS {
        return Err(storage.malformed(
            "manifest.json",
            format!("it lists more than {MAX_MANIFESTS} images"),
        ));
    }
    let mut candidates = Vec::new();
    for image in images {
        let part = storage
            .find(&image.config)?
            .ok_or_else(|| storage.incomplete(&image.config))?;
        // The file is named by its digest; if it is not, the digest of what is there names the image.
        let hex = image.config.rsplit('/').next().unwrap_or_default();
        let expected = hex.strip_suffix(".json").unwrap_or(hex).parse().ok();
        let config = storage.document(&part, expected)?;
        let description = manifest::describe(&config)
            .map_err(|reason| storage.malformed(&image.config, reason))?;
        candidates.push(Candidate {
            names: image.repo_tags.clone(),
            platform: description.platform.clone(),
            identity: description.id,
            content: Content::Saved(image, Box::new(description)),
        });
    }
    Ok(candidates)
}

fn find_blob(storage: &Storage, descriptor: &Descriptor) -> Result<Part, ArchiveError> {
    let name = blob_name(&descriptor.digest);
    let part = storage
        .find(&name)?
        .ok_or_else(|| storage.incomplete(&name))?;
    if part.size == descriptor.size {
        return Ok(part);
    }
    Err(storage.malformed(
        &name,
        format!("it has {} bytes, expected {}", part.size, descriptor.size),
    ))
}

fn read_document(storage: &Storage, descriptor: &Descriptor) -> Result<Document, ArchiveError> {
    let part = find_blob(storage, descriptor)?;
    let content = storage.document(&part, Some(descriptor.digest))?;
    parse_document(storage, &part, &content)
}

fn parse_document(
    storage: &Storage,
    part: &Part,
    content: &[u8],
) -> Result<Document, ArchiveError> {
    Document::parse(content).map_err(|reason| storage.malformed(&part.name, reason))
}

fn read_manifest(storage: &Storage, descriptor: &Descriptor) -> Result<Manifest, ArchiveError> {
    match read_document(storage, descriptor)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(storage.malformed(
            &blob_name(&descriptor.digest),
            "it is an index, expected a manifest",
        )),
    }
}

fn read_config(storage: &Storage, descriptor: &Descriptor) -> Result<Description, ArchiveError> {
    let part = find_blob(storage, descriptor)?;
    let content = storage.document(&part, Some(descriptor.digest))?;
    manifest::describe(&content).map_err(|reason| storage.malformed(&part.name, reason))
}

/// Joins an image of an OCI layout with the places of its layers.
fn with_blobs(
    storage: &Storage,
    description: Description,
    manifest: &Manifest,
) -> Result<Selected, ArchiveError> {
    check_count(storage, &description, manifest.layers.len())?;
    let mut layers = Vec::new();
    for (layer, descriptor) in description.layers.iter().zip(&manifest.layers) {
        layers.push(StoredLayer {
            digest: layer.digest,
            blob: Some(descriptor.digest),
            part: find_blob(storage, descriptor)?,
        });
    }
    with_sizes(storage, description, layers)
}

/// Joins an image of an archive without digests with the places of its layers.
fn with_parts(
    storage: &Storage,
    description: Description,
    saved: &SavedImage,
) -> Result<Selected, ArchiveError> {
    check_count(storage, &description, saved.layers.len())?;
    let mut layers = Vec::new();
    for (layer, name) in description.layers.iter().zip(&saved.layers) {
        layers.push(StoredLayer {
            digest: layer.digest,
            blob: None,
            part: storage
                .find(name)?
                .ok_or_else(|| storage.incomplete(name))?,
        });
    }
    with_sizes(storage, description, layers)
}

fn check_count(
    storage: &Storage,
    description: &Description,
    stored: usize,
) -> Result<(), ArchiveError> {
    let expected = description.layers.len();
    if stored == expected {
        return Ok(());
    }
    Err(storage.malformed(
        "the manifest",
        format!("it and the image's configuration differ in the number of layers: {stored} and {expected}"),
    ))
}

/// Fills in the sizes of layers that are not compressed, where it costs no more than a look at their first bytes.
fn with_sizes(
    storage: &Storage,
    mut description: Description,
    layers: Vec<StoredLayer>,
) -> Result<Selected, ArchiveError> {
    if !storage.is_sequential() {
        for (layer, stored) in description.layers.iter_mut().zip(&layers) {
            let mut start = Vec::new();
            storage
                .read(&stored.part)
                .and_then(|reader| reader.take(4).read_to_end(&mut start))
                .map_err(|source| ArchiveError::Unreadable {
                    path: storage.path().to_owned(),
                    source,
                })?;
            let compression = Compression::of(&start)
                .map_err(|error| storage.malformed(&stored.part.name, error.to_string()))?;
            layer.size = (compression == Compression::Plain).then_some(stored.part.size);
        }
    }
    Ok(Selected {
        description,
        layers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_called_by_name_by_canonical_name_and_by_tag() {
        for (own, asked) in [
            ("nginx:1", "nginx:1"),
            ("docker.io/library/nginx:1", "nginx:1"),
            ("docker.io/library/nginx:latest", "nginx"),
            ("docker.io/library/nginx:1", "1"),
            ("Odd Name", "Odd Name"),
        ] {
            assert!(is_called(own, asked), "{own} by {asked}");
        }
        for (own, asked) in [("nginx:1", "nginx"), ("nginx:1", "2"), ("Odd Name", "odd")] {
            assert!(!is_called(own, asked), "{own} by {asked}");
        }
    }
}
