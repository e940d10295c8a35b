//! Taking a layer from a stream into the store.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::part::Part;
use super::{PART, Store};
use crate::ids::{Digest, random_bytes};
use crate::link::chunks::next_frame;
use crate::lock;
use crate::protocol::chunks::Header;

/// Chunks that wait in memory for the disk.
const QUEUE: usize = 2;

/// How often somebody who waits for another's upload looks at it.
const POLL: Duration = Duration::from_millis(50);

/// How a layer came to be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It was received.
    Stored,
    /// It was here already, or another upload has brought it meanwhile. Unless the store is [that of a
    /// user](Store::of_user), the rest of the stream was not read: the sender need not go on.
    AlreadyThere,
}

/// Why a layer was not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The upload begins where the store cannot go on. It can at `expected`, or at 0.
    #[error("the upload begins at byte {offset}, but {expected} bytes are here")]
    WrongOffset {
        /// Where the upload began, in bytes of the tar.
        offset: u64,
        /// What is here, in bytes of the tar.
        expected: u64,
    },
    /// What came has another digest. Nothing of it is kept.
    #[error("layer {expected} arrived damaged: its content has the digest {found}")]
    Damaged {
        /// The layer.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The disk is full. Nothing of the upload is kept, so that it does not take the room that others need.
    #[error("no space left on the location's disk")]
    DiskFull,
    /// The stream failed or ended before the end mark, or has something in it that is not a chunk. What came before is
    /// kept for the next upload.
    #[error("the upload was interrupted")]
    Interrupted(#[source] io::Error),
    /// The store itself failed.
    #[error("cannot store the layer")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::InvalidData => Self::Interrupted(error),
            _ => Self::Io(error),
        }
    }
}

/// What the stream has.
enum Item {
    Chunk(Header, Vec<u8>),
    End,
}

/// Who brings a layer here.
enum Claim {
    Mine(Box<Part>),
    AlreadyThere,
}

impl Store {
    /// Takes the chunks of `layer` from `from`, which begin at `offset` in its tar, and returns when the layer is
    /// here, verified and safe on the disk.
    ///
    /// If somebody else is uploading the same layer, it waits for them and takes nothing from `from` meanwhile. When
    /// the future is dropped, what has come so far is kept.
    ///
    /// # Errors
    ///
    /// As [`ReceiveError`] says, which also says what is kept then.
    pub async fn receive(
        &self,
        layer: Digest,
        offset: u64,
        mut from: impl AsyncRead + Unpin,
    ) -> Result<Receipt, ReceiveError> {
        let part = match self.claim(&layer).await? {
            Claim::Mine(part) => part,
            Claim::AlreadyThere => return Ok(Receipt::AlreadyThere),
        };
        let (items, incoming) = mpsc::channel(QUEUE);
        let path = self.path(&layer);
        let mut job = spawn_blocking(move || write(part, layer, offset, &path, incoming));
        // The job may end first, because it fails: the rest of the stream is of no use then.
        let fed = tokio::select! {
            fed = feed(&mut from, items) => fed,
            done = &mut job => return finished(done),
        };
        let done = finished(job.await);
        match fed {
            Err(error) if matches!(done, Err(ReceiveError::Interrupted(_))) => {
                Err(ReceiveError::Interrupted(error))
            }
            _ => done,
        }
    }

    /// Waits until the layer is here or nobody else is bringing it.
    async fn claim(&self, layer: &Digest) -> Result<Claim, ReceiveError> {
        let path = self.part_path(layer);
        let mut moved = (0, Instant::now());
        let mut waited_for: Option<File> = None;
        loop {
            // What one has waited for is of the same user, if that makes a difference, and so is as good as one's own.
            let brought = waited_for
                .as_ref()
                .is_some_and(|part| lock::is_at(part, &self.path(layer)));
            if brought || self.trusts_presence(layer) {
                return Ok(Claim::AlreadyThere);
            }
            let file = open_part(&path)?;
            let length = file.metadata()?.len();
            waited_for = Some(file.try_clone()?);
            match lock::try_exclusive(file, &path) {
                Ok(file) => return self.claimed(layer, file, path),
                // Whoever had it is done with it: look again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if length != moved.0 {
                moved = (length, Instant::now());
            } else if moved.1.elapsed() > self.patience {
                // Else one client could keep all others from a layer by sending half of it.
                return self.claim_beside(layer, path).await;
            }
            sleep(POLL).await;
        }
    }

    /// Goes on with a copy of what somebody else has stopped writing at `path`.
    async fn claim_beside(&self, layer: &Digest, path: PathBuf) -> Result<Claim, ReceiveError> {
        let id = u64::from_le_bytes(random_bytes());
        let beside = path.with_extension(format!("{id:016x}.{PART}"));
        let (file, beside) = spawn_blocking(move || {
            let file = lock::try_exclusive(open_part(&beside)?, &beside)?;
            fs::copy(&path, &beside).inspect_err(|_| {
                let _ = fs::remove_file(&beside);
            })?;
            Ok::<_, io::Error>((file, beside))
        })
        .await
        .map_err(io::Error::other)??;
        self.claimed(layer, file, beside)
    }

    /// Whether the layer is here, and that is enough for whoever uploads it.
    fn trusts_presence(&self, layer: &Digest) -> bool {
        self.owner.is_none() && self.has(layer)
    }

    fn claimed(&self, layer: &Digest, file: File, path: PathBuf) -> Result<Claim, ReceiveError> {
        if self.trusts_presence(layer) {
            // It came between the look and the lock.
            fs::remove_file(&path)?;
            return Ok(Claim::AlreadyThere);
        }
        Ok(Claim::Mine(Box::new(Part::new(file, path)?)))
    }
}

fn open_part(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Hands the chunks of `from` on until the end mark.
async fn feed(from: &mut (impl AsyncRead + Unpin), items: mpsc::Sender<Item>) -> io::Result<()> {
    loop {
        let mut frame = Vec::new();
        let item = match next_frame(from, &mut frame).await? {
            Some(header) => Item::Chunk(header, frame),
            None => Item::End,
        };
        let end = matches!(item, Item::End);
        // The job is gone if it has failed, and has the reason.
        if items.send(item).await.is_err() || end {
            return Ok(());
        }
    }
}

/// Runs on a blocking thread, and ends when the other end of `incoming` is dropped.
fn write(
    mut part: Box<Part>,
    layer: Digest,
    offset: u64,
    path: &Path,
    mut incoming: mpsc::Receiver<Item>,
) -> Result<Receipt, ReceiveError> {
    let result = part.resume(offset).and_then(|()| {
        loop {
            match incoming.blocking_recv() {
                Some(Item::Chunk(header, frame)) => part.append(header, &frame)?,
                Some(Item::End) => return Ok(()),
                None => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Err(ReceiveError::Interrupted(error));
                }
            }
        }
    });
    let result = match result.and_then(|()| part.verify(layer)) {
        Ok(()) if path.is_file() => {
            // Somebody who would not wait for this upload has brought it, or another user.
            part.remove();
            return Ok(Receipt::AlreadyThere);
        }
        Ok(()) => part.finish(path),
        Err(error) => Err(error),
    };
    if matches!(
        result,
        Err(ReceiveError::DiskFull | ReceiveError::Damaged { .. })
    ) {
        part.remove();
    }
    result.map(|()| Receipt::Stored)
}

fn finished(
    done: Result<Result<Receipt, ReceiveError>, tokio::task::JoinError>,
) -> Result<Receipt, ReceiveError> {
    done.unwrap_or_else(|lost| Err(ReceiveError::Io(io::Error::other(lost))))
}
