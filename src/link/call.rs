//! Calls and notices of the peer, and how a call is answered.

use std::marker::PhantomData;

use crate::protocol::messages::{Call, Fault, Notice};

use super::Link;
use super::error::CallError;

/// A message or header of the peer that could not be read. A caller has already been answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read message {kind}: {problem}")]
pub struct Malformed {
    /// Number of the message; 0 for the header of a stream.
    pub kind: u16,
    /// What is wrong with it.
    pub problem: String,
}

/// A call of the peer, not yet decoded. Answers with [`FaultCode::Internal`](crate::protocol::messages::FaultCode) if dropped.
#[derive(Debug)]
pub struct PendingCall {}

impl PendingCall {
    /// Number of the message.
    #[must_use]
    pub fn kind(&self) -> u16 {
        todo!()
    }

    /// The message, and what takes its answer.
    ///
    /// # Errors
    ///
    /// When the body is not a `C`; the peer has then been answered with a fault that says so.
    pub fn decode<C: Call>(self) -> Result<(C, Reply<C>), Malformed> {
        todo!()
    }

    /// The message, still to be answered or relayed.
    ///
    /// # Errors
    ///
    /// When the body is not a `C`; nothing is answered.
    pub fn peek<C: Call>(&self) -> Result<C, Malformed> {
        todo!()
    }

    /// Answers that there is no such message.
    pub fn unknown(self) {
        todo!()
    }

    /// Answers with a fault.
    pub fn refuse(self, fault: Fault) {
        let _ = fault;
        todo!()
    }

    /// Sends the call on as it is, and the answer back as it comes. If `to` ends first, the caller gets a fault.
    ///
    /// # Errors
    ///
    /// When `to` has ended or does so before it has answered.
    pub async fn relay(self, to: &Link) -> Result<(), CallError> {
        let _ = to;
        todo!()
    }
}

/// Where the answer of one call goes. Answers with [`FaultCode::Internal`](crate::protocol::messages::FaultCode) if dropped.
#[derive(Debug)]
pub struct Reply<C: Call> {
    call: PhantomData<fn(C)>,
}

impl<C: Call> Reply<C> {
    /// Answers. Does nothing if the link has ended.
    pub fn send(self, result: Result<C::Reply, Fault>) {
        let _ = (self.call, result);
        todo!()
    }
}

/// A notice of the peer, not yet decoded.
#[derive(Debug)]
pub struct PendingNotice {}

impl PendingNotice {
    /// Number of the message.
    #[must_use]
    pub fn kind(&self) -> u16 {
        todo!()
    }

    /// The message.
    ///
    /// # Errors
    ///
    /// When the body is not an `N`.
    pub fn decode<N: Notice>(self) -> Result<N, Malformed> {
        todo!()
    }

    /// Sends the notice on as it is.
    ///
    /// # Errors
    ///
    /// When `to` has ended.
    pub async fn relay(self, to: &Link) -> Result<(), super::Closed> {
        let _ = to;
        todo!()
    }
}
