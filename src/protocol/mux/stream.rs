//! The state of one stream, and the bytes that wait to be read from it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::INITIAL_WINDOW;
use crate::protocol::frame::FRAME_HEADER;

/// Slices of received records shorter than this, in bytes, are copied, so that what is kept is never much smaller than the
/// memory that it keeps alive.
const KEEP_SLICE: usize = 24 * 1024;

/// One stream, as one of its two ends sees it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sending: Sending,
    /// Bytes that the peer still takes.
    pub(super) credit: usize,
    /// The peer knows that the credit was too little.
    pub(super) told: bool,
    pub(super) receiving: Receiving,
    /// Bytes that the peer may still send.
    pub(super) granted: usize,
    /// Bytes that this side is ready to hold.
    pub(super) window: usize,
    /// The peer has said that it waits for credit.
    pub(super) starved: bool,
    /// Received and not read, the older part.
    pub(super) queue: VecDeque<Bytes>,
    /// Received and not read, the newer part.
    pub(super) tail: BytesMut,
    /// Length of both, in bytes.
    pub(super) unread: usize,
    /// One of the two sides has given it up.
    pub(super) reset: bool,
}

/// What this side may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Open,
    Finished,
    Stopped,
}

/// What the peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    Open,
    Ended,
}

impl Stream {
    /// A stream at its start.
    pub(super) fn new() -> Self {
        Self {
            sending: Sending::Open,
            credit: INITIAL_WINDOW,
            told: false,
            receiving: Receiving::Open,
            granted: INITIAL_WINDOW,
            window: INITIAL_WINDOW,
            starved: false,
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            unread: 0,
            reset: false,
        }
    }

    /// Keeps bytes that have arrived in a record of `record` bytes.
    pub(super) fn push(&mut self, bytes: Bytes, record: usize) {
        self.unread += bytes.len();
        // A slice keeps its whole record alive.
        if bytes.len() >= KEEP_SLICE
            || bytes.len() + FRAME_HEADER == record && self.unread == bytes.len()
        {
            if !self.tail.is_empty() {
                self.queue.push_back(self.tail.split().freeze());
            }
            self.queue.push_back(bytes);
        } else {
            self.tail.extend_from_slice(&bytes);
        }
    }

    /// The oldest bytes that were not read.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let bytes = self
            .queue
            .pop_front()
            .or_else(|| (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).freeze()))?;
        self.unread -= bytes.len();
        Some(bytes)
    }

    /// Forgets what was not read.
    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.tail = BytesMut::new();
        self.unread = 0;
    }
}
