//! What a node has to offer at the moment.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use crate::ids::NodeId;
use crate::protocol::image::Platform;
use crate::protocol::messages::NodeInfo;

/// Starts that the mean start time is taken over.
const STARTS: usize = 16;

/// The last start times of a node's containers.
#[derive(Debug, Default)]
pub(crate) struct StartTimes(Mutex<VecDeque<Duration>>);

impl StartTimes {
    pub(crate) fn add(&self, time: Duration) {
        let mut times = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if times.len() == STARTS {
            times.pop_front();
        }
        times.push_back(time);
    }

    fn mean(&self) -> Duration {
        let times = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        times
            .iter()
            .sum::<Duration>()
            .checked_div(count)
            .unwrap_or_default()
    }
}

/// Measures the machine.
pub(crate) fn measure(state: &std::path::Path, containers: u32, starts: &StartTimes) -> NodeInfo {
    let (memory, memory_free) = memory();
    NodeInfo {
        // The location knows the node by its key and puts the name in.
        id: NodeId::random(),
        hostname: hostname(),
        platform: Platform::host(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        load: load(),
        memory,
        memory_free,
        disk_free: disk_free(state),
        containers,
        mean_start: starts.mean(),
    }
}

/// Name of this machine.
#[cfg(unix)]
pub(crate) fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Name of this machine.
#[cfg(not(unix))]
pub(crate) fn hostname() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".to_owned())
}

/// Load average over a minute; 0 where `/proc` does not tell.
fn load() -> f32 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0.0)
}

/// All and available memory in bytes; 0 where `/proc` does not tell.
fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line
            .trim_start_matches(':')
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()?;
        Some(kilobytes * 1024)
    };
    (
        field("MemTotal").unwrap_or(0),
        field("MemAvailable").unwrap_or(0),
    )
}

#[cfg(unix)]
fn disk_free(path: &std::path::Path) -> u64 {
    #[allow(
        clippy::useless_conversion,
        reason = "the fields' types differ between systems"
    )]
    nix::sys::statvfs::statvfs(path).map_or(0, |stats| {
        u64::from(stats.blocks_available()).saturating_mul(u64::from(stats.fragment_size()))
    })
}

#[cfg(not(unix))]
fn disk_free(_path: &std::path::Path) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_start_is_that_of_the_last_starts() {
        let starts = StartTimes::default();
        assert_eq!(starts.mean(), Duration::ZERO);
        starts.add(Duration::from_secs(100));
        for _ in 0..STARTS {
            starts.add(Duration::from_millis(8));
        }
        assert_eq!(starts.mean(), Duration::from_millis(8));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_has_memory_and_disk() {
        let info = measure(std::path::Path::new("/"), 0, &StartTimes::default());
        assert!(info.memory > 0 && info.memory_free > 0 && info.memory_free <= info.memory);
        assert!(info.disk_free > 0);
        assert!(!info.hostname.is_empty());
    }
}
