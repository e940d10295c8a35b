//! Calls and notices of the peer, and how a call is answered.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Link;
use super::error::{CallError, Closed};
use super::shared::Shared;
use crate::protocol::control::{FAULT, Message, REPLY, from_cbor, to_cbor};
use crate::protocol::messages::{Call, Fault, FaultCode, Notice};

/// A message or header of the peer that could not be read. A caller has already been answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read message {kind}: {problem}")]
pub struct Malformed {
    /// Number of the message; 0 for the header of a stream.
    pub kind: u16,
    /// What is wrong with it.
    pub problem: String,
}

/// A call of the peer, not yet decoded. Answers with [`FaultCode::Internal`] if dropped.
#[derive(Debug)]
pub struct PendingCall {
    kind: u16,
    body: Bytes,
    answer: Answer,
}

impl PendingCall {
    pub(super) fn new(shared: Arc<Shared>, message: Message) -> Self {
        Self {
            kind: message.kind,
            body: message.body,
            answer: Answer {
                shared: Some(shared),
                call: message.id,
            },
        }
    }

    /// Number of the message.
    #[must_use]
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// The message, and what takes its answer.
    ///
    /// # Errors
    ///
    /// When the body is not a `C`; the peer has then been answered with a fault that says so.
    pub fn decode<C: Call>(self) -> Result<(C, Reply<C>), Malformed> {
        match self.peek() {
            Ok(call) => Ok((call, Reply::new(self.answer))),
            Err(malformed) => {
                let fault = Fault::new(FaultCode::Malformed, malformed.to_string());
                self.refuse(fault);
                Err(malformed)
            }
        }
    }

    /// The message, still to be answered, decoded or relayed.
    ///
    /// # Errors
    ///
    /// When the body is not a `C`; nothing is answered.
    pub fn peek<C: Call>(&self) -> Result<C, Malformed> {
        decode(self.kind, &self.body)
    }

    /// Answers that there is no such message.
    pub fn unknown(self) {
        let text = format!("message {} is not known here", self.kind);
        self.refuse(Fault::new(FaultCode::UnknownMessage, text));
    }

    /// Answers with a fault.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a fault is made to be answered"
    )]
    pub fn refuse(self, fault: Fault) {
        self.answer.send(FAULT, to_cbor(&fault));
    }

    /// Sends the call on as it is, and the answer back as it comes. If `to` ends first, the caller gets a fault.
    ///
    /// # Errors
    ///
    /// When `to` has ended or does so before it has answered.
    pub async fn relay(self, to: &Link) -> Result<(), CallError> {
        match to.request(self.kind, self.body).await {
            Ok(message) => {
                self.answer.send(message.kind, message.body);
                Ok(())
            }
            Err(error) => {
                let fault = Fault::new(FaultCode::Internal, format!("cannot pass it on: {error}"));
                self.answer.send(FAULT, to_cbor(&fault));
                Err(error)
            }
        }
    }
}

/// Where the answer of one call goes. Answers with [`FaultCode::Internal`] if dropped.
#[derive(Debug)]
pub struct Reply<C: Call> {
    answer: Answer,
    call: PhantomData<fn(C)>,
}

impl<C: Call> Reply<C> {
    fn new(answer: Answer) -> Self {
        Self {
            answer,
            call: PhantomData,
        }
    }

    /// Answers. Does nothing if the link has ended.
    pub fn send(self, result: Result<C::Reply, Fault>) {
        match result {
            Ok(reply) => self.answer.send(REPLY, to_cbor(&reply)),
            Err(fault) => self.answer.send(FAULT, to_cbor(&fault)),
        }
    }
}

/// A notice of the peer, not yet decoded.
#[derive(Debug)]
pub struct PendingNotice {
    kind: u16,
    body: Bytes,
}

impl PendingNotice {
    pub(super) fn new(message: Message) -> Self {
        Self {
            kind: message.kind,
            body: message.body,
        }
    }

    /// Number of the message.
    #[must_use]
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// The message.
    ///
    /// # Errors
    ///
    /// When the body is not an `N`.
    pub fn decode<N: Notice>(&self) -> Result<N, Malformed> {
        decode(self.kind, &self.body)
    }

    /// Sends the notice on as it is.
    ///
    /// # Errors
    ///
    /// When `to` has ended.
    pub async fn relay(self, to: &Link) -> Result<(), Closed> {
        to.tell(self.kind, self.body).await
    }
}

/// The duty to answer a call exactly once.
#[derive(Debug)]
struct Answer {
    /// None once answered.
    shared: Option<Arc<Shared>>,
    call: u32,
}

impl Answer {
    fn send(mut self, kind: u16, body: Bytes) {
        self.answer(kind, || body);
    }

    fn answer(&mut self, kind: u16, body: impl FnOnce() -> Bytes) {
        if let Some(shared) = self.shared.take() {
            let (id, body) = (self.call, body());
            shared.with(|state, wake| state.send(&Message { kind, id, body }, wake));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.answer(FAULT, || {
            let text = "the call was dropped unanswered";
            to_cbor(&Fault::new(FaultCode::Internal, text))
        });
    }
}

fn decode<T: DeserializeOwned>(kind: u16, body: &[u8]) -> Result<T, Malformed> {
    from_cbor(body).map_err(|problem| Malformed { kind, problem })
}
