//! Network namespaces: what stands for other machines, as far as their networks are concerned.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace without a name: it goes with this process and with those that were started inside.
#[derive(Debug)]
pub(crate) struct Netns(OwnedFd);

impl Netns {
    /// A new one, in which nothing but loopback is up.
    pub(crate) fn new() -> Result<Self> {
        let made = apart(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            anyhow::Ok(File::open("/proc/thread-self/ns/net")?)
        });
        let netns = Self(made?.into());
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Does something inside. So are the programs and sockets which that makes, for good.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        apart(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
            action()
        })
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        self.program("ip", arguments)
    }

    /// Runs a program inside, with arguments that have no spaces in them.
    pub(crate) fn program(&self, name: &str, arguments: &str) -> Result<()> {
        let mut command = Command::new(name);
        command.args(arguments.split_whitespace());
        let output = self.run(|| command.output().with_context(|| format!("run {name}")))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{name} {arguments}: {}",
            said.trim()
        );
        Ok(())
    }

    /// A file that stands for it, for other processes, as long as this is there.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

/// Does something on a thread of its own, whose namespace is nobody else's concern.
fn apart<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| scope.spawn(action).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
