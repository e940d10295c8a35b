//! What runs containers: the seam between a node and the machine under it.
//!
//! An engine takes a specification and returns handles; it knows neither links nor messages. There is one that makes
//! containers of Linux namespaces (`linux`), and one for tests that runs plain functions (`fake`).

pub mod fake;
#[cfg(target_os = "linux")]
pub mod linux;

use std::io;
use std::net::Ipv4Addr;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::ids::{ContainerId, Digest};
use crate::protocol::container::{Exit, Limits, PrebootFile, Stdio, WindowSize};

/// Runs containers.
///
/// When the engine is dropped, all its containers die with it. When its process dies, they do so too, unless the engine was
/// made to leave them to the next one for a while.
pub trait Engine: Send + Sync {
    /// Containers that an earlier engine on the same state directory has left running, which are this one's from now on. To be
    /// asked for before anything is created. Those that nobody takes end with the engine.
    ///
    /// Their further processes have ended. What their first processes wrote and nobody has read is still to be read.
    fn adopt(&self) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>>;

    /// Gets ready what the first container needs, so that it need not wait for it. Optional, and cheap to repeat.
    fn prepare(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Whether the layer is here, unpacked.
    fn has_layer(&self, layer: &Digest) -> bool;

    /// Unpacks a layer from its uncompressed tar. Nothing of it is visible before its digest is verified.
    /// `progress` is told how many bytes of the tar are done.
    fn add_layer(
        &self,
        layer: Digest,
        tar: Box<dyn AsyncRead + Send + Unpin>,
        progress: Box<dyn Fn(u64) + Send + Sync>,
    ) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Removes unpacked layers, apart from those that a container uses.
    fn drop_layers<'a>(&'a self, layers: &'a [Digest]) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Makes a container, booted but with its first process not yet started.
    fn create(&self, spec: Spec) -> BoxFuture<'_, Result<Box<dyn Container>, EngineError>>;

    /// Ends all containers and frees what they had.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// What an engine needs to know to make a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name, and its host name unless it has another.
    pub id: ContainerId,
    /// Layers, the lowest first, all of them unpacked before.
    pub layers: Vec<Digest>,
    /// Files above the layers, beneath what the container writes.
    pub files: Vec<PrebootFile>,
    /// The first process.
    pub program: Program,
    /// Its standard streams.
    pub stdio: Stdio,
    /// What the container may use.
    pub limits: Limits,
}

/// What a process is started with, all defaults applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Program and arguments, never empty. The program is searched in the `PATH` of `env` unless it has a slash.
    pub args: Vec<String>,
    /// Environment, `NAME=value` each. The engine adds `HOME`, and `TERM` for a terminal, where they are missing.
    pub env: Vec<String>,
    /// Working directory, made if missing; empty means `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, by the files of the container; empty means root.
    pub user: String,
}

/// A container that an earlier engine has made.
pub struct Adopted {
    /// Its name.
    pub id: ContainerId,
    /// What its first process is started with.
    pub program: Program,
    /// The container. Its first process may have ended meanwhile, or be still to be started.
    pub container: Box<dyn Container>,
}

/// A container of an engine. Dropping it destroys it in the background.
pub trait Container: Send + Sync {
    /// Its address.
    fn ip(&self) -> Ipv4Addr;

    /// Starts the first process. A program that is not there or cannot be executed is an [`Exit`], not an error.
    fn start(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// The first process. It exists from the beginning, and runs after `start`.
    fn first_process(&self) -> &dyn Process;

    /// Starts a further process.
    fn exec(
        &self,
        program: Program,
        stdio: Stdio,
    ) -> BoxFuture<'_, Result<Box<dyn Process>, EngineError>>;

    /// Connects to a TCP port from inside: 127.0.0.1 first, then the container's address, then `::1`.
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>>;

    /// Kills whatever runs in it and frees what it had, apart from what the kernel frees by itself a little later.
    fn destroy(&self) -> BoxFuture<'_, Result<(), EngineError>>;
}

/// A process in a container. Dropping a further process kills it.
pub trait Process: Send + Sync {
    /// Its standard streams; those that were not asked for, or were taken before, are `None`.
    fn take_io(&self) -> ProcessIo;

    /// Waits for its end. May be called any number of times, also after the end.
    fn wait(&self) -> BoxFuture<'_, Exit>;

    /// Sends a signal.
    fn signal(&self, signal: u8) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Changes the size of its terminal.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadSpec`] when it has none.
    fn resize(&self, size: WindowSize) -> Result<(), EngineError>;
}

/// The node's ends of a process's standard streams.
#[derive(Default)]
pub struct ProcessIo {
    /// What is written here, it reads.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What it writes, or all that its terminal shows.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// What it writes to standard error; none for a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
}

/// Why an engine could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The process lacks a privilege. The text says which, and how to get it.
    #[error("{0}")]
    Privilege(String),
    /// The kernel or the machine lacks a feature. The text says which, and where it would be found.
    #[error("{0}")]
    Unsupported(String),
    /// The layer's content is not what its digest says.
    #[error("layer {expected} arrived damaged: its content has the digest {found}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The layer is not a tar, or its entries reach outside the root.
    #[error("layer {layer} cannot be unpacked: {reason}")]
    BadLayer {
        /// The layer.
        layer: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// The specification asks for something that the image does not have: a user, a directory that is a file.
    #[error("{0}")]
    BadSpec(String),
    /// It is in use.
    #[error("{0} is in use")]
    InUse(String),
    /// The disk is full.
    #[error("no space left on the node's disk ({0})")]
    DiskFull(String),
    /// It has ended before.
    #[error("it has ended")]
    Ended,
    /// A step failed that should not have.
    #[error("cannot {step}")]
    Failed {
        /// What was tried, as in "mount the root file system".
        step: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
