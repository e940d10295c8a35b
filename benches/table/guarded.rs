//! Programs that end when the benchmark does, however it ends.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::patience::{is_running, until};

/// Runs a program, waits until its own input closes, and ends the program.
const GUARD: &str = r#""$@" </dev/null & cat >/dev/null; kill $! 2>/dev/null; wait"#;

/// Waits until its own input closes, ends every `tf` whose home is in a directory, and removes the directory, which other
/// guards may be leaving at that time.
const SWEEP: &str = r#"
cat >/dev/null
for process in /proc/[0-9]*; do
    grep -qsaF "TF_HOME=$1/" "$process/environ" && kill -INT "${process#/proc/}"
done
for try in 1 2 3 4 5 6 7 8 9; do rm -rf "$1" && break; sleep 0.2; done
"#;

/// A program under guard.
#[derive(Debug)]
pub(crate) struct Guarded {
    guard: Child,
    /// The guard acts when it closes, which it also does when this process is killed.
    lifeline: Option<ChildStdin>,
    log: PathBuf,
}

impl Guarded {
    /// Starts a program; what it says goes to a file.
    pub(crate) fn start<S: AsRef<OsStr>>(
        words: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Result<Self> {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh"]).args(words);
        Self::start_guard(guard, log)
    }

    /// Removes a directory at the end, and ends what still runs in it.
    pub(crate) fn directory(path: &Path) -> Result<Self> {
        let mut guard = Command::new("sh");
        guard.args(["-c", SWEEP, "sh"]).arg(path);
        Self::start_guard(guard, Path::new("/dev/null"))
    }

    /// Starts a program that ends when its input closes.
    pub(crate) fn start_guard(mut guard: Command, log: &Path) -> Result<Self> {
        let said = File::create(log).context("make a log")?;
        let mut guard = guard
            .stdin(Stdio::piped())
            .stdout(said.try_clone()?)
            .stderr(said)
            // Ctrl-C at the terminal is not for the guard, which has to clean up after it.
            .process_group(0)
            .spawn()?;
        let lifeline = guard.stdin.take();
        Ok(Self {
            guard,
            lifeline,
            log: log.to_owned(),
        })
    }

    /// Attempts something until it succeeds, for as long as the program runs.
    pub(crate) fn until(&mut self, attempt: impl FnMut() -> Result<()>) -> Result<()> {
        until(|| is_running(&mut self.guard, &self.log), attempt)
    }

    /// Process id of the guard.
    pub(crate) fn id(&self) -> u32 {
        self.guard.id()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Its status says nothing: what counts is that it has ended.
        let _ = self.guard.wait();
    }
}
