//! The program `tf`, with a state of its own and nobody's settings.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::memory::children;
use crate::patience::{is_running, until};
use crate::{far_end, ports};

/// An installation of `tf`.
pub(crate) struct Tf {
    home: TempDir,
    docker: String,
}

impl Tf {
    /// One that keeps everything in `home` and knows of no Docker daemon.
    pub(crate) fn new(home: TempDir) -> Self {
        let docker = format!("unix://{}", home.path().join("none").display());
        Self { home, docker }
    }

    /// With a Docker daemon to find images in.
    pub(crate) fn with_docker(mut self, host: String) -> Self {
        self.docker = host;
        self
    }

    /// Where it keeps its accounts.
    pub(crate) fn home(&self) -> PathBuf {
        self.home.path().join("home")
    }

    /// `tf`, to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let path = |name: &str| self.home.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tf"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("TF_HOME", path("home"))
            .env("TF_STATE", path("state"))
            .env("TF_CACHE", path("cache"))
            .env("DOCKER_HOST", &self.docker)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Sends an image ahead.
    pub(crate) fn cache(&self, image: &Path) -> Result<()> {
        let status = self.command().arg("cache").arg(image).status();
        let status = status.context("run tf cache")?;
        ensure!(status.success(), "tf cache: {status}");
        Ok(())
    }

    /// Starts `tf image`, with `port` of the container on a local one.
    pub(crate) fn publish(&self, image: impl AsRef<Path>, port: u16) -> Result<Running> {
        let local = ports::free()?;
        let log = self.home.path().join("log");
        let child = self
            .command()
            .args(["--timing", "--publish", &format!("{local}:{port}")])
            .arg(image.as_ref())
            .stderr(File::create(&log)?)
            .spawn()
            .context("run tf")?;
        Ok(Running {
            child,
            port: local,
            log,
        })
    }

    /// Starts `tf image` with the far end of tunnels in it, and waits until it answers.
    pub(crate) fn far_end(&self, image: &Path) -> Result<Running> {
        let mut running = self.publish(image, far_end::PORT)?;
        let address = ports::local(running.port);
        running.until(|| far_end::round_trips(address, 1).map(drop))?;
        Ok(running)
    }
}

/// A `tf` that runs a container.
pub(crate) struct Running {
    child: Child,
    /// Where the container's port is.
    pub(crate) port: u16,
    log: PathBuf,
}

impl Running {
    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Process id of the process between it and its container.
    pub(crate) fn shim(&self) -> Result<u32> {
        let child = children(self.id()).into_iter().next();
        Ok(child.context("find the shim")?.pid)
    }

    /// Attempts something until it succeeds, for as long as it runs.
    pub(crate) fn until(&mut self, attempt: impl FnMut() -> Result<()>) -> Result<()> {
        until(|| is_running(&mut self.child, &self.log), attempt).context("tf")
    }

    /// Where its time went, if it was started with `--timing` and is of use by now.
    pub(crate) fn timing(&mut self) -> Result<String> {
        let log = self.log.clone();
        let mut phases = Vec::new();
        self.until(|| {
            let said = fs::read_to_string(&log)?;
            let times = said.lines().filter(|line| line.ends_with(" ms"));
            phases = times.map(str::to_owned).collect();
            ensure!(
                said.contains("total"),
                "it has not said where its time went"
            );
            Ok(())
        })?;
        let words = phases.iter().flat_map(|line| line.split_whitespace());
        Ok(words.collect::<Vec<_>>().join(" ").replace(" ms ", " ms, "))
    }

    /// Interrupts it and waits for its end.
    pub(crate) fn end(mut self) -> Result<ExitStatus> {
        self.interrupt();
        Ok(self.child.wait()?)
    }

    fn interrupt(&self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.interrupt();
            // Its status is not asked for.
            let _ = self.child.wait();
        }
    }
}
