//! Bytes that were sent one way and that the receiver may still lack.
//!
//! What [`replay`](super::replay) is for the records of a link, this is for one stream of bytes, which outlives the link that it
//! is on: bytes are counted in place of records, since those who relay a stream cut it anew.
//!
//! ```text
//!   acknowledged │  sent, not acknowledged │ not sent yet
//!                └ first                   └ first + sent
//! ```

use bytes::{Buf as _, BufMut, BytesMut};

use super::record::Violation;

/// One direction of a stream, from the first unacknowledged byte on.
#[derive(Debug, Default)]
pub struct Backlog {
    /// How many bytes the receiver has acknowledged.
    first: u64,
    /// What follows on those.
    bytes: BytesMut,
    /// How many of `bytes` were sent on this link.
    sent: usize,
}

impl Backlog {
    /// One that begins in the middle of a stream, of which the receiver has `received` bytes.
    #[must_use]
    pub fn starting_at(received: u64) -> Self {
        Self {
            first: received,
            ..Self::default()
        }
    }

    /// How many bytes were sent, all in all.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.first + self.sent as u64
    }

    /// Length of what the receiver has not acknowledged, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// What was not sent on this link.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Where to put what is to be sent next, up to `length` bytes.
    pub fn tail(&mut self, length: usize) -> impl BufMut {
        self.bytes.reserve(length);
        (&mut self.bytes).limit(length)
    }

    /// The first `length` bytes of what was not sent have been sent.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub fn sent(&mut self, length: usize) {
        assert!(
            length <= self.unsent().len(),
            "only what is there can be sent"
        );
        self.sent += length;
    }

    /// Forgets what the receiver has: all but what follows on its first `received` bytes.
    ///
    /// # Errors
    ///
    /// When the receiver claims bytes that were never sent.
    pub fn acknowledge(&mut self, received: u64) -> Result<(), Violation> {
        let new = received.saturating_sub(self.first);
        let new = usize::try_from(new).unwrap_or(usize::MAX);
        if new > self.sent {
            return Err(Violation("an acknowledgement of what was not sent"));
        }
        self.bytes.advance(new);
        self.sent -= new;
        self.first += new as u64;
        Ok(())
    }

    /// Forgets all that was sent, for a receiver that does not acknowledge.
    pub fn forget_sent(&mut self) {
        self.bytes.advance(self.sent);
        self.first += self.sent as u64;
        self.sent = 0;
    }

    /// Goes back to where the receiver has `received` bytes, to send from there on a new link.
    ///
    /// # Errors
    ///
    /// When the receiver has acknowledged more before, or claims bytes that were never sent.
    pub fn rewind(&mut self, received: u64) -> Result<(), Violation> {
        if received < self.first {
            return Err(Violation("a received count that was higher before"));
        }
        self.acknowledge(received)?;
        self.sent = 0;
        Ok(())
    }

    /// Gives memory back that is not needed to hold what is there.
    pub fn shrink(&mut self) {
        self.bytes = BytesMut::from(&self.bytes[..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn claims_about_what_was_not_sent_are_refused() {
        let mut backlog = Backlog::default();
        backlog.tail(4).put_slice(b"abcd");
        assert!(backlog.acknowledge(1).is_err());
        backlog.sent(2);
        backlog.acknowledge(2).expect("they were sent");
        assert!(backlog.rewind(1).is_err());
        assert!(backlog.rewind(3).is_err());
        assert!(backlog.acknowledge(u64::MAX).is_err());
        backlog.acknowledge(0).expect("an old count says nothing");
        assert_eq!(
            (backlog.unsent(), backlog.held(), backlog.position()),
            (&b"cd"[..], 2, 2)
        );
    }

    #[test]
    fn a_stream_can_begin_in_its_middle() {
        let mut backlog = Backlog::starting_at(7);
        assert!(backlog.rewind(6).is_err());
        backlog.tail(2).put_slice(b"ab");
        backlog.sent(1);
        backlog.forget_sent();
        assert_eq!((backlog.unsent(), backlog.position()), (&b"b"[..], 8));
        assert!(backlog.rewind(7).is_err());
    }

    proptest! {
        /// Whatever is lost on the way: who goes on from the count of what has arrived gets every byte once, in order.
        #[test]
        fn every_byte_arrives_once(steps in proptest::collection::vec(0_u8..6, 1..200)) {
            let mut backlog = Backlog::default();
            let (mut put, mut arrived, mut in_flight) = (Vec::new(), Vec::new(), Vec::new());
            for step in steps {
                let received = arrived.len() as u64;
                match step {
                    0 | 1 => {
                        let byte = u8::try_from(put.len() % 251).expect("it is small");
                        backlog.tail(1).put_u8(byte);
                        put.push(byte);
                    }
                    2 => {
                        let length = backlog.unsent().len().min(3);
                        in_flight.extend_from_slice(&backlog.unsent()[..length]);
                        backlog.sent(length);
                    }
                    3 => arrived.extend(in_flight.drain(..in_flight.len().min(2))),
                    4 => backlog.acknowledge(received).expect("they were sent"),
                    _ => {
                        in_flight.clear();
                        backlog.shrink();
                        backlog.rewind(received).expect("they were sent");
                    }
                }
            }
            backlog.rewind(arrived.len() as u64).expect("they were sent");
            arrived.extend_from_slice(backlog.unsent());
            prop_assert_eq!(arrived, put);
        }
    }
}
