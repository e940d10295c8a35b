//! The layers that a node has unpacked: one directory each, in the form that overlayfs stacks.
//!
//! ```text
//! DIR/HEX          a layer, whole and verified
//! DIR/HEX.part     a layer that is being unpacked
//! DIR/HEX.ID.gone  a layer that is being removed
//! ```
//!
//! Any number of processes may use the directory at the same time. What keeps them apart are locks on the directories
//! (`flock`), which the kernel gives up when their holder dies in whatever way: exclusive on a part for
//! whoever unpacks it, shared on a layer for whoever has it mounted, exclusive on a layer for whoever removes it.
//!
//! The directory is closed to all but its owner: images hold set-user-id programs, and those must not be found by the
//! machine's own users.

mod feed;
mod settled;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::unpack::remove::remove_all;
use super::unpack::{UnpackError, unpack};
use crate::ids::{Digest, random_bytes};
use crate::lock;
use crate::node::engine::EngineError;

/// Extension of layers that are being unpacked.
const PART: &str = "part";

/// Extension of layers that are being removed.
const GONE: &str = "gone";

/// How often somebody who waits for another's unpacking looks at it.
const POLL: Duration = Duration::from_millis(20);

/// The unpacked layers in a directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// Keeps layers from being removed, by any process, until it is dropped.
#[derive(Debug)]
#[must_use = "the layers can be removed as soon as this is dropped"]
pub struct Held {
    paths: Vec<PathBuf>,
    _locks: Vec<File>,
}

impl Held {
    /// The layers' directories, in the order that was asked for.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

/// Who unpacks a layer.
enum Claim {
    /// This one, into the directory that is locked.
    Mine(File),
    AlreadyThere,
}

impl Store {
    /// The layers in `dir`, which is made if it is missing. What dead processes have left of unpacking and removing is
    /// removed, and so is what may not have reached the disk before the machine went down.
    ///
    /// # Errors
    ///
    /// When the directory can be neither made nor read.
    pub fn open(dir: &Path) -> Result<Self, EngineError> {
        let failed = |source| failed(format!("open the layers in {}", dir.display()), source);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir).map_err(failed)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let store = Self {
            dir: dir.to_owned(),
        };
        store.sweep().map_err(failed)?;
        Ok(store)
    }

    /// Whether the layer is here, whole.
    #[must_use]
    pub fn has(&self, layer: &Digest) -> bool {
        self.path(layer).is_dir()
    }

    /// Unpacks a layer from its uncompressed tar, unless it is here. Nothing of it is visible before its digest is
    /// verified, and nothing is left of it if it is not good or the future is dropped.
    ///
    /// If somebody else is unpacking it, it waits for them and does not read `tar` meanwhile. `progress` is told how
    /// many bytes of the tar are done.
    ///
    /// # Errors
    ///
    /// When the layer is bad, its content has another digest, the disk is full or the system fails.
    pub async fn add(
        &self,
        layer: Digest,
        tar: Box<dyn AsyncRead + Send + Unpin>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), EngineError> {
        let part = match self.claim(&layer).await {
            Ok(Claim::Mine(part)) => part,
            Ok(Claim::AlreadyThere) => return Ok(()),
            Err(source) => return Err(self.system(format!("unpack layer {layer}"), source)),
        };
        let (blocks, input) = feed::channel();
        let store = self.clone();
        let mut job = spawn_blocking(move || store.unpack_part(layer, &part, input));
        // The job may end first, because the layer is bad: the rest of it is of no use then.
        let job = tokio::select! {
            () = feed::pump(tar, blocks, progress) => job.await,
            done = &mut job => done,
        };
        job.unwrap_or_else(|lost| {
            let step = format!("unpack layer {layer}");
            Err(failed(step, io::Error::other(lost)))
        })
    }

    /// Keeps `layers` from being removed, and says where they are.
    ///
    /// # Errors
    ///
    /// When one of them is not here; nothing is held then.
    pub fn hold(&self, layers: &[Digest]) -> Result<Held, EngineError> {
        let paths: Vec<PathBuf> = layers.iter().map(|layer| self.path(layer)).collect();
        let lock = |(layer, path): (&Digest, &PathBuf)| {
            File::open(path)
                .and_then(|dir| lock::shared(dir, path))
                .map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => {
                        EngineError::BadSpec(format!("layer {layer} is not on this node"))
                    }
                    _ => failed(format!("hold layer {layer}"), error),
                })
        };
        let locks = layers.iter().zip(&paths).map(lock);
        Ok(Held {
            _locks: locks.collect::<Result<_, _>>()?,
            paths,
        })
    }

    /// Removes `layers`, apart from those that are not here or that somebody holds.
    ///
    /// # Errors
    ///
    /// When the file system refuses. The other layers are removed even so.
    pub async fn drop_layers(&self, layers: &[Digest]) -> Result<(), EngineError> {
        let store = self.clone();
        let layers = layers.to_vec();
        spawn_blocking(move || {
            let mut result = Ok(());
            for layer in layers {
                if let Err(source) = store.retire(&store.path(&layer)) {
                    result = Err(failed(format!("remove layer {layer}"), source));
                }
            }
            result
        })
        .await
        .unwrap_or_else(|lost| Err(failed("remove layers".to_owned(), io::Error::other(lost))))
    }

    fn path(&self, layer: &Digest) -> PathBuf {
        self.dir.join(layer.hex())
    }

    fn part_path(&self, layer: &Digest) -> PathBuf {
        self.path(layer).with_extension(PART)
    }

    fn system(&self, step: String, source: io::Error) -> EngineError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                EngineError::DiskFull(self.dir.display().to_string())
            }
            _ => failed(step, source),
        }
    }

    /// Waits until the layer is here or nobody else is unpacking it.
    async fn claim(&self, layer: &Digest) -> io::Result<Claim> {
        let path = self.part_path(layer);
        loop {
            if self.has(layer) {
                return Ok(Claim::AlreadyThere);
            }
            match try_claim(&path) {
                Ok(part) if self.has(layer) => {
                    // It came between the look and the lock.
                    fs::remove_dir(&path)?;
                    drop(part);
                    return Ok(Claim::AlreadyThere);
                }
                Ok(part) => return Ok(Claim::Mine(part)),
                // Whoever had it is done with it: look again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(POLL).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Unpacks into `part`, and makes a layer of it. Runs on a blocking thread.
    fn unpack_part(
        &self,
        layer: Digest,
        part: &File,
        input: feed::Input,
    ) -> Result<(), EngineError> {
        let path = self.part_path(&layer);
        let result = self.unpack_verified(layer, part, input).and_then(|()| {
            settled::mark(part)
                .and_then(|()| fs::rename(&path, self.path(&layer)))
                .map_err(|source| self.system(format!("keep layer {layer}"), source))
        });
        if result.is_err()
            && let Err(error) = self.remove(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove what is left of a layer");
        }
        result
    }

    fn unpack_verified(
        &self,
        layer: Digest,
        part: &File,
        input: feed::Input,
    ) -> Result<(), EngineError> {
        let step = || format!("unpack layer {layer}");
        let root = part
            .set_permissions(fs::Permissions::from_mode(0o755))
            .and_then(|()| part.try_clone())
            .map_err(|source| failed(step(), source))?;
        let (unpacked, found) = input
            .hashed(|input| unpack(root.into(), input))
            .map_err(|source| failed(step(), source))?;
        unpacked.map_err(|error| match error {
            UnpackError::Bad(reason) => EngineError::BadLayer { layer, reason },
            UnpackError::DiskFull => EngineError::DiskFull(self.dir.display().to_string()),
            UnpackError::Input(source) => failed(format!("read layer {layer}"), source),
            UnpackError::System { step, source } => {
                failed(format!("{step} (layer {layer})"), source)
            }
        })?;
        if found != layer {
            return Err(EngineError::WrongDigest {
                expected: layer,
                found,
            });
        }
        Ok(())
    }

    /// Removes the layer at `path`, unless somebody holds it. What is not here is no error.
    fn retire(&self, path: &Path) -> io::Result<()> {
        let unless_busy = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        };
        let dir = match File::open(path).and_then(|dir| lock::try_exclusive(dir, path)) {
            Ok(dir) => dir,
            Err(error) => return unless_busy(error),
        };
        // Under a name of its own first, so that no half of it is ever taken for the layer.
        let id = u64::from_le_bytes(random_bytes());
        let gone = path.with_extension(format!("{id:016x}.{GONE}"));
        fs::rename(path, &gone).or_else(unless_busy)?;
        drop(dir);
        self.remove(&gone)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().expect("a path that this store has made");
        remove_all(File::open(&self.dir)?, name.as_encoded_bytes())?;
        Ok(())
    }

    /// Removes what dead processes have left, and layers that may be incomplete since the machine went down.
    fn sweep(&self) -> io::Result<()> {
        let mut unsettled = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let swept = match path.extension().and_then(|extension| extension.to_str()) {
                Some(PART) => self.sweep_part(&path),
                Some(GONE) => self.remove(&path),
                Some(_) => Ok(()),
                None => match settled::look(&path) {
                    settled::State::Settled => Ok(()),
                    settled::State::Unsettled => {
                        unsettled.push(path.clone());
                        Ok(())
                    }
                    settled::State::Doubtful => self.retire(&path),
                },
            };
            if let Err(error) = swept {
                tracing::warn!(path = %path.display(), %error, "cannot remove what is left of a layer");
            }
        }
        settled::settle(&self.dir, unsettled);
        Ok(())
    }

    fn sweep_part(&self, path: &Path) -> io::Result<()> {
        match File::open(path).and_then(|dir| lock::try_exclusive(dir, path)) {
            // Locked until it is gone, so that nobody begins to unpack into it.
            Ok(_lock) => self.remove(path),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotFound
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Makes and locks the directory at `path`; [`io::ErrorKind::WouldBlock`] if somebody alive has it.
fn try_claim(path: &Path) -> io::Result<File> {
    loop {
        let new = match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let part = lock::try_exclusive(File::open(path)?, path)?;
        if new || fs::read_dir(path)?.next().is_none() {
            return Ok(part);
        }
        // Somebody has died over it.
        let parent = File::open(path.parent().expect("it is in the store's directory"))?;
        let name = path.file_name().expect("it has a name");
        remove_all(parent, name.as_encoded_bytes())?;
    }
}

fn failed(step: String, source: io::Error) -> EngineError {
    EngineError::Failed { step, source }
}
