//! The limits of a container, in the words of either version of cgroups.

use std::io;
use std::path::PathBuf;

use super::write;
use crate::protocol::container::Limits;

/// Processes and threads of a container that does not say how many: far beyond what a service needs, and far below what
/// makes a machine stumble.
const DEFAULT_PIDS: u32 = 4096;
/// Over which time the share of processors is measured, in microseconds.
const PERIOD: u64 = 100_000;
/// The least share that the kernel takes, in microseconds.
const LEAST_QUOTA: u64 = 1000;

/// A limit of a container: the files that set it, in version 1 and in version 2, and what to write.
pub(super) struct Setting {
    names: [&'static str; 2],
    values: [String; 2],
    /// Whether the machine may lack it.
    optional: bool,
}

impl Setting {
    /// Writes it where it belongs among the directories of a container's cgroup.
    pub(super) fn write(&self, directories: &[PathBuf]) -> io::Result<()> {
        for directory in directories {
            for (name, value) in self.names.iter().zip(&self.values) {
                match write(&directory.join(name), value) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => return other,
                }
            }
        }
        if self.optional {
            return Ok(());
        }
        let [first, second] = self.names;
        let names = if first == second {
            first.to_owned()
        } else {
            format!("{first} or {second}")
        };
        Err(io::Error::other(format!(
            "the machine has no cgroups with {names}: that controller is missing, or cgroups are not mounted"
        )))
    }
}

/// What to set for a container.
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
    let setting = |names, values, optional| Setting {
        names,
        values,
        optional,
    };
    let pids = limits.pids.unwrap_or(DEFAULT_PIDS).to_string();
    let mut settings = vec![setting(
        ["pids.max", "pids.max"],
        [pids.clone(), pids],
        false,
    )];
    if let Some(memory) = limits.memory {
        let memory = i64::try_from(memory).unwrap_or(i64::MAX).to_string();
        settings.push(setting(
            ["memory.limit_in_bytes", "memory.max"],
            [memory.clone(), memory.clone()],
            false,
        ));
        // Version 1 limits memory and swap together. A kernel without swap has neither.
        settings.push(setting(
            ["memory.memsw.limit_in_bytes", "memory.swap.max"],
            [memory, "0".to_owned()],
            true,
        ));
    }
    if let Some(millicpus) = limits.millicpus {
        let quota = (millicpus.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA);
        settings.push(setting(
            ["cpu.cfs_quota_us", "cpu.max"],
            [quota.to_string(), format!("{quota} {PERIOD}")],
            false,
        ));
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn limits_are_written_in_the_words_of_either_version() {
        let limits = Limits {
            memory: Some(1 << 20),
            millicpus: Some(1),
            pids: None,
        };
        let written = |files: &[&str]| {
            let directory = tempfile::tempdir().expect("a directory");
            for file in files {
                fs::write(directory.path().join(file), "").expect("written");
            }
            let directories = [directory.path().to_owned()];
            let outcome: io::Result<()> = settings(&limits)
                .iter()
                .try_for_each(|setting| setting.write(&directories));
            let texts: Vec<_> = files
                .iter()
                .map(|file| fs::read_to_string(directory.path().join(file)).expect("read"))
                .collect();
            (outcome.map_err(|error| error.to_string()), texts)
        };
        assert_eq!(
            written(&[
                "pids.max",
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                "cpu.cfs_quota_us"
            ]),
            (
                Ok(()),
                ["4096", "1048576", "1048576", "1000"]
                    .map(str::to_owned)
                    .to_vec()
            )
        );
        assert_eq!(
            written(&["pids.max", "memory.max", "cpu.max"]),
            (
                Ok(()),
                ["4096", "1048576", "1000 100000"]
                    .map(str::to_owned)
                    .to_vec()
            )
        );
        let (outcome, _) = written(&["pids.max", "cpu.max"]);
        assert!(outcome.expect_err("no memory").contains("memory.max"));
    }
}
