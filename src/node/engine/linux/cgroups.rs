//! The cgroups of containers, in whichever hierarchies the machine has: version 1, version 2, or both.
//!
//! libcontainer makes them and sets the limits. Here they are joined, asked about, emptied and removed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Above the cgroups of all instances, in every hierarchy.
const TOP: &str = "tf";
/// How long the kernel may take to let go of a cgroup whose processes have died.
const PATIENCE: Duration = Duration::from_secs(5);

/// Path of a container's cgroup in every hierarchy, from the root.
pub(super) fn container(slot: u16, name: &str) -> String {
    format!("/{TOP}/{slot}/{name}")
}

/// Path of the cgroup above those of all containers of an instance.
pub(super) fn instance(slot: u16) -> String {
    format!("/{TOP}/{slot}")
}

/// The hierarchies of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// Where they are mounted.
    mounts: Vec<PathBuf>,
    limits_swap: bool,
}

impl Hierarchies {
    /// Finds them among our mounts.
    pub(super) fn find() -> io::Result<Self> {
        Ok(Self::among(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn among(mountinfo: &str) -> Self {
        let mut mounts: Vec<PathBuf> = Vec::new();
        let mut limits_swap = false;
        for line in mountinfo.lines() {
            // mount id, parent, device, root, mount point, options, tags … - type, source, options
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next())
            else {
                continue;
            };
            let point = PathBuf::from(point);
            match kind {
                "cgroup" => limits_swap |= point.join("memory.memsw.limit_in_bytes").exists(),
                // The only hierarchy. A kernel without swap has neither the file nor the limit.
                "cgroup2" if point == Path::new("/sys/fs/cgroup") => {
                    limits_swap |= Path::new("/proc/swaps").exists();
                }
                "cgroup2" => {}
                _ => continue,
            }
            if !mounts.contains(&point) {
                mounts.push(point);
            }
        }
        Self {
            mounts,
            limits_swap,
        }
    }

    /// Whether the swap that a cgroup uses can be limited.
    pub(super) fn limits_swap(&self) -> bool {
        self.limits_swap
    }

    /// The directories of a cgroup.
    fn directories(&self, cgroup: &str) -> impl Iterator<Item = PathBuf> {
        self.mounts
            .iter()
            .map(move |mount| mount.join(cgroup.trim_start_matches('/')))
    }

    /// Moves the calling process into a cgroup, in every hierarchy that has it.
    pub(super) fn join(&self, cgroup: &str) -> io::Result<()> {
        self.directories(cgroup).try_for_each(|directory| {
            match fs::write(directory.join("cgroup.procs"), "0") {
                // libcontainer leaves out hierarchies without a controller.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        })
    }

    /// How many processes of a cgroup the kernel has killed because there was no memory left for them.
    pub(super) fn out_of_memory_kills(&self, cgroup: &str) -> u64 {
        self.directories(cgroup)
            .flat_map(|directory| {
                ["memory.events", "memory.oom_control"].map(|name| directory.join(name))
            })
            .filter_map(|file| fs::read_to_string(file).ok())
            .find_map(|text| counter(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// Removes a cgroup with all below it, and kills what is in them.
    pub(super) fn remove(&self, cgroup: &str) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.directories(cgroup)
            .try_for_each(|directory| remove(&directory, deadline))
    }

    /// The names of the cgroups directly below one.
    pub(super) fn below(&self, cgroup: &str) -> BTreeSet<String> {
        self.directories(cgroup)
            .filter_map(|directory| fs::read_dir(directory).ok())
            .flat_map(Iterator::flatten)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Removes the cgroup above those of all instances, unless one is using it.
    pub(super) fn remove_top(&self) {
        for directory in self.directories(TOP) {
            // Another instance's cgroup in it keeps it.
            let _ = fs::remove_dir(directory);
        }
    }
}

fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn remove(directory: &Path, deadline: Instant) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path(), deadline)?;
        }
    }
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
            {
                kill_all(directory);
                sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Kills the processes of a cgroup that are there now.
fn kill_all(directory: &Path) {
    let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok()) {
        // 0 is a process that we cannot see, and would mean our own group.
        if pid > 0 {
            // Whoever has gone in the meantime need not be killed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_among_the_mounts() {
        let found = Hierarchies::among(
            "21 1 0:20 / /sys rw - sysfs sysfs rw\n\
             22 21 0:21 / /none/memory rw,nosuid shared:4 - cgroup cgroup rw,memory\n\
             23 21 0:22 / /none/unified rw - cgroup2 cgroup2 rw\n\
             24 21 0:22 / /none/unified rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(
            found.mounts,
            ["/none/memory", "/none/unified"].map(PathBuf::from)
        );
        assert!(!found.limits_swap());
    }

    #[test]
    fn kills_are_counted_in_both_versions() {
        assert_eq!(counter("low 0\noom 3\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(
            counter("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", "oom_kill"),
            Some(5)
        );
        assert_eq!(counter("oom_kill_disable 0\n", "oom_kill"), None);
    }
}
