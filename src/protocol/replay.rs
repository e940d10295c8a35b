//! What was sent and may have to be sent again.
//!
//! DATA records wait here until the peer has acknowledged them. After a lost connection the peer says how many it has, and
//! sending goes on from there. A record keeps its boundaries, so that counting whole records is enough.
//!
//! ```text
//!   acknowledged │  sent, not acknowledged │ not sent yet │ open: still takes frames
//!                └ first                   └ next
//! ```

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::record::{DATA, MAX_RECORD, Violation};

/// Records begin at this capacity, in bytes, when they begin with something short.
const SMALL_RECORD: usize = 512;

/// From this length on, in bytes, the first frame of a record is taken as a sign that more of its like follows.
const LARGE_FRAME: usize = 8 * 1024;

/// A DATA record as it travels, in two parts, so that a long payload is kept where it is rather than copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The start: its kind, and frames.
    pub head: Bytes,
    /// The payload of the last frame in `head`, or nothing.
    pub payload: Bytes,
}

impl Parts {
    /// Length of both, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Both as one.
    #[must_use]
    pub fn concat(&self) -> Bytes {
        [&self.head[..], &self.payload[..]].concat().into()
    }
}

impl From<Bytes> for Parts {
    fn from(head: Bytes) -> Self {
        let payload = Bytes::new();
        Self { head, payload }
    }
}

/// Records of one direction of a session, from the first unacknowledged one on.
#[derive(Debug, Default)]
pub struct Replay {
    /// Closed records: those that were sent, and those that are full.
    records: VecDeque<Parts>,
    /// The record that takes frames; empty, or a kind and at least one frame.
    open: BytesMut,
    /// Number of the first record in `records`: how many the peer has acknowledged.
    first: u64,
    /// How many of `records` have been sent on this connection.
    sent: usize,
    /// Length of all records, in bytes.
    held: usize,
    /// Length of the records that wait to be sent, in bytes.
    waiting: usize,
}

impl Replay {
    /// Length of what the peer has not acknowledged, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Length of what has not been sent on this connection, in bytes.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How long the payload of the next frame should be at most, in bytes, beside a header of `header` bytes: what fits into
    /// the open record, or into a new one if little is left of it.
    #[must_use]
    pub fn fits(&self, header: usize) -> usize {
        match MAX_RECORD.saturating_sub(self.open.len().max(1) + header) {
            0..SMALL_RECORD => MAX_RECORD - 1 - header,
            room => room,
        }
    }

    /// Adds a frame, given as two parts that together fit into a record.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub fn push(&mut self, header: &[u8], payload: &[u8]) {
        let length = header.len() + payload.len();
        let capacity = if length < LARGE_FRAME {
            SMALL_RECORD.max(1 + length)
        } else {
            MAX_RECORD
        };
        self.begin(length, capacity);
        self.open.put_slice(header);
        self.open.put_slice(payload);
        self.grow(length);
    }

    /// Adds a frame like [`Replay::push`], and keeps its payload where it is, which is worth it for a long one. It should be most
    /// of the memory that it keeps alive.
    ///
    /// # Panics
    ///
    /// When header and payload together do not fit into a record.
    pub fn push_shared(&mut self, header: &[u8], payload: Bytes) {
        let length = header.len() + payload.len();
        self.begin(length, 1 + header.len());
        self.open.put_slice(header);
        self.grow(length);
        let head = std::mem::take(&mut self.open).freeze();
        self.records.push_back(Parts { head, payload });
    }

    /// Makes the open record one that has room for a frame of `length` bytes; a new one gets `capacity`.
    fn begin(&mut self, length: usize, capacity: usize) {
        assert!(length < MAX_RECORD, "a frame fits into a record");
        if self.open.len() + length > MAX_RECORD {
            self.close();
        }
        if self.open.is_empty() {
            self.open = BytesMut::with_capacity(capacity);
            self.open.put_u8(DATA);
            self.grow(1);
        }
    }

    /// The next record to send.
    pub fn pop(&mut self) -> Option<Parts> {
        if self.sent == self.records.len() {
            self.close();
        }
        let record = self.records.get(self.sent)?.clone();
        self.sent += 1;
        self.waiting -= record.len();
        Some(record)
    }

    /// Forgets what the peer has: all records before number `received`.
    ///
    /// # Errors
    ///
    /// When the peer claims records that were never sent.
    pub fn acknowledge(&mut self, received: u64) -> Result<(), Violation> {
        let new = received.saturating_sub(self.first);
        let new = usize::try_from(new).unwrap_or(usize::MAX);
        if new > self.sent {
            return Err(Violation("an acknowledgement of what was not sent"));
        }
        for record in self.records.drain(..new) {
            self.held -= record.len();
        }
        self.sent -= new;
        self.first += new as u64;
        if self.records.is_empty() {
            // An idle link holds no memory.
            self.records = VecDeque::new();
        }
        Ok(())
    }

    /// Goes back to record number `received`, to send from there on a new connection.
    ///
    /// # Errors
    ///
    /// When the peer has acknowledged more before, or claims records that were never sent.
    pub fn rewind(&mut self, received: u64) -> Result<(), Violation> {
        if received < self.first {
            return Err(Violation("a received count that was higher before"));
        }
        self.acknowledge(received)?;
        self.sent = 0;
        self.waiting = self.held;
        Ok(())
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let record = std::mem::take(&mut self.open).freeze();
            self.records.push_back(record.into());
        }
    }

    fn grow(&mut self, length: usize) {
        self.held += length;
        self.waiting += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_share_a_record_until_it_is_sent() {
        let mut replay = Replay::default();
        replay.push(b"a", b"1");
        replay.push(b"b", b"");
        assert_eq!(
            replay.pop().map(|record| record.concat()),
            Some(Bytes::from_static(b"\0a1b"))
        );
        replay.push(b"c", b"2");
        assert_eq!(
            replay.pop().map(|record| record.concat()),
            Some(Bytes::from_static(b"\0c2"))
        );
        assert_eq!(replay.pop(), None);
        assert_eq!((replay.held(), replay.waiting()), (7, 0));
        replay.acknowledge(2).expect("both were sent");
        assert_eq!(replay.held(), 0);
    }

    #[test]
    fn a_frame_that_does_not_fit_begins_the_next_record() {
        let mut replay = Replay::default();
        replay.push(b"", &vec![1; 40_000]);
        assert_eq!(replay.fits(8), MAX_RECORD - 40_001 - 8);
        replay.push(b"", &vec![2; 40_000]);
        assert_eq!(replay.pop().map(|record| record.len()), Some(40_001));
        assert_eq!(replay.pop().map(|record| record.len()), Some(40_001));
        replay.push(b"", &vec![3; MAX_RECORD - 1]);
        assert_eq!(replay.fits(8), MAX_RECORD - 9);
    }

    #[test]
    fn claims_about_what_was_not_sent_are_refused() {
        let mut replay = Replay::default();
        replay.push(b"a", b"");
        assert!(replay.acknowledge(1).is_err());
        replay.pop();
        replay.acknowledge(1).expect("it was sent");
        assert!(replay.rewind(0).is_err());
        assert!(replay.rewind(2).is_err());
        assert!(replay.acknowledge(u64::MAX).is_err());
        replay.acknowledge(0).expect("an old count says nothing");
    }

    proptest! {
        /// Whatever is lost on the way: who goes on from the count of what has arrived gets every frame once, in order.
        #[test]
        fn every_frame_arrives_once(steps in proptest::collection::vec(0_u8..6, 1..200)) {
            let mut replay = Replay::default();
            let (mut pushed, mut arrived) = (Vec::new(), Vec::new());
            let (mut received, mut in_flight) = (0, VecDeque::new());
            let mut frame = 0_u8;
            for step in steps {
                match step {
                    0 | 1 => {
                        if step == 0 {
                            replay.push(&[frame], b"");
                        } else {
                            replay.push_shared(b"", Bytes::copy_from_slice(&[frame]));
                        }
                        pushed.push(frame);
                        frame = frame.wrapping_add(1);
                    }
                    2 => in_flight.extend(replay.pop()),
                    3 => if let Some(record) = in_flight.pop_front() {
                        arrived.extend_from_slice(&record.concat()[1..]);
                        received += 1;
                    },
                    4 => replay.acknowledge(received).expect("it was sent"),
                    _ => {
                        in_flight.clear();
                        replay.rewind(received).expect("it was sent");
                    }
                }
            }
            in_flight.clear();
            replay.rewind(received).expect("it was sent");
            while let Some(record) = replay.pop() {
                arrived.extend_from_slice(&record.concat()[1..]);
                received += 1;
            }
            replay.acknowledge(received).expect("it was sent");
            prop_assert_eq!(arrived, pushed);
            prop_assert_eq!((replay.held(), replay.waiting()), (0, 0));
        }
    }
}
