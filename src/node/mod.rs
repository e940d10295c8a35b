//! The agent of one machine: it runs containers for its location.
//!
//! The agent connects to its location, says what it has to offer, and does what the location asks: it fetches layers,
//! makes containers with its [`engine`], carries their streams, and reports their ends.

mod agent;
mod container;
pub mod engine;
mod fetch;
mod program;
mod stats;
mod stdio;

pub use agent::Agent;
pub(crate) use stats::hostname;

use crate::protocol::messages::{Fault, FaultCode};
use engine::EngineError;

/// What the location is told of an engine's failure.
fn fault(error: &EngineError) -> Fault {
    let code = match error {
        EngineError::Privilege(_) | EngineError::Unsupported(_) => FaultCode::Unsupported,
        EngineError::WrongDigest { .. }
        | EngineError::BadLayer { .. }
        | EngineError::BadSpec(_) => FaultCode::BadImage,
        EngineError::InUse(_) => FaultCode::InUse,
        EngineError::DiskFull(_) => FaultCode::LimitReached,
        EngineError::Ended => FaultCode::NotFound,
        _ => FaultCode::Internal,
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    Fault::new(code, message)
}
