//! What the machine shows of containers.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::wait_until;

/// All that the machine shows of containers, apart from what belongs to other engines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    pub(crate) mounts: String,
    pub(crate) links: Vec<String>,
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) processes: Vec<String>,
}

impl Traces {
    /// Those of the engine with this state directory and slot.
    pub(crate) fn of(state: &Path, slot: &str) -> Self {
        let names = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path)
                .into_iter()
                .flatten()
                .map(|entry| entry.expect("listed").path())
                .collect()
        };
        let state_text = state.to_str().expect("text");
        // Somebody else may have the slot by now, and then the rest is theirs.
        let lock = Path::new("/run/20ft").join(slot);
        let ours = fs::read_to_string(&lock).is_ok_and(|owner| owner == state_text);
        let theirs = lock.exists() && !ours;
        let slot = if theirs { "nobody" } else { slot };
        Self {
            mounts: fs::read_to_string("/proc/self/mountinfo")
                .expect("read")
                .lines()
                .filter(|line| line.contains(state_text))
                .collect(),
            links: names(Path::new("/sys/class/net"))
                .into_iter()
                .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
                .filter(|name| name == &format!("tfnz-{slot}"))
                .collect(),
            // Hierarchies of version 1 are mounted below, the only one of version 2 is mounted there.
            cgroups: names(Path::new("/sys/fs/cgroup"))
                .into_iter()
                .chain([PathBuf::from("/sys/fs/cgroup")])
                .map(|mount| mount.join("tf").join(slot))
                .filter(|path| path.exists())
                .collect(),
            directories: names(&state.join("run"))
                .into_iter()
                .chain([Path::new("/run/20ft").join(slot), socket(slot)])
                .filter(|path| path.exists())
                .collect(),
            processes: names(Path::new("/proc"))
                .into_iter()
                .filter_map(|path| {
                    let groups = fs::read_to_string(path.join("cgroup")).ok()?;
                    let name = fs::read_to_string(path.join("comm")).ok()?;
                    groups.contains(&format!("/tf/{slot}/")).then_some(name)
                })
                .collect(),
        }
    }

    pub(crate) fn are_none(&self) -> bool {
        self.mounts.is_empty()
            && self.links.is_empty()
            && self.cgroups.is_empty()
            && self.directories.is_empty()
            && self.processes.is_empty()
    }
}

/// Where the shim of a slot waits for its next engine, if it is one that does.
pub(crate) fn socket(slot: &str) -> PathBuf {
    Path::new("/run/20ft").join(format!("{slot}.sock"))
}

/// The slot of the engine with this state directory.
pub(crate) fn slot(state: &Path) -> String {
    fs::read_dir(state.join("run"))
        .expect("it runs")
        .next()
        .expect("a slot")
        .expect("listed")
        .file_name()
        .into_string()
        .expect("a number")
}

/// Waits until the machine shows nothing of this engine.
pub(crate) fn wait_until_none(state: &Path, slot: &str) {
    wait_until("all traces go", || Traces::of(state, slot).are_none());
}

/// Waits until no process of this engine's containers is left.
pub(crate) fn wait_until_no_process(state: &Path, slot: &str) {
    wait_until("all processes die", || {
        Traces::of(state, slot).processes.is_empty()
    });
}
