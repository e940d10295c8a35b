//! A location that is a process of its own, with a node in it, and accounts at it.

use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::guarded::Guarded;
use crate::memory::children;
use crate::ports;
use crate::tf::Tf;

/// A running `tf location serve`.
pub(crate) struct Remote {
    server: Guarded,
    tf: Tf,
}

impl Remote {
    /// Starts one on loopback that keeps everything in `home`.
    pub(crate) fn start(home: TempDir) -> Result<Self> {
        Self::at(ports::local(ports::free()?), home)
    }

    /// Starts one at an address that keeps everything in `home`.
    pub(crate) fn at(address: SocketAddrV4, home: TempDir) -> Result<Self> {
        let log = home.path().join("location.log");
        let tf = Tf::new(home);
        let address = address.to_string();
        let mut command = tf.command();
        command.args(["location", "serve", "--name", "bench", "--listen", &address]);
        let mut server = Guarded::start(words(&command), &log)?;
        let listens = || {
            let said = fs::read_to_string(&log)?;
            ensure!(said.contains(" listens on "), "it does not listen");
            Ok(())
        };
        server.until(listens).context("start a location")?;
        Ok(Self { server, tf })
    }

    /// An installation of `tf` with an account of its own there, which keeps everything in `home`.
    pub(crate) fn join(&self, home: TempDir) -> Result<Tf> {
        let name = home.path().to_string_lossy().into_owned();
        let mut command = self.tf.command();
        let invited = output(command.args(["location", "invite", &name]))?;
        let tf = Tf::new(home);
        output(tf.command().args(["account", "join", invited.trim()]))?;
        Ok(tf)
    }

    /// Process id of the location.
    pub(crate) fn id(&self) -> Result<u32> {
        let location = children(self.server.id())
            .into_iter()
            .find(|child| child.name == "tf");
        Ok(location.context("find the location")?.pid)
    }
}

/// A command as the words of one, with its environment and nothing of this program's.
fn words(command: &Command) -> Vec<std::ffi::OsString> {
    let mut words = vec!["env".into(), "-i".into()];
    for (name, value) in command.get_envs() {
        let mut word = name.to_owned();
        word.push("=");
        word.push(value.unwrap_or_default());
        words.push(word);
    }
    words.push(PathBuf::from(command.get_program()).into());
    words.extend(command.get_args().map(ToOwned::to_owned));
    words
}

/// What a command prints.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .context("run tf")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tf: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}
