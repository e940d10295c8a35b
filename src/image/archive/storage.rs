//! The parts of an archive by their names, wherever they are kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::ArchiveError;
use crate::ids::Digest;
use crate::image::compression::{Compression, Decoder};
use crate::image::manifest::MAX_DOCUMENT;
use crate::image::tarball::{Entries, Entry, Kind, Seeked, Skip, Streamed, TarError, normal_path};

/// Documents of a compressed archive that are kept from indexing it, in bytes, so that it need not be read again for them.
const MAX_KEPT: u64 = 8 * 1024 * 1024;

/// Links from one entry to another that are followed.
const MAX_LINKS: usize = 8;

/// An image archive or layout on disk.
#[derive(Debug)]
pub(super) struct Storage {
    path: PathBuf,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Directory,
    Tar(Index),
    /// A tar that is compressed as a whole, with its documents.
    CompressedTar(Index, HashMap<String, Vec<u8>>),
}

/// What a tar has where, by normal path.
type Index = HashMap<String, Slot>;

#[derive(Debug)]
enum Slot {
    Content { offset: u64, size: u64 },
    Link(String),
}

/// A part of the archive.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// What it is called in the archive.
    pub(super) name: String,
    /// Its length, in bytes.
    pub(super) size: u64,
    /// Where its content begins in the uncompressed tar, in bytes; 0 for a file of its own.
    pub(super) offset: u64,
}

/// Name of a blob in an OCI layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Storage {
    /// Finds out what is at `path`, and indexes it.
    pub(super) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let form = form_of(path).map_err(|error| match error {
            TarError::Io(source) if source.get_ref().is_none() => ArchiveError::Unreadable {
                path: path.to_owned(),
                source,
            },
            error => ArchiveError::NotAnImage {
                path: path.to_owned(),
                reason: error.to_string(),
            },
        })?;
        Ok(Self {
            path: path.to_owned(),
            form,
        })
    }

    /// Where the archive is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether parts are best read one after another, in the order of their offsets.
    pub(super) fn is_sequential(&self) -> bool {
        matches!(self.form, Form::CompressedTar(..))
    }

    /// Finds a part by its name, following links within the archive.
    pub(super) fn find(&self, name: &str) -> Result<Option<Part>, ArchiveError> {
        let index = match &self.form {
            Form::Directory => return self.find_file(name),
            Form::Tar(index) | Form::CompressedTar(index, _) => index,
        };
        let Some(mut target) = normal_path(name) else {
            return Ok(None);
        };
        for _ in 0..=MAX_LINKS {
            match index.get(&target) {
                Some(Slot::Content { offset, size }) => {
                    return Ok(Some(Part {
                        name: target,
                        size: *size,
                        offset: *offset,
                    }));
                }
                Some(Slot::Link(next)) => target.clone_from(next),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Names of parts in a layout directory come from this program and from digests only, so they lead nowhere else.
    fn find_file(&self, name: &str) -> Result<Option<Part>, ArchiveError> {
        let unreadable = |source| ArchiveError::Unreadable {
            path: self.path.join(name),
            source,
        };
        match std::fs::metadata(self.path.join(name)) {
            Ok(metadata) if metadata.is_file() => Ok(Some(Part {
                name: name.to_owned(),
                size: metadata.len(),
                offset: 0,
            })),
            // Opening a named pipe would wait for its writer.
            Ok(_) => Err(unreadable(io::Error::other("it is not a regular file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// The content of a part, compressed as it is.
    pub(super) fn read(&self, part: &Part) -> io::Result<Box<dyn Read + Send>> {
        Ok(match &self.form {
            Form::Directory => Box::new(File::open(self.path.join(&part.name))?.take(part.size)),
            Form::Tar(_) => {
                let mut file = File::open(&self.path)?;
                file.seek(SeekFrom::Start(part.offset))?;
                Box::new(file.take(part.size))
            }
            Form::CompressedTar(_, kept) => {
                if let Some(content) = kept.get(&part.name) {
                    return Ok(Box::new(io::Cursor::new(content.clone())));
                }
                let mut tar = self.sequential()?;
                tar.skip(part.offset)?;
                Box::new(tar.take(part.size))
            }
        })
    }

    /// The uncompressed archive from its start.
    pub(super) fn sequential(&self) -> io::Result<Streamed<Decoder<File>>> {
        Ok(Streamed(Decoder::new(File::open(&self.path)?)?))
    }

    /// A whole document of JSON, verified if it has a digest.
    pub(super) fn document(
        &self,
        part: &Part,
        expected: Option<Digest>,
    ) -> Result<Vec<u8>, ArchiveError> {
        if part.size > MAX_DOCUMENT {
            return Err(self.malformed(
                &part.name,
                format!(
                    "it has {} bytes, more than the {MAX_DOCUMENT} allowed",
                    part.size
                ),
            ));
        }
        let mut content = Vec::new();
        self.read(part)
            .and_then(|mut reader| reader.read_to_end(&mut content))
            .map_err(|source| ArchiveError::Unreadable {
                path: self.path.clone(),
                source,
            })?;
        let found = Digest::of(&content);
        match expected {
            Some(expected) if expected != found => Err(ArchiveError::Damaged {
                path: self.path.clone(),
                part: part.name.clone(),
                expected,
                found,
            }),
            _ => Ok(content),
        }
    }

    /// An error about a part of this archive.
    pub(super) fn malformed(&self, part: &str, reason: impl Into<String>) -> ArchiveError {
        ArchiveError::Malformed {
            path: self.path.clone(),
            part: part.to_owned(),
            reason: reason.into(),
        }
    }

    /// An error about a part that is not in this archive.
    pub(super) fn incomplete(&self, part: &str) -> ArchiveError {
        ArchiveError::Incomplete {
            path: self.path.clone(),
            part: part.to_owned(),
        }
    }
}

fn form_of(path: &Path) -> Result<Form, TarError> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Ok(Form::Directory);
    }
    if !metadata.is_file() {
        return Err(TarError::Malformed(
            "it is neither a file nor a directory".to_owned(),
        ));
    }
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start)?;
    if Compression::of(&start)? == Compression::Plain {
        let (index, _) = index(Seeked::new(file)?, 0)?;
        Ok(Form::Tar(index))
    } else {
        let decoder = Decoder::new(File::open(path)?)?;
        let (index, kept) = index(Streamed(decoder), MAX_KEPT)?;
        Ok(Form::CompressedTar(index, kept))
    }
}

/// Notes where everything is; documents are kept up to `budget` bytes altogether.
fn index(
    reader: impl Skip,
    mut budget: u64,
) -> Result<(Index, HashMap<String, Vec<u8>>), TarError> {
    let mut entries = Entries::new(reader);
    let mut index = Index::new();
    let mut kept = HashMap::new();
    while let Some(entry) = entries.next()? {
        let Some(path) = normal_path(&entry.path) else {
            continue;
        };
        let Some(slot) = slot(&path, &entry) else {
            continue;
        };
        if let Slot::Content { size, .. } = slot
            && size <= budget.min(MAX_DOCUMENT)
        {
            let content = entries.read_all(size)?;
            if content
                .first()
                .is_some_and(|byte| matches!(byte, b'{' | b'['))
            {
                budget -= size;
                kept.insert(path.clone(), content);
            }
        }
        index.insert(path, slot);
    }
    Ok((index, kept))
}

fn slot(path: &str, entry: &Entry) -> Option<Slot> {
    match &entry.kind {
        Kind::File => Some(Slot::Content {
            offset: entry.offset,
            size: entry.size,
        }),
        Kind::Symlink(target) => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            normal_path(&format!("{directory}/{target}")).map(Slot::Link)
        }
        Kind::HardLink(target) => normal_path(target).map(Slot::Link),
        Kind::Other => None,
    }
}
