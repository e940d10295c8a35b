//! What containers could leave behind on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::memory::children;

/// How long the kernel may take to remove what nobody has any more.
const SETTLING: Duration = Duration::from_secs(2);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Things of one kind, by name.
#[derive(Debug, Clone)]
struct Kind {
    name: &'static str,
    things: BTreeSet<String>,
}

/// All that there is of them at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Leftovers(Vec<Kind>);

impl Leftovers {
    /// What there is now, of what `tf` makes; `state` is where it makes it.
    pub(crate) fn now(state: &Path) -> Self {
        let processes = children(std::process::id());
        let processes = processes.iter().map(|process| process.pid.to_string());
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let state = state.to_string_lossy();
        let mounts = mounts.lines().filter(|line| line.contains(&*state));
        // Hierarchies of version 1 are mounted below, the only one of version 2 is mounted there.
        let hierarchies = entries(Path::new("/sys/fs/cgroup")).chain(["/sys/fs/cgroup".into()]);
        let cgroups = hierarchies.flat_map(|controller| {
            let mut below = Vec::new();
            directories(&controller.join("tf"), &mut below);
            below
        });
        let firewall = Command::new("nft").args(["list", "tables"]).output();
        let firewall = firewall.map(|output| output.stdout).unwrap_or_default();
        let firewall = String::from_utf8_lossy(&firewall);
        let shown = |path: PathBuf| path.display().to_string();
        let kind = |name, things| Kind { name, things };
        Self(vec![
            kind("processes", processes.collect()),
            kind("mounts", mounts.map(str::to_owned).collect()),
            kind(
                "network links",
                entries(Path::new("/sys/class/net")).map(shown).collect(),
            ),
            kind("cgroups", cgroups.map(shown).collect()),
            kind(
                "firewall tables",
                firewall.lines().map(str::to_owned).collect(),
            ),
        ])
    }

    /// What is left of each that was not there before. The kernel removes a network namespace some moments after its last
    /// process has ended; what it has not removed after a while is left.
    pub(crate) fn remaining(&self, state: &Path) -> Vec<(&'static str, Vec<String>)> {
        let deadline = Instant::now() + SETTLING;
        loop {
            let left = Self::now(state).since(self);
            if Instant::now() >= deadline || left.iter().all(|(_, things)| things.is_empty()) {
                return left;
            }
            sleep(PAUSE);
        }
    }

    fn since(&self, before: &Self) -> Vec<(&'static str, Vec<String>)> {
        let pairs = self.0.iter().zip(&before.0);
        pairs
            .map(|(now, before)| {
                let new = now.things.difference(&before.things);
                (now.name, new.cloned().collect())
            })
            .collect()
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn directories(above: &Path, found: &mut Vec<PathBuf>) {
    for path in entries(above).filter(|path| path.is_dir()) {
        directories(&path, found);
        found.push(path);
    }
}
