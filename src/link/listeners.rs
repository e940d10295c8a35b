//! Listening in several places at once.

use std::io;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};

use super::transport::{Listen, Transport};

/// Several listeners as one. Fails when one of them fails.
pub struct Listeners(Vec<Box<dyn Listen>>);

impl Listeners {
    /// Listens to all of `listeners`, of which there is at least one.
    #[must_use]
    pub fn new(listeners: Vec<Box<dyn Listen>>) -> Self {
        assert!(!listeners.is_empty(), "there is something to listen to");
        Self(listeners)
    }
}

impl Listen for Listeners {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        // The others are dropped and asked anew next time: none of them loses a connection by that.
        select_all(self.0.iter_mut().map(|listener| listener.accept()))
            .map(|(accepted, _, _)| accepted)
            .boxed()
    }
}
