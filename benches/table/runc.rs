//! `runc` with a bundle: the same files, without the network and the system call filter that `tf` adds.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rootfs::{Rootfs, find};

/// A bundle.
pub(crate) struct Runc {
    program: PathBuf,
    directory: TempDir,
    started: u32,
}

impl Runc {
    /// A bundle of these files that runs these words.
    pub(crate) fn new(directory: TempDir, rootfs: &Rootfs, words: &[&str]) -> Result<Self> {
        let program = find("runc")?;
        rootfs.write_directory(&directory.path().join("rootfs"))?;
        let made = Command::new(&program)
            .arg("spec")
            .current_dir(directory.path())
            .status()
            .context("run runc")?;
        ensure!(made.success(), "runc spec failed");
        let path = directory.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["args"] = json!(words);
        config["process"]["terminal"] = json!(false);
        fs::write(path, serde_json::to_vec(&config)?)?;
        Ok(Self {
            program,
            directory,
            started: 0,
        })
    }

    /// Runs it once, and returns the time to the first byte of its output.
    pub(crate) fn first_output(&mut self) -> Result<Duration> {
        self.started += 1;
        let name = format!("tf-bench-{}-{}", std::process::id(), self.started);
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(self.directory.path().join("state"))
            .args(["run", &name])
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().context("run runc")?;
        let read = child.stdout.as_mut().map(|out| out.read(&mut [0]));
        let took = began.elapsed();
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success() && matches!(read, Some(Ok(1))),
            "runc: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(took)
    }
}
