//! Debian's `docker-registry`, on loopback of the private Docker daemon.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::docker::Docker;
use crate::guarded::Guarded;
use crate::ports;
use crate::rootfs::find;

/// A registry with nothing in it at first.
pub(crate) struct Registry {
    port: u16,
    _server: Guarded,
    _directory: TempDir,
}

impl Registry {
    /// Starts one that keeps everything in `directory`, for `docker` to push to.
    pub(crate) fn start(docker: &Docker, directory: TempDir) -> Result<Self> {
        let program = find("docker-registry")?;
        let path = |name: &str| directory.path().join(name);
        let (server, port) = docker.in_its_network(|| {
            let port = ports::free()?;
            let configuration = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: '127.0.0.1:{port}'}}\n",
                path("data").display()
            );
            fs::write(path("config.yml"), configuration)?;
            let words = [program, "serve".into(), path("config.yml")];
            let mut server = Guarded::start(words, &path("log"))?;
            let answers = || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)?);
            server.until(answers).context("start docker-registry")?;
            Ok((server, port))
        })?;
        Ok(Self {
            port,
            _server: server,
            _directory: directory,
        })
    }

    /// The name of an image there.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }
}
