//! How a location is reached, and as whom.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::keys::{PublicKey, SecretKey};
use crate::link::Dial;

/// Everything that is needed to connect to one location.
pub struct Dialler {
    /// Name of the location, for messages.
    pub name: String,
    /// Makes connections.
    pub dial: Arc<dyn Dial>,
    /// Key of this client.
    pub identity: SecretKey,
    /// Key that the location proves.
    pub location: PublicKey,
    /// How long the location should keep the session when the connection is lost; two minutes if not given, and never longer
    /// than it allows.
    pub linger: Option<Duration>,
    /// Directory for what this client can make again at any time.
    pub cache: Option<PathBuf>,
    /// What lives in this process for the sake of the connection: an embedded location.
    pub host: Option<Box<dyn Host>>,
}

/// Something that has to end in good order after the connection has.
pub trait Host: Send + Sync {
    /// Ends it. Returns when nothing of it is left.
    fn shutdown(self: Box<Self>) -> BoxFuture<'static, ()>;
}
