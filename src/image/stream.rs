//! Bridges between readers on blocking threads and asynchronous ones, both ways.
//!
//! Decompressing and hashing are done on blocking threads; sockets are read and layers are sent by tasks. Between them
//! are channels of a few chunks, so memory stays the same whatever flows, and the slower side sets the pace. Whoever
//! gives up drops its end, and the other side notices at its next chunk: no thread stays behind.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::LayerReader;

/// Size of a chunk, in bytes.
const CHUNK: usize = 128 * 1024;

/// Chunks that wait in a channel.
const QUEUE: usize = 4;

enum Piece {
    Chunk(Bytes),
    Failed(io::Error),
    /// The regular end. A channel that closes without it has lost its writer, which is an error.
    End,
}

/// A thread's end of a layer that a task reads.
pub(super) struct LayerWriter {
    pieces: mpsc::Sender<Piece>,
}

/// A way from a thread to a task: what is written into the first comes out of the second.
pub(super) fn layer_channel() -> (LayerWriter, LayerReader) {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let mut ended = false;
    let chunks = stream::poll_fn(move |context| {
        if ended {
            return std::task::Poll::Ready(None);
        }
        receiver.poll_recv(context).map(|piece| match piece {
            Some(Piece::Chunk(chunk)) => Some(Ok(chunk)),
            Some(Piece::Failed(error)) => {
                ended = true;
                Some(Err(error))
            }
            Some(Piece::End) => {
                ended = true;
                None
            }
            None => {
                ended = true;
                Some(Err(abandoned()))
            }
        })
    });
    (
        LayerWriter { pieces: sender },
        Box::new(StreamReader::new(chunks)),
    )
}

impl LayerWriter {
    /// Copies all of `tar` but its first `offset` bytes, or its error. Returns early, and successfully, when the task has
    /// dropped its end: then it wants no more.
    ///
    /// Must not be called on a thread of the runtime.
    pub(super) fn copy(self, tar: io::Result<impl Read>, offset: u64) {
        let last = match tar.and_then(|tar| self.copy_chunks(tar, offset)) {
            Ok(()) => Piece::End,
            Err(error) => Piece::Failed(error),
        };
        // The task may have gone, and then there is nobody to tell.
        let _ = self.pieces.blocking_send(last);
    }

    fn copy_chunks(&self, mut tar: impl Read, offset: u64) -> io::Result<()> {
        let skipped = io::copy(&mut tar.by_ref().take(offset), &mut io::sink())?;
        if skipped < offset {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "the layer has {skipped} bytes, but {offset} of it are said to have been sent"
                ),
            ));
        }
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            tar.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                return Ok(());
            }
            if self
                .pieces
                .blocking_send(Piece::Chunk(chunk.into()))
                .is_err()
            {
                return Ok(());
            }
        }
    }
}

/// A task's end of what a thread reads.
pub(super) struct Feeder {
    pieces: mpsc::Sender<Piece>,
}

/// A thread's end of what a task feeds.
pub(super) struct FedReader {
    pieces: mpsc::Receiver<Piece>,
    chunk: Bytes,
    ended: bool,
}

/// A way from a task to a thread.
pub(super) fn feed() -> (Feeder, FedReader) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (
        Feeder { pieces: sender },
        FedReader {
            pieces: receiver,
            chunk: Bytes::new(),
            ended: false,
        },
    )
}

impl Feeder {
    /// Passes a chunk on; false when the thread wants no more.
    pub(super) async fn send(&self, chunk: Bytes) -> bool {
        self.pieces.send(Piece::Chunk(chunk)).await.is_ok()
    }

    /// Ends the stream, well or with an error.
    pub(super) async fn finish(self, result: io::Result<()>) {
        let last = result.map_or_else(Piece::Failed, |()| Piece::End);
        // The thread may have seen enough, and then there is nobody to tell.
        let _ = self.pieces.send(last).await;
    }
}

impl Read for FedReader {
    /// Must not be called on a thread of the runtime.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Chunk(chunk)) => self.chunk = chunk,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(error)) => return Err(error),
                None => return Err(abandoned()),
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

fn abandoned() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the transfer was given up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_layer_comes_out_whole_and_from_the_offset() {
        let content: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for offset in [0, 1, 500_000, 1_000_000] {
            let (writer, mut reader) = layer_channel();
            let input = content.clone();
            let thread = tokio::task::spawn_blocking(move || {
                writer.copy(Ok(&input[..]), offset as u64);
            });
            let mut out = Vec::new();
            reader.read_to_end(&mut out).await.expect("read");
            assert!(out == content[offset..]);
            thread.await.expect("thread");
        }
    }

    #[tokio::test]
    async fn an_offset_beyond_the_end_is_an_error() {
        let (writer, mut reader) = layer_channel();
        let thread = tokio::task::spawn_blocking(move || writer.copy(Ok(&b"abc"[..]), 4));
        assert!(reader.read_to_end(&mut Vec::new()).await.is_err());
        thread.await.expect("thread");
    }

    #[tokio::test]
    async fn a_lost_writer_is_an_error_and_a_lost_reader_ends_the_writer() {
        let (writer, mut reader) = layer_channel();
        drop(writer);
        assert!(reader.read_to_end(&mut Vec::new()).await.is_err());

        let (writer, reader) = layer_channel();
        drop(reader);
        let thread = tokio::task::spawn_blocking(move || writer.copy(Ok(io::repeat(0)), 0));
        thread
            .await
            .expect("the copy ends although its input does not");
    }

    #[tokio::test]
    async fn what_is_fed_comes_out_on_the_thread() {
        let (feeder, mut reader) = feed();
        let thread = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            reader.read_to_end(&mut out).map(|_| out)
        });
        assert!(feeder.send(Bytes::from_static(b"one ")).await);
        assert!(feeder.send(Bytes::from_static(b"two")).await);
        feeder.finish(Ok(())).await;
        let out = thread.await.expect("thread").expect("read");
        assert_eq!(out, b"one two");
    }

    #[tokio::test]
    async fn a_lost_feeder_is_an_error() {
        let (feeder, mut reader) = feed();
        drop(feeder);
        let result = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        assert!(result.await.expect("thread").is_err());
    }
}
