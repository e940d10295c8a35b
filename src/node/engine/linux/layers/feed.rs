//! From an asynchronous reader to the thread that unpacks, and past a third one that hashes.
//!
//! Blocks go through bounded queues: the slowest of reading, hashing and unpacking sets the pace, and memory is
//! constant.

use std::io::{self, BufRead, Read};
use std::sync::mpsc as sync;
use std::thread;

use bytes::{Buf, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::ids::Digest;

/// Length of a block, in bytes.
const BLOCK: usize = 256 << 10;

/// Blocks that wait for the thread that unpacks, and for the one that hashes.
const QUEUE: usize = 4;

/// What goes through the queue. A queue that ends without `End` or `Failed` was given up.
pub(super) enum Item {
    Block(Bytes),
    Failed(io::Error),
    End,
}

/// The two ends of a new queue.
pub(super) fn channel() -> (mpsc::Sender<Item>, Input) {
    let (blocks, incoming) = mpsc::channel(QUEUE);
    let input = Input {
        incoming,
        current: Bytes::new(),
        ended: false,
        copy: None,
    };
    (blocks, input)
}

/// Moves `tar` into the queue until one of them ends.
pub(super) async fn pump(
    mut tar: impl AsyncRead + Unpin,
    blocks: mpsc::Sender<Item>,
    progress: &(dyn Fn(u64) + Send + Sync),
) {
    let mut done = 0;
    loop {
        let mut block = BytesMut::with_capacity(BLOCK);
        let last = loop {
            match tar.read_buf(&mut block).await {
                Ok(0) => break Some(Item::End),
                Ok(_) if block.len() < block.capacity() => {}
                Ok(_) => break None,
                Err(error) => break Some(Item::Failed(error)),
            }
        };
        done += block.len() as u64;
        if !block.is_empty() && blocks.send(Item::Block(block.freeze())).await.is_err() {
            return;
        }
        progress(done);
        if let Some(last) = last {
            // The other end is gone if it has failed, and has the reason.
            let _ = blocks.send(last).await;
            return;
        }
    }
}

/// The queue's other end, to be read on a blocking thread.
pub(super) struct Input {
    incoming: mpsc::Receiver<Item>,
    current: Bytes,
    ended: bool,
    /// Where each block goes too.
    copy: Option<sync::SyncSender<Bytes>>,
}

impl Input {
    /// Has `work` read the input, and hashes all of it on the way, with what `work` leaves if it succeeds.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had, or the input fails after `work` has succeeded.
    pub(super) fn hashed<T, E>(
        mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> io::Result<(Result<T, E>, Digest)> {
        let (copy, blocks) = sync::sync_channel::<Bytes>(QUEUE);
        self.copy = Some(copy);
        thread::scope(|scope| {
            let hasher = thread::Builder::new()
                .name("layer-digest".to_owned())
                .spawn_scoped(scope, move || {
                    let mut hasher = Sha256::new();
                    for block in blocks {
                        hasher.update(&block);
                    }
                    Digest::new(hasher.finalize().into())
                })?;
            let result = work(&mut self);
            if result.is_ok() {
                self.skip_rest()?;
            }
            drop(self);
            let digest = hasher.join().expect("hashing does not panic");
            Ok((result, digest))
        })
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.incoming.blocking_recv() {
                Some(Item::Block(block)) => {
                    if let Some(copy) = &self.copy {
                        copy.send(block.clone()).map_err(io::Error::other)?;
                    }
                    self.current = block;
                }
                Some(Item::End) => self.ended = true,
                Some(Item::Failed(error)) => return Err(error),
                None => return Err(io::Error::other("given up before its end")),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let length = ready.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ready[..length]);
        self.consume(length);
        Ok(length)
    }
}
