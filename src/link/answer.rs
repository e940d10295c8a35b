//! Answering a call in one step.

use super::PendingCall;
use crate::protocol::messages::{Call, Fault};

/// Reads the call as a `C`, does `work`, and answers with what came out. A call that is not a `C` is answered with a fault.
pub async fn answer<C, W>(call: PendingCall, work: W)
where
    C: Call,
    W: AsyncFnOnce(C) -> Result<C::Reply, Fault>,
{
    match call.decode::<C>() {
        Ok((message, reply)) => reply.send(work(message).await),
        Err(malformed) => tracing::debug!("a call was refused: {malformed}"),
    }
}
