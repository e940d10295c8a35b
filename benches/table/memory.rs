//! Processes and their memory, as the kernel sees them.

use std::fs;
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Pause between two looks at the most memory that a process has had.
const PAUSE: Duration = Duration::from_millis(5);

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// What it calls itself.
    pub(crate) name: String,
    parent: u32,
}

/// All processes.
pub(crate) fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            Some(Process {
                pid,
                name: field(&status, "Name")?.to_owned(),
                parent: field(&status, "PPid")?.parse().ok()?,
            })
        })
        .collect()
}

/// Processes that a process has started.
pub(crate) fn children(pid: u32) -> Vec<Process> {
    let mut all = processes();
    all.retain(|process| process.parent == pid);
    all
}

/// What a process has in memory now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    /// All of it, in bytes.
    pub(crate) all: u64,
    /// The same, with what several processes share divided among them, in bytes.
    pub(crate) share: u64,
}

/// What a process has in memory now.
pub(crate) fn resident(pid: u32) -> Result<Resident> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let read = |name| kilobytes(&text, name).context("read the memory of a process");
    Ok(Resident {
        all: read("Rss")?,
        share: read("Pss")?,
    })
}

/// What the machine could still give to programs, in bytes.
pub(crate) fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    kilobytes(&text, "MemAvailable").context("read the machine's memory")
}

/// Waits for a process that is to succeed, and returns the most memory that it has had, in bytes.
pub(crate) fn peak(child: &mut Child) -> Result<u64> {
    let path = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let status = loop {
        // It only grows, so that the last look before the end is what counts. There is none after it.
        let text = fs::read_to_string(&path).unwrap_or_default();
        most = kilobytes(&text, "VmHWM").unwrap_or(most);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        sleep(PAUSE);
    };
    ensure!(status.success(), "it failed: {status}");
    Ok(most)
}

/// The most memory that a process has had so far, in bytes.
pub(crate) fn most_so_far(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kilobytes(&text, "VmHWM").context("read the memory of a process")
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let number = field(text, name)?.strip_suffix(" kB")?;
    Some(number.trim().parse::<u64>().ok()? * 1024)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
