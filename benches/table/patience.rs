//! Waiting for a program to be of use.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a program may take until it is of use.
const PATIENCE: Duration = Duration::from_mins(1);

/// Pause between two attempts to use it.
const PAUSE: Duration = Duration::from_millis(1);

/// Attempts something until it succeeds, unless `hope` says why it never will.
pub(crate) fn until<T>(
    mut hope: impl FnMut() -> Result<()>,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        hope()?;
        if Instant::now() >= deadline {
            return Err(error).context("it is still of no use after a minute");
        }
        sleep(PAUSE);
    }
}

/// Fails if a program has ended, with the last that it has said to `log`.
pub(crate) fn is_running(program: &mut Child, log: &Path) -> Result<()> {
    match program.try_wait()? {
        Some(status) => bail!("it has ended ({status}): {}", last_word(log)),
        None => Ok(()),
    }
}

/// The last line that a program has said.
fn last_word(log: &Path) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("it has said nothing").trim().to_owned()
}
