//! A container of the fake engine.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::process::{FakeProcess, Running};
use super::program::{Ports, Run};
use super::{Life, Machine, locked};
use crate::ids::ContainerId;
use crate::node::engine::{Container, EngineError, Process, Program};
use crate::protocol::container::{PrebootFile, Stdio};

/// A container that its engine may leave.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) id: ContainerId,
    pub(super) ip: Ipv4Addr,
    pub(super) program: Program,
    pub(super) shared: Arc<Shared>,
    pub(super) first: Arc<Running>,
}

/// What the processes of a container share.
pub(super) struct Shared {
    pub(super) programs: HashMap<String, Run>,
    pub(super) files: Vec<PrebootFile>,
    pub(super) ports: Ports,
    pub(super) ended: CancellationToken,
}

pub(super) struct FakeContainer {
    left: Left,
    first: FakeProcess,
    machine: Arc<Machine>,
    life: Arc<Life>,
}

impl FakeContainer {
    /// A container as the engine with this life has it.
    pub(super) fn new(left: Left, machine: &Arc<Machine>, life: &Arc<Life>) -> Self {
        Self {
            first: FakeProcess::new(&left.first, life),
            machine: Arc::clone(machine),
            life: Arc::clone(life),
            left,
        }
    }

    fn end(&self) {
        if !self.life.is_killed() {
            self.left.shared.ended.cancel();
            locked(&self.machine.living).retain(|left| left.id != self.left.id);
        }
    }
}

impl Drop for FakeContainer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Container for FakeContainer {
    fn ip(&self) -> Ipv4Addr {
        self.left.ip
    }

    fn start(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.left.first.start();
            Ok(())
        }
        .boxed()
    }

    fn first_process(&self) -> &dyn Process {
        &self.first
    }

    fn exec(
        &self,
        program: Program,
        stdio: Stdio,
    ) -> BoxFuture<'_, Result<Box<dyn Process>, EngineError>> {
        async move {
            let shared = &self.left.shared;
            if shared.ended.is_cancelled() {
                return Err(EngineError::Ended);
            }
            let over = self.life.over.clone();
            let running = Arc::new(Running::new(shared, over, program, stdio));
            running.start();
            let process = FakeProcess::new(&running, &self.life);
            Ok(Box::new(process) as Box<dyn Process>)
        }
        .boxed()
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        async move {
            let shared = &self.left.shared;
            match shared.ports.address(port) {
                Some(address) if !shared.ended.is_cancelled() => TcpStream::connect(address).await,
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }
        .boxed()
    }

    fn destroy(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.end();
            self.first.wait().await;
            Ok(())
        }
        .boxed()
    }
}
