//! A running container.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::error::Error;
use super::http;
use super::process::Process;
use super::session::Shared;
use super::tunnel::{Listener, Tunnel};
use crate::ids::{ContainerId, NodeId, ProcessId};
use crate::image::Description;
use crate::protocol::container::{Exit, ProcessSpec, Started, Stdio};
use crate::protocol::messages::{Destroy, Exec, FaultCode, Spawned, WaitTcp, Wake};

/// How long a service in a container may take to answer, unless said otherwise.
pub const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// A container. Clones are the same container; dropping them does not end it.
#[derive(Clone)]
pub struct Container {
    shared: Arc<Shared>,
    id: ContainerId,
    image: Arc<Description>,
    spawned: Spawned,
    first: Process,
}

impl Container {
    pub(super) async fn spawned(
        shared: Arc<Shared>,
        id: ContainerId,
        image: Description,
        spawned: Spawned,
        stdio: Stdio,
        exit: watch::Receiver<Option<Exit>>,
    ) -> Result<Self, Error> {
        let resumable = spawned.started.resumable;
        let attaching = Process::attach(
            Arc::clone(&shared),
            id.clone(),
            None,
            stdio,
            resumable,
            exit,
        );
        let first = attaching.await?;
        Ok(Self {
            shared,
            id,
            image: Arc::new(image),
            spawned,
            first,
        })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// What it was made of.
    #[must_use]
    pub fn image(&self) -> &Description {
        &self.image
    }

    /// Its address, which containers that may connect to it use. Not reachable from here: that is what tunnels are for.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.spawned.started.ip
    }

    /// The node that it runs on.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.spawned.node
    }

    /// How long its node took to start it, and for what.
    #[must_use]
    pub fn started(&self) -> &Started {
        &self.spawned.started
    }

    /// Its first process, whose end is the end of the container.
    #[must_use]
    pub fn first_process(&self) -> &Process {
        &self.first
    }

    /// Runs the first process of a container that was spawned asleep.
    ///
    /// # Errors
    ///
    /// When it runs already, or cannot run.
    pub async fn start(&self) -> Result<(), Error> {
        Ok(self
            .shared
            .call(&Wake {
                container: self.id.clone(),
            })
            .await?)
    }

    /// Starts a further process.
    ///
    /// # Errors
    ///
    /// When the container has ended, or there is no such user or directory in it. A program that does not exist is not
    /// an error but an end ([`Exit::NotFound`]).
    pub async fn exec(&self, spec: ProcessSpec) -> Result<Process, Error> {
        let id = ProcessId::random();
        let exit = self.shared.expect_exit(&self.id, Some(&id));
        let stdio = spec.stdio;
        let exec = Exec {
            container: self.id.clone(),
            process: id.clone(),
            spec,
        };
        self.shared.call(&exec).await?;
        Process::attach(
            Arc::clone(&self.shared),
            self.id.clone(),
            Some(id),
            stdio,
            self.spawned.started.resumable,
            exit,
        )
        .await
    }

    /// Waits until it listens on every TCP port that its image exposes, and for a minute at most. A container that
    /// exposes none is ready when it is started.
    ///
    /// # Errors
    ///
    /// When it takes too long or the container ends.
    pub async fn wait_until_ready(&self) -> Result<(), Error> {
        for port in self.image.config.exposed_tcp() {
            self.wait_tcp(port, READY_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Waits until something in it accepts TCP connections on a port.
    ///
    /// # Errors
    ///
    /// When that takes longer than `timeout`, or the container ends.
    pub async fn wait_tcp(&self, port: u16, timeout: Duration) -> Result<(), Error> {
        let answer = self
            .shared
            .repeat(&WaitTcp {
                container: self.id.clone(),
                port,
                timeout,
            })
            .await;
        answer.map_err(|error| match Error::from(error) {
            Error::Refused(fault) if fault.code == FaultCode::TimedOut => Error::TimedOut {
                what: format!("waiting for the container to listen on port {port}"),
                limit: timeout,
            },
            Error::Refused(fault) => match self.first.exit() {
                Some(exit) => Error::Ended(exit),
                None => Error::Refused(fault),
            },
            other => other,
        })
    }

    /// Puts a port of it on localhost: on the local port of the same number, or on `local_port`, of which 0 is any free
    /// one. Does not wait for a service to listen there.
    ///
    /// # Errors
    ///
    /// When the local port is taken or not allowed.
    pub async fn attach_tunnel(&self, port: u16, local_port: Option<u16>) -> Result<Tunnel, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, local_port.unwrap_or(port)));
        Ok(self.attach(Listener::bind(address).await?, port))
    }

    /// Connects whoever connects to `listener` to a port of it, until the returned tunnel is dropped.
    #[must_use]
    pub fn attach(&self, listener: Listener, port: u16) -> Tunnel {
        Tunnel::new(Arc::clone(&self.shared), self.id.clone(), listener, port)
    }

    /// Puts a port of it on a free local one and waits until `GET path` is answered with status 200, for a minute at most.
    /// `host` has to be a name of this machine, and is sent as such.
    ///
    /// # Errors
    ///
    /// When `host` is not a name of this machine, it takes too long, or the container ends.
    pub async fn wait_http_200(&self, port: u16, host: &str, path: &str) -> Result<Tunnel, Error> {
        let tunnel = self.attach_tunnel(port, Some(0)).await?;
        self.wait_tunnel_http_200(&tunnel, host, path).await?;
        Ok(tunnel)
    }

    /// [`Container::wait_http_200`] through a tunnel that is there already.
    ///
    /// # Errors
    ///
    /// As [`Container::wait_http_200`].
    pub async fn wait_tunnel_http_200(
        &self,
        tunnel: &Tunnel,
        host: &str,
        path: &str,
    ) -> Result<(), Error> {
        http::require_local(host).await?;
        self.wait_tcp(tunnel.port(), READY_TIMEOUT).await?;
        tokio::select! {
            answered = http::wait_200(tunnel.local_addr(), host, path, READY_TIMEOUT) => answered,
            exit = self.first.wait() => Err(Error::Ended(exit)),
        }
    }

    /// Puts a port of it on a free local one and opens it in the desktop's web browser, once it has answered 200.
    ///
    /// # Errors
    ///
    /// As [`Container::wait_http_200`], or when there is no browser.
    pub async fn attach_browser(&self, port: u16, host: &str, path: &str) -> Result<Tunnel, Error> {
        let tunnel = self.wait_http_200(port, host, path).await?;
        let url = http::url(host, tunnel.local_addr().port(), path);
        tokio::task::spawn_blocking(move || webbrowser::open(&url))
            .await
            .map_err(std::io::Error::other)
            .and_then(|opened| opened)
            .map_err(Error::Browser)?;
        Ok(tunnel)
    }

    /// Ends it and frees all it had. Returns when nothing of it runs any more.
    ///
    /// # Errors
    ///
    /// When the session has ended, which ends the container too.
    pub async fn destroy(&self) -> Result<(), Error> {
        self.shared
            .call(&Destroy {
                container: self.id.clone(),
            })
            .await?;
        self.shared.forget(&self.id);
        Ok(())
    }
}
