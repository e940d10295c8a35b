//! An engine for tests, without privileges and on any system: its programs are functions of the test, its containers a few
//! tasks and loopback listeners.
//!
//! It keeps the contract of [`Engine`] where that shows: first processes start when told, processes end by signals, streams
//! are those that were asked for, and whatever runs in a container ends with it. It confines nothing. Its containers end with
//! it, unless it is [killed](FakeEngine::kill).

mod container;
mod process;
mod program;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use self::container::{FakeContainer, Left, Shared};
use self::process::Running;
pub use self::program::{Context, Ports, Run};
use super::{Adopted, Container, Engine, EngineError, Spec};
use crate::ids::Digest;
use crate::protocol::container::Exit;

/// What a stream holds before its reader gets to it, in bytes: as a pipe of Linux.
const BUFFER: usize = 64 << 10;

/// Runs functions as if they were containers.
pub struct FakeEngine {
    programs: HashMap<String, Run>,
    machine: Arc<Machine>,
    life: Arc<Life>,
    /// Containers of an earlier engine that nobody has asked for yet.
    left: Mutex<Vec<Left>>,
}

/// What an engine works on, and leaves to the next one.
#[derive(Default)]
struct Machine {
    layers: Mutex<HashSet<Digest>>,
    /// How many there were.
    containers: AtomicU32,
    living: Mutex<Vec<Left>>,
    ended: CancellationToken,
}

/// What ends with an engine's process, and not when that is killed.
#[derive(Default)]
struct Life {
    killed: AtomicBool,
    /// Ends its further processes.
    over: CancellationToken,
}

impl Life {
    fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// An engine whose containers know these programs: `echo WORD...`, `cat`, `sleep` (until a signal), `exit STATUS`, and
    /// `serve PORT`, which sends back what it is sent.
    #[must_use]
    pub fn new() -> Self {
        Self {
            programs: program::usual(),
            machine: Arc::default(),
            life: Arc::default(),
            left: Mutex::default(),
        }
    }

    /// Has this engine's process die, as by `kill -9`, and starts the next one, which can take back the containers. Whatever is
    /// done with this engine and what it has made has no effect on them any more.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.life.killed.store(true, Ordering::Relaxed);
        self.life.over.cancel();
        Self {
            programs: self.programs.clone(),
            machine: Arc::clone(&self.machine),
            life: Arc::default(),
            left: Mutex::new(locked(&self.machine.living).clone()),
        }
    }

    /// Adds a program.
    #[must_use]
    pub fn with_program<F>(
        mut self,
        name: &str,
        run: impl Fn(Context) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Exit> + Send + 'static,
    {
        self.programs.insert(name.to_owned(), program::boxed(run));
        self
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine for FakeEngine {
    fn adopt(&self) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>> {
        async move {
            let left = std::mem::take(&mut *locked(&self.left));
            let adopted = left.into_iter().map(|left| Adopted {
                id: left.id.clone(),
                program: left.program.clone(),
                container: Box::new(self.container(left)),
            });
            Ok(adopted.collect())
        }
        .boxed()
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async { Ok(()) }.boxed()
    }

    fn has_layer(&self, layer: &Digest) -> bool {
        locked(&self.machine.layers).contains(layer)
    }

    fn add_layer(
        &self,
        layer: Digest,
        mut tar: Box<dyn AsyncRead + Send + Unpin>,
        progress: Box<dyn Fn(u64) + Send + Sync>,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            let failed = |source| EngineError::Failed {
                step: "read a layer".to_owned(),
                source,
            };
            let mut hash = sha2::Sha256::new();
            let mut buffer = vec![0; BUFFER];
            let mut done = 0;
            loop {
                let length = tar.read(&mut buffer).await.map_err(failed)?;
                if length == 0 {
                    break;
                }
                hash.update(&buffer[..length]);
                done += length as u64;
                progress(done);
            }
            let found = Digest::new(hash.finalize().into());
            if found != layer {
                return Err(EngineError::WrongDigest {
                    expected: layer,
                    found,
                });
            }
            locked(&self.machine.layers).insert(layer);
            Ok(())
        }
        .boxed()
    }

    fn drop_layers<'a>(&'a self, layers: &'a [Digest]) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            locked(&self.machine.layers).retain(|layer| !layers.contains(layer));
            Ok(())
        }
        .boxed()
    }

    fn create(&self, spec: Spec) -> BoxFuture<'_, Result<Box<dyn Container>, EngineError>> {
        async move {
            if let Some(missing) = spec.layers.iter().find(|layer| !self.has_layer(layer)) {
                return Err(EngineError::BadSpec(format!("layer {missing} is not here")));
            }
            if self.machine.ended.is_cancelled() {
                return Err(EngineError::Ended);
            }
            let number = self.machine.containers.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::new(Shared {
                programs: self.programs.clone(),
                files: spec.files,
                ports: Ports::default(),
                ended: self.machine.ended.child_token(),
            });
            let over = CancellationToken::new();
            let first = Arc::new(Running::new(
                &shared,
                over,
                spec.program.clone(),
                spec.stdio,
            ));
            // Everything ends with the first process.
            let (mut exit, all) = (first.exit.clone(), shared.ended.clone());
            tokio::spawn(async move {
                // An error means that it has ended, too.
                let _ = exit.wait_for(Option::is_some).await;
                all.cancel();
            });
            let left = Left {
                id: spec.id,
                ip: Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 2).to_bits() + number),
                program: spec.program,
                shared,
                first,
            };
            locked(&self.machine.living).push(left.clone());
            Ok(Box::new(self.container(left)) as Box<dyn Container>)
        }
        .boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move { self.end() }.boxed()
    }
}

impl FakeEngine {
    fn container(&self, left: Left) -> FakeContainer {
        FakeContainer::new(left, &self.machine, &self.life)
    }

    fn end(&self) {
        if !self.life.is_killed() {
            self.machine.ended.cancel();
        }
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
