//! A layer that is being uploaded: whole chunks in a file, and the digest of what they hold.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::receive::ReceiveError;
use crate::ids::Digest;
use crate::protocol::chunks::{BadChunk, Decoder, END, HEADER_LENGTH, Header};

/// Content of the whole chunks in the part at `path`, in bytes; 0 if there is none.
///
/// Looks at their headers only, so a damaged frame is not noticed before somebody goes on with the part.
pub(super) fn content_length(path: &Path) -> u64 {
    let Ok(mut file) = File::open(path) else {
        return 0;
    };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let (mut content, mut position) = (0, 0);
    let mut header = [0; HEADER_LENGTH];
    while file.read_exact(&mut header).is_ok() {
        let Ok(Some(header)) = Header::parse(header) else {
            break;
        };
        position += header.chunk_length() as u64;
        if position > length || file.seek(SeekFrom::Start(position)).is_err() {
            break;
        }
        content += header.content_length() as u64;
    }
    content
}

/// A part that this process alone writes to.
pub(super) struct Part {
    /// Locked exclusively.
    file: File,
    path: PathBuf,
    /// Length of the chunks that are whole and good, in bytes.
    length: u64,
    /// Length of what they hold, in bytes.
    content: u64,
    hasher: Sha256,
    decoder: Decoder,
    /// What the last chunk holds.
    buffer: Vec<u8>,
}

impl Part {
    /// The part in `file`, which was opened as `path` and is locked. What it holds is looked at by [`Part::resume`].
    pub(super) fn new(file: File, path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            file,
            path,
            length: 0,
            content: 0,
            hasher: Sha256::new(),
            decoder: Decoder::new()?,
            buffer: Vec::new(),
        })
    }

    /// Reads again what is there up to `offset` in the tar, and drops what follows.
    ///
    /// What follows is there when two uploads began at the same place and the first of them was interrupted.
    pub(super) fn resume(&mut self, offset: u64) -> Result<(), ReceiveError> {
        let mut chunks = BufReader::with_capacity(super::READ_AHEAD, self.file.try_clone()?);
        let mut frame = Vec::new();
        while self.content != offset {
            let Some(header) = next_chunk(&mut chunks, &mut frame)? else {
                break;
            };
            if self.decode(header, &frame).is_err() {
                break;
            }
        }
        if self.content != offset {
            self.file.set_len(self.length)?;
            return Err(ReceiveError::WrongOffset {
                offset,
                expected: self.content,
            });
        }
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    /// Adds a chunk that came.
    pub(super) fn append(&mut self, header: Header, frame: &[u8]) -> Result<(), ReceiveError> {
        let before = self.length;
        self.decode(header, frame).map_err(io::Error::from)?;
        let written = self
            .file
            .write_all(&header.to_bytes())
            .and_then(|()| self.file.write_all(frame));
        written.map_err(|error| {
            // If this fails too, the next one to open the part finds the torn chunk and drops it.
            let _ = self.file.set_len(before);
            error.into()
        })
    }

    /// Finds out whether all that has come is the layer.
    pub(super) fn verify(&mut self, layer: Digest) -> Result<(), ReceiveError> {
        let found = Digest::new(std::mem::take(&mut self.hasher).finalize().into());
        if found != layer {
            return Err(ReceiveError::Damaged {
                expected: layer,
                found,
            });
        }
        Ok(())
    }

    /// Gives a part that is the layer the layer's name.
    pub(super) fn finish(&mut self, path: &Path) -> Result<(), ReceiveError> {
        self.file.write_all(&END)?;
        self.file.write_all(&self.content.to_le_bytes())?;
        // The name must not outlive a crash of the machine that the content does not.
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        // Whoever sees the layer may want it at once, and need not wait for the disk.
        self.file.unlock()?;
        sync_dir(path)?;
        Ok(())
    }

    /// Removes the part. An error leaves it to the next sweep.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an upload");
        }
    }

    fn decode(&mut self, header: Header, frame: &[u8]) -> Result<(), BadChunk> {
        self.decoder.decode(header, frame, &mut self.buffer)?;
        self.hasher.update(&self.buffer);
        self.length += header.chunk_length() as u64;
        self.content += header.content_length() as u64;
        Ok(())
    }
}

/// The next chunk of a part; `None` where there is no whole chunk, be it the end or a torn or damaged one.
fn next_chunk(chunks: &mut impl Read, frame: &mut Vec<u8>) -> io::Result<Option<Header>> {
    let mut header = [0; HEADER_LENGTH];
    match chunks.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let Ok(Some(header)) = Header::parse(header) else {
        return Ok(None);
    };
    frame.clear();
    chunks
        .take(header.frame_length() as u64)
        .read_to_end(frame)?;
    Ok((frame.len() == header.frame_length()).then_some(header))
}

#[cfg(unix)]
fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Elsewhere directories cannot be opened as files; a name that a crash undoes means one more upload.
#[cfg(not(unix))]
fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}
