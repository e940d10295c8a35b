//! Connections within one machine, through a socket in the file system: who may open it is decided by its directory.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use tokio::net::{UnixListener, UnixStream};

use super::transport::{Dial, Listen, Transport};

impl Transport for UnixStream {}

/// Dials a socket in the file system.
#[derive(Debug, Clone)]
pub struct LocalDial {
    path: PathBuf,
}

impl LocalDial {
    /// Dials the socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Dial for LocalDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            Ok(Box::new(UnixStream::connect(&self.path).await?) as Box<dyn Transport>)
        })
    }
}

/// Listens on a socket in the file system, which goes when this does.
#[derive(Debug)]
pub struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalListener {
    /// Listens at `path`, in place of a socket that is there already: the caller knows that nobody listens on it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            listener: UnixListener::bind(path)?,
            path: path.to_owned(),
        })
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        // Somebody may have tidied up before.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listen for LocalListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}
