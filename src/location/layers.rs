//! The layers that a location keeps: one file each, compressed as it came, visible only when whole.
//!
//! ```text
//! DIR/HEX             a whole layer: its chunks, the end mark, the length of its tar (u64 LE)
//! DIR/HEX.part        an upload, under way or interrupted: whole chunks
//! DIR/HEX.USER.part   the same, where users are not to profit from each other's uploads
//! DIR/HEX.….ID.part   an upload beside one that has stalled: removed if it is interrupted
//! ```
//!
//! Any number of processes may use the directory at the same time. What keeps them apart are locks on the files
//! themselves (`flock`), which the kernel gives up when their holder dies in whatever way: exclusive on a part for
//! whoever writes it, shared on a layer for whoever needs it, exclusive on a layer for whoever removes it.
//!
//! What a layer is used for is of no concern here.

mod leftover;
mod part;
mod receive;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncReadExt, BufReader};

pub use self::receive::{Receipt, ReceiveError};
use crate::ids::{Digest, UserId};
use crate::lock;

/// How long an interrupted upload is kept for its client to come back.
const PART_LIFE: Duration = Duration::from_hours(3 * 24);

/// How long an upload may stand still while others wait for the same layer. A link that is being resumed recovers
/// sooner as a rule, and if not, the layer is merely sent twice.
const PATIENCE: Duration = Duration::from_secs(20);

/// Extension of uploads that are not complete.
const PART: &str = "part";

/// Length of what follows the end mark in a layer's file, in bytes.
const TRAILER: usize = size_of::<u64>();

/// Bytes that are read from a layer's file at once.
const READ_AHEAD: usize = 256 << 10;

/// The layers in a directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    /// Who uploads, where that makes a difference.
    owner: Option<UserId>,
    /// How long another's upload may stand still before one no longer waits for it.
    patience: Duration,
}

/// Keeps layers from being removed, by any process, until it is dropped.
#[derive(Debug)]
#[must_use = "the layers can be removed as soon as this is dropped"]
pub struct Held {
    _locks: Vec<File>,
}

/// Why a layer was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Somebody holds or reads it.
    #[error("layer {0} is in use")]
    InUse(Digest),
    /// It is not there.
    #[error("layer {0} is not stored here")]
    NotFound(Digest),
    /// The file system refused.
    #[error("cannot remove layer {layer}")]
    Io {
        /// The layer.
        layer: Digest,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Store {
    /// The layers in `dir`, which is made if it is missing. Interrupted uploads that nobody came back for are removed.
    ///
    /// # Errors
    ///
    /// When the directory can be neither made nor read.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&dir)?;
        // Layers of one user are no business of others on the machine.
        #[cfg(unix)]
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let store = Self {
            dir,
            owner: None,
            patience: PATIENCE,
        };
        store.sweep()?;
        Ok(store)
    }

    /// The same store for the uploads of one of several users, who may know the digests of layers that they do not have.
    ///
    /// An upload then goes on only where one of the same user was interrupted, and counts as received only once all of it
    /// has come and is the layer, whether that is here already or not.
    #[must_use]
    pub fn of_user(&self, user: &UserId) -> Self {
        Self {
            owner: Some(user.clone()),
            ..self.clone()
        }
    }

    /// Whether the layer is here, whole.
    #[must_use]
    pub fn has(&self, layer: &Digest) -> bool {
        self.path(layer).is_file()
    }

    /// How much of the layer's tar an interrupted upload has left, in bytes: where the next one may begin.
    #[must_use]
    pub fn partial(&self, layer: &Digest) -> u64 {
        part::content_length(&self.part_path(layer))
    }

    /// Space that the layer takes, in bytes.
    ///
    /// # Errors
    ///
    /// When the layer is not here.
    pub fn size(&self, layer: &Digest) -> io::Result<u64> {
        Ok(fs::metadata(self.path(layer))?.len())
    }

    /// Length of the layer's uncompressed tar, in bytes.
    ///
    /// # Errors
    ///
    /// When the layer is not here.
    pub fn content_size(&self, layer: &Digest) -> io::Result<u64> {
        let mut file = File::open(self.path(layer))?;
        let mut length = [0; TRAILER];
        let start = file.metadata()?.len().saturating_sub(TRAILER as u64);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut length)?;
        Ok(u64::from_le_bytes(length))
    }

    /// The layers that are here, whole, in no order.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn list(&self) -> io::Result<Vec<Digest>> {
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            layers.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<Digest>().ok()),
            );
        }
        Ok(layers)
    }

    /// The layer's chunks with the end mark, for sending as they are. The layer cannot be removed while they are read.
    ///
    /// # Errors
    ///
    /// When the layer is not here.
    pub fn open_layer(
        &self,
        layer: &Digest,
    ) -> io::Result<impl AsyncBufRead + Send + Unpin + 'static> {
        let file = self.lock_shared(layer)?;
        let chunks = file.metadata()?.len().saturating_sub(TRAILER as u64);
        let file = tokio::fs::File::from_std(file).take(chunks);
        Ok(BufReader::with_capacity(READ_AHEAD, file))
    }

    /// Keeps `layers` from being removed.
    ///
    /// # Errors
    ///
    /// When one of them is not here; nothing is held then.
    pub fn hold(&self, layers: &[Digest]) -> io::Result<Held> {
        let locks = layers.iter().map(|layer| self.lock_shared(layer));
        Ok(Held {
            _locks: locks.collect::<io::Result<_>>()?,
        })
    }

    /// Whether somebody holds or reads the layer.
    #[must_use]
    pub fn in_use(&self, layer: &Digest) -> bool {
        let path = self.path(layer);
        let locked = File::open(&path).and_then(|file| lock::try_exclusive(file, &path));
        locked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Removes the layer, unless it is in use, and says how many bytes that has freed.
    ///
    /// # Errors
    ///
    /// When it is in use, is not here, or the file system refuses.
    pub fn remove(&self, layer: &Digest) -> Result<u64, RemoveError> {
        let path = self.path(layer);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => RemoveError::NotFound(*layer),
            io::ErrorKind::WouldBlock => RemoveError::InUse(*layer),
            _ => RemoveError::Io {
                layer: *layer,
                source,
            },
        };
        let file =
            lock::try_exclusive(File::open(&path).map_err(failed)?, &path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        fs::remove_file(&path).map_err(failed)?;
        Ok(size)
    }

    fn path(&self, layer: &Digest) -> PathBuf {
        self.dir.join(layer.hex())
    }

    fn part_path(&self, layer: &Digest) -> PathBuf {
        match &self.owner {
            Some(user) => self.dir.join(format!("{}.{user}.{PART}", layer.hex())),
            None => self.dir.join(layer.hex()).with_extension(PART),
        }
    }

    fn lock_shared(&self, layer: &Digest) -> io::Result<File> {
        let path = self.path(layer);
        lock::shared(File::open(&path)?, &path)
    }
}

#[cfg(test)]
mod tests;
