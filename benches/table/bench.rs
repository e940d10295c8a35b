//! What all rows share: how many runs, where files go, and the peers that take long to start.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use tempfile::TempDir;

use crate::archive::Archive;
use crate::args::Args;
use crate::contest::Rounds;
use crate::docker::Docker;
use crate::guarded::Guarded;
use crate::rootfs::Rootfs;

/// Bytes in the image that is sent.
const LARGE: u64 = 1_000_000_000;

/// The same with `--quick`.
const LARGE_QUICK: u64 = 50_000_000;

/// What images of busybox run: it says something and ends.
pub(crate) const ECHO: [&str; 3] = ["/bin/busybox", "echo", "x"];

/// One run of the benchmark.
pub(crate) struct Bench {
    quick: bool,
    runs: Option<u32>,
    /// Before the directory that it uses, so that it ends first.
    docker: OnceCell<Result<Docker, String>>,
    large: OnceCell<PathBuf>,
    scratch: PathBuf,
    _sweep: Guarded,
}

impl Bench {
    /// One run as it was asked for.
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("tf-bench-")
            .tempdir()?
            .keep();
        Ok(Self {
            quick: args.quick,
            runs: args.runs,
            docker: OnceCell::new(),
            large: OnceCell::new(),
            _sweep: Guarded::directory(&scratch)?,
            scratch,
        })
    }

    /// One of two values, by how long this may take.
    pub(crate) fn pick<T>(&self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }

    /// Rounds of a contest that has `usual` of them unless said otherwise.
    pub(crate) fn rounds(&self, usual: u32) -> Rounds {
        let few = usual.min(3);
        Rounds {
            warm_up: 1,
            counted: self.runs.unwrap_or(self.pick(usual, few)),
        }
    }

    /// A directory that is removed at the end.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A directory for one purpose, removed when it is dropped.
    pub(crate) fn directory(&self, purpose: &str) -> Result<TempDir> {
        let made = tempfile::Builder::new()
            .prefix(&format!("{purpose}-"))
            .tempdir_in(self.scratch());
        made.context("make a directory")
    }

    /// The private Docker daemon, which is started when it is first asked for.
    pub(crate) fn docker(&self) -> Result<&Docker> {
        let started = self.docker.get_or_init(|| {
            let started = Docker::start(&self.scratch().join("docker"), "docker");
            started.map_err(|error| format!("{error:#}"))
        });
        started.as_ref().map_err(|why| anyhow!("{why}"))
    }

    /// An image, written to a file.
    pub(crate) fn archive(&self, image: &Archive) -> Result<PathBuf> {
        let path = self.scratch().join(format!("{}.tar", image.name));
        image.write(&path)?;
        Ok(path)
    }

    /// An image that is as large as images get, written to a file, and how many bytes it is. It runs [`ECHO`].
    pub(crate) fn large(&self) -> Result<(&Path, u64)> {
        let size = self.pick(LARGE, LARGE_QUICK);
        if let Some(path) = self.large.get() {
            return Ok((path, size));
        }
        let rootfs = Rootfs::busybox()?.noise("large", size);
        let path = self.archive(&Archive::new("large", rootfs, &ECHO))?;
        Ok((self.large.get_or_init(|| path), size))
    }
}
