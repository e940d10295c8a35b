//! What is left on the machine of a `tf` that has ended, told apart from what others use by its state directory.

use std::fs;
use std::path::Path;

use crate::common::{PATIENCE, eventually};

/// Waits until nothing is left of whoever used the state directory, but what it keeps for the next run. Panics with what
/// there is when that takes too long.
#[track_caller]
pub(crate) fn assert_none_of(state: &Path) {
    let mut last = Vec::new();
    let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually(PATIENCE, || {
            last = of(state);
            last.is_empty().then_some(())
        });
    }));
    assert!(gone.is_ok(), "left of {}: {last:#?}", state.display());
}

/// What is left of whoever used the state directory.
pub(crate) fn of(state: &Path) -> Vec<String> {
    let mut found = directories(state);
    found.extend(locks(state));
    let Some(state) = state.to_str() else {
        return found;
    };
    for entry in fs::read_dir("/proc").expect("it is mounted").flatten() {
        let process = entry.path();
        let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(state);
        if !entry
            .file_name()
            .to_string_lossy()
            .starts_with(|first: char| first.is_ascii_digit())
        {
            continue;
        }
        let shown = || String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        if has(&read("environ")) {
            found.push(format!("process {} ({})", process.display(), shown()));
        }
        if has(&read("mountinfo")) {
            found.push(format!("mounts of {} ({})", process.display(), shown()));
        }
    }
    found
}

/// What there is in the directory for things that live as long as their container.
fn directories(state: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(state.join("run")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| format!("directory {}", entry.path().display()))
        .collect()
}

/// Places among the machine's engines that are still taken for it.
fn locks(state: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/20ft") else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            fs::read_to_string(path).is_ok_and(|owner| Some(owner.trim()) == state.to_str())
        })
        .map(|path| format!("lock {}", path.display()))
        .collect()
}
