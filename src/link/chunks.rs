//! Layers over streams: a tar becomes chunks on one side and a tar again on the other.
//!
//! Memory is constant, whatever the layer's size: a few chunks on either side. Compressing and decompressing happen
//! on the runtime's blocking threads, several chunks at a time, while the task itself only moves bytes. Which stream
//! it is, and what the layer is for, is of no concern here.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::io::StreamReader;

use crate::protocol::chunks::{BadChunk, Decoder, END, Encoder, HEADER_LENGTH, Header};

/// Content of the chunks that are sent, in bytes. Chunks of a mebibyte would take four times the memory to be one
/// percent smaller.
const CONTENT: usize = 256 << 10;

/// Chunks of one layer that are in memory on the sending side: being read, compressed and written.
const IN_FLIGHT: usize = 4;

/// The same for all layers that are sent at a time, beyond one of each.
const SPARE: usize = 4;

/// Chunks of one layer that are decompressed ahead of the reader.
const AHEAD: usize = 2;

/// What a layer took to send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Length of the tar that was read, in bytes.
    pub content: u64,
    /// Length of the chunks that were written, in bytes.
    pub wire: u64,
}

/// Memory that layers which are sent at the same time share, so that many of them take little more than one. Clones are the
/// same one.
#[derive(Debug, Clone)]
pub struct Spare(Arc<Semaphore>);

impl Spare {
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

impl Default for Spare {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SPARE)))
    }
}

/// Reads `tar` to its end and writes it to `to` as chunks and the end mark, which it flushes but does not shut down.
///
/// `progress` is told how many bytes of `tar` have been written so far. When the future is dropped, `to` is left
/// inside a chunk.
///
/// # Errors
///
/// When `tar` or `to` fails. The chunks that were complete by then are of use to the receiver.
pub async fn send(
    mut tar: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    spare: &Spare,
    progress: impl Fn(u64),
) -> io::Result<Sent> {
    // Slots go round: the reader takes a free one and fills it, a blocking thread compresses it, the writer empties
    // it and gives it back. The queue holds handles of jobs, in the order of the content, not in that of their
    // completion.
    let (free, mut next_free) = mpsc::channel(IN_FLIGHT);
    let mut slots = 1;
    // There is room for all of them.
    let _ = free.try_send(Slot::new(None)?);
    let (queue, mut next_packed) = mpsc::channel(IN_FLIGHT);

    let read = async {
        // Owned by this half, so that the writer sees the end of the queue.
        let queue = queue;
        loop {
            let mut slot = match next_free.try_recv() {
                Ok(slot) => slot,
                Err(_)
                    if slots < IN_FLIGHT
                        && let Some(permit) = spare.take() =>
                {
                    slots += 1;
                    Slot::new(Some(permit))?
                }
                Err(_) => match next_free.recv().await {
                    Some(slot) => slot,
                    None => break,
                },
            };
            if slot.fill(&mut tar).await? == 0 {
                break;
            }
            let job = spawn_blocking(move || slot.pack());
            if queue.send(job).await.is_err() {
                break;
            }
        }
        Ok::<(), io::Error>(())
    };
    let write = async {
        let mut sent = Sent::default();
        while let Some(job) = next_packed.recv().await {
            let slot: Slot = job.await.map_err(lost)??;
            to.write_all(&slot.chunk).await?;
            sent.content += slot.content.len() as u64;
            sent.wire += slot.chunk.len() as u64;
            progress(sent.content);
            // The reader is gone once it has found the end.
            let _ = free.try_send(slot);
        }
        Ok::<Sent, io::Error>(sent)
    };

    let ((), mut sent) = tokio::try_join!(read, write)?;
    to.write_all(&END).await?;
    to.flush().await?;
    sent.wire += END.len() as u64;
    Ok(sent)
}

/// The tar of which `from` has the chunks. Reads nothing of `from` beyond the end mark.
///
/// It fails with [`io::ErrorKind::UnexpectedEof`] if `from` ends before the end mark, and with
/// [`io::ErrorKind::InvalidData`] at a chunk that is damaged.
pub fn reader(
    from: impl AsyncRead + Send + Unpin + 'static,
) -> impl AsyncRead + Send + Unpin + 'static {
    let contents = frames(from)
        .map_ok(|(header, frame)| async move {
            spawn_blocking(move || unpack(header, &frame))
                .await
                .map_err(lost)?
        })
        .try_buffered(AHEAD);
    StreamReader::new(Box::pin(contents))
}

/// The next chunk of `from`: its header, and its frame in place of what `frame` has. `None` at the end mark.
///
/// # Errors
///
/// When `from` fails, ends, or has something else than a chunk.
pub async fn next_frame(
    from: &mut (impl AsyncRead + Unpin),
    frame: &mut Vec<u8>,
) -> io::Result<Option<Header>> {
    let mut header = [0; HEADER_LENGTH];
    from.read_exact(&mut header).await?;
    let Some(header) = Header::parse(header)? else {
        return Ok(None);
    };
    frame.clear();
    // The length is below MAX_FRAME, which `parse` has seen to.
    frame.reserve(header.frame_length());
    let length = header.frame_length() as u64;
    if from.take(length).read_to_end(frame).await? < header.frame_length() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(header))
}

fn frames(
    from: impl AsyncRead + Send + Unpin,
) -> impl Stream<Item = io::Result<(Header, Vec<u8>)>> + Send {
    stream::try_unfold(from, |mut from| async move {
        let mut frame = Vec::new();
        Ok(next_frame(&mut from, &mut frame)
            .await?
            .map(|header| ((header, frame), from)))
    })
}

fn unpack(header: Header, frame: &[u8]) -> io::Result<Bytes> {
    let mut content = Vec::new();
    Decoder::new()?
        .decode(header, frame, &mut content)
        .map_err(|bad: BadChunk| io::Error::from(bad))?;
    Ok(Bytes::from(content))
}

/// A blocking job that has panicked, or was cancelled because the runtime ends.
fn lost(error: JoinError) -> io::Error {
    io::Error::other(error)
}

/// Memory for one chunk on its way out.
struct Slot {
    encoder: Encoder,
    content: Vec<u8>,
    chunk: Vec<u8>,
    /// If it is one of those that layers share.
    _spare: Option<OwnedSemaphorePermit>,
}

impl Slot {
    fn new(spare: Option<OwnedSemaphorePermit>) -> io::Result<Self> {
        Ok(Self {
            _spare: spare,
            encoder: Encoder::new()?,
            content: Vec::new(),
            chunk: Vec::new(),
        })
    }

    /// Reads until the slot is full or `tar` ends, and says how many bytes it has then.
    async fn fill(&mut self, tar: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.content.clear();
        self.content.reserve(CONTENT);
        let mut rest = tar.take(CONTENT as u64);
        rest.read_to_end(&mut self.content).await
    }

    fn pack(mut self) -> io::Result<Self> {
        self.encoder.encode(&self.content, &mut self.chunk)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Bytes that compress somewhat.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 28).to_le_bytes()[0]
            })
            .collect()
    }

    async fn sent(content: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        let sent = send(content, &mut wire, &Spare::default(), |_| ())
            .await
            .expect("it is sent");
        assert_eq!(sent.content, content.len() as u64);
        assert_eq!(sent.wire, wire.len() as u64);
        wire
    }

    async fn received(wire: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut tar = Vec::new();
        reader(io::Cursor::new(wire)).read_to_end(&mut tar).await?;
        Ok(tar)
    }

    #[tokio::test]
    async fn a_tar_comes_back() {
        for length in [0, 1, CONTENT - 1, CONTENT, CONTENT + 1, 9 * CONTENT + 17] {
            let tar = content(length);
            assert_eq!(received(sent(&tar).await).await.expect("it is whole"), tar);
        }
    }

    #[tokio::test]
    async fn layers_that_are_sent_together_share_memory() {
        let spare = Spare::default();
        let tar = content(9 * CONTENT);
        let stalled: Vec<_> = (0..2).map(|_| duplex(7)).collect();
        let (ours, _theirs): (Vec<_>, Vec<_>) = stalled.into_iter().unzip();
        let mut sending: Vec<_> = ours
            .into_iter()
            .map(|to| Box::pin(send(&tar[..], to, &spare, |_| ())))
            .collect();
        for layer in &mut sending {
            assert!(futures_util::poll!(layer).is_pending());
        }
        assert_eq!(spare.0.available_permits(), 0, "both have what there is");
        // One more is sent all the same, with what is its own.
        let mut wire = Vec::new();
        let sent = send(&tar[..], &mut wire, &spare, |_| ()).await;
        assert_eq!(sent.expect("it is sent").content, tar.len() as u64);
        drop(sending);
        let left = async {
            while spare.0.available_permits() < SPARE {
                tokio::task::yield_now().await;
            }
        };
        let left = tokio::time::timeout(std::time::Duration::from_secs(20), left).await;
        left.expect("what was shared is given back");
    }

    #[tokio::test]
    async fn a_tar_comes_back_through_a_narrow_pipe() {
        let tar = content(3 * CONTENT);
        let (client, server) = duplex(7);
        let far = tokio::spawn(async move {
            let mut found = Vec::new();
            let read = reader(server).read_to_end(&mut found).await;
            read.map(|_| found)
        });
        send(&tar[..], client, &Spare::default(), |_| ())
            .await
            .expect("it is sent");
        let found = far.await.expect("no panic").expect("it is whole");
        assert!(found == tar);
    }

    #[tokio::test]
    async fn a_missing_end_mark_is_an_unexpected_end() {
        let wire = sent(&content(2 * CONTENT)).await;
        for cut in [1, END.len(), END.len() + 1, wire.len() / 2, wire.len()] {
            let error = received(wire[..wire.len() - cut].to_vec())
                .await
                .expect_err("the end is missing");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
    }

    #[tokio::test]
    async fn a_damaged_chunk_is_invalid_data() {
        let mut wire = sent(b"some content").await;
        wire[HEADER_LENGTH] ^= 1;
        let error = received(wire).await.expect_err("it is damaged");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn nothing_is_read_beyond_the_end_mark() {
        let mut wire = sent(b"a layer").await;
        wire.extend_from_slice(b"what follows");
        let (mut client, mut server) = duplex(wire.len());
        client.write_all(&wire).await.expect("it fits");
        drop(client);
        let mut frame = Vec::new();
        while next_frame(&mut server, &mut frame)
            .await
            .expect("a whole layer")
            .is_some()
        {}
        let mut rest = String::new();
        server.read_to_string(&mut rest).await.expect("text");
        assert_eq!(rest, "what follows");
    }

    #[tokio::test]
    async fn progress_ends_at_the_length_of_the_tar() {
        let done = Cell::new(0);
        let tar = content(2 * CONTENT + 5);
        let record = |so_far| {
            assert!(so_far > done.get());
            done.set(so_far);
        };
        send(&tar[..], tokio::io::sink(), &Spare::default(), record)
            .await
            .expect("it is sent");
        assert_eq!(done.get(), tar.len() as u64);
    }

    #[tokio::test]
    async fn a_writer_that_fails_ends_it() {
        let (client, server) = duplex(10);
        drop(server);
        let error = send(&content(9 * CONTENT)[..], client, &Spare::default(), |_| ())
            .await
            .expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
