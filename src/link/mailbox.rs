//! Messages of a link on their way: calls that wait for an answer, what is to be sent, and what waits for the application.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;

use super::shared::{Wake, register};
use crate::protocol::control::{Assembler, FAULT, MAX_BODY, Message, NO_ID, REPLY, to_cbor};
use crate::protocol::frame::{CONTROL, StreamId};
use crate::protocol::messages::{Fault, FaultCode};
use crate::protocol::mux::{Mux, Read, Write};
use crate::protocol::record::Violation;

/// Messages that wait to be sent, in bytes: from here on, calls and notices wait. Replies do not.
const OUTBOX: usize = 1024 * 1024;

/// The same: a peer that makes this many of them wait goes on calling without taking the answers. Nothing less than the end of
/// the link would do, for the calls that it makes cannot be left unread without leaving its answers unread, too.
const OUTBOX_OVERFLOW: usize = 2 * MAX_BODY;

/// Messages and new streams that wait to be taken by the application: from here on, the control stream is not read.
const INBOX: usize = 1024;

/// The same in bytes.
const INBOX_BYTES: usize = 4 * 1024 * 1024;

/// Something for the application.
#[derive(Debug)]
pub(super) enum Arrival {
    Message(Message),
    Stream(StreamId, Bytes),
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Who waits for the answer to which call.
    calls: HashMap<u32, oneshot::Sender<Message>>,
    last_call: u32,
    outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
    /// Tasks that wait for room in the outbox.
    senders: Vec<Waker>,
    assembler: Assembler,
    /// Received bytes of the control stream that wait for room in the inbox.
    unread: Bytes,
    inbox: VecDeque<Arrival>,
    inbox_bytes: usize,
    /// The task that waits for an arrival.
    taker: Option<Waker>,
    /// Nobody takes from the inbox any more.
    deaf: bool,
}

impl Mailbox {
    /// Whether messages wait to be sent.
    pub(super) fn is_sending(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Waits until there is room for a message.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.outbox_bytes < OUTBOX {
            return Poll::Ready(());
        }
        register(&mut self.senders, cx);
        Poll::Pending
    }

    /// Sends a message, without regard to how many wait.
    pub(super) fn send(&mut self, mux: &mut Mux, message: &Message, wake: &mut Wake) {
        let bytes = message.encode();
        self.outbox_bytes += bytes.len();
        self.outbox.push_back(bytes);
        self.pump_out(mux, wake);
    }

    /// A number for a new call, and where its answer will come.
    pub(super) fn expect(&mut self) -> (u32, oneshot::Receiver<Message>) {
        loop {
            self.last_call = self.last_call.wrapping_add(1);
            if self.last_call != NO_ID && !self.calls.contains_key(&self.last_call) {
                break;
            }
        }
        let (sender, receiver) = oneshot::channel();
        self.calls.insert(self.last_call, sender);
        (self.last_call, receiver)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn forget(&mut self, call: u32) {
        self.calls.remove(&call);
    }

    /// Moves what is to be sent into the control stream, as far as it takes it.
    pub(super) fn pump_out(&mut self, mux: &mut Mux, wake: &mut Wake) {
        while let Some(front) = self.outbox.front_mut() {
            let Write::Taken(length) = mux.write(CONTROL, front) else {
                // Goes on when the window grows, or when something has been sent.
                break;
            };
            front.advance(length);
            self.outbox_bytes -= length;
            if front.is_empty() {
                self.outbox.pop_front();
            }
        }
        if self.outbox_bytes < OUTBOX {
            wake.all(&mut self.senders);
        }
    }

    /// Takes messages out of the control stream, as far as there is room for them.
    pub(super) fn pump_in(&mut self, mux: &mut Mux, wake: &mut Wake) -> Result<(), Violation> {
        while self.inbox.len() < INBOX && self.inbox_bytes < INBOX_BYTES {
            if self.unread.is_empty() {
                let Read::Data(bytes) = mux.read(CONTROL) else {
                    break;
                };
                self.unread = bytes;
            }
            if self.outbox_bytes > OUTBOX_OVERFLOW {
                return Err(Violation("calls whose answers are not taken"));
            }
            match self.assembler.take(&mut self.unread)? {
                Some(message) if matches!(message.kind, REPLY | FAULT) => {
                    // A caller that has gone away does not mind.
                    let caller = self.calls.remove(&message.id);
                    let _ = caller.map(|caller| caller.send(message));
                }
                Some(message) if self.deaf => self.refuse(mux, &message, wake),
                Some(message) => self.arrive(Arrival::Message(message), wake),
                None => {}
            }
        }
        if self.unread.is_empty() {
            // Even an empty slice keeps the record alive that it was cut from.
            self.unread = Bytes::new();
        }
        Ok(())
    }

    /// Whether nobody takes arrivals any more.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Hands something to the application.
    pub(super) fn arrive(&mut self, arrival: Arrival, wake: &mut Wake) {
        self.inbox_bytes += arrival.length();
        self.inbox.push_back(arrival);
        wake.one(&mut self.taker);
    }

    /// The next arrival, if there is one.
    pub(super) fn take(&mut self) -> Option<Arrival> {
        let arrival = self.inbox.pop_front()?;
        self.inbox_bytes -= arrival.length();
        Some(arrival)
    }

    /// Waits for [`Mailbox::take`] to return something.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        self.taker = Some(cx.waker().clone());
    }

    /// From now on, nothing that the peer asks for is taken. Returns the streams that it has opened.
    pub(super) fn stop_taking(&mut self, mux: &mut Mux, wake: &mut Wake) -> Vec<StreamId> {
        self.deaf = true;
        let mut streams = Vec::new();
        while let Some(arrival) = self.take() {
            match arrival {
                Arrival::Stream(stream, _) => streams.push(stream),
                Arrival::Message(message) => self.refuse(mux, &message, wake),
            }
        }
        streams
    }

    fn refuse(&mut self, mux: &mut Mux, message: &Message, wake: &mut Wake) {
        if message.id != NO_ID {
            let text = "this side takes no calls";
            let refusal = Message {
                kind: FAULT,
                id: message.id,
                body: to_cbor(&Fault::new(FaultCode::UnknownMessage, text)),
            };
            self.send(mux, &refusal, wake);
        }
    }

    /// The link has ended: nothing is sent any more, nobody gets an answer. What has arrived can still be taken.
    pub(super) fn close(&mut self, wake: &mut Wake) {
        self.outbox = VecDeque::new();
        self.outbox_bytes = 0;
        // A dropped sender tells its caller.
        self.calls = HashMap::new();
        wake.all(&mut self.senders);
        wake.one(&mut self.taker);
    }
}

impl Arrival {
    fn length(&self) -> usize {
        match self {
            Self::Message(message) => message.body.len(),
            Self::Stream(_, header) => header.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::Frame;
    use crate::protocol::mux::Side;

    /// Lets a call arrive.
    fn call(mux: &mut Mux) {
        let call = Message {
            kind: 1,
            id: 1,
            body: Bytes::new(),
        };
        let (header, payload) = Frame::Data(call.encode()).encode(CONTROL);
        let record = [&header[..], &payload].concat();
        mux.receive(Bytes::from(record), &mut Vec::new())
            .expect("valid");
    }

    #[test]
    fn a_peer_that_calls_and_takes_no_answers_is_stopped() {
        let mut mux = Mux::new(Side::Accepting, 1);
        let mut mailbox = Mailbox::default();
        let wake = &mut Wake::default();
        let answer = Message {
            kind: REPLY,
            id: 1,
            body: vec![0; MAX_BODY - 1000].into(),
        };
        for _ in 0..2 {
            mailbox.send(&mut mux, &answer, wake);
            call(&mut mux);
            assert_eq!(mailbox.pump_in(&mut mux, wake), Ok(()));
        }
        mailbox.send(&mut mux, &answer, wake);
        call(&mut mux);
        assert!(mailbox.pump_in(&mut mux, wake).is_err());
    }
}
