//! Whether a layer has reached the disk.
//!
//! Waiting for the disk after unpacking would take longer than unpacking, and a user would wait with it. So a new
//! layer carries a mark with the name of the machine's current boot, and is used at once. While that boot lasts, what
//! the page cache holds is as good as the disk. At the first start that comes late enough, the file system is
//! synchronised in the background and the mark is removed. A mark of another boot means that the machine went down
//! before that: the layer may have holes, and is unpacked again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The attribute of a layer's root that is its mark. Containers can neither see nor set attributes of this kind.
const MARK: &str = "trusted.20ft.boot";

/// How long after unpacking the kernel has written most of it by itself.
const WRITTEN_AFTER: Duration = Duration::from_mins(1);

/// How far a layer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// On the disk.
    Settled,
    /// Whole, but not known to be on the disk.
    Unsettled,
    /// From another boot, and not known to be whole.
    Doubtful,
}

/// Marks the layer in `dir` as new. Where there is no boot to name or no room for the mark, it waits for the disk.
pub(super) fn mark(dir: &File) -> io::Result<()> {
    let marked = boot()
        .is_some_and(|boot| rustix::fs::fsetxattr(dir, MARK, boot, XattrFlags::empty()).is_ok());
    if !marked {
        rustix::fs::syncfs(dir)?;
    }
    Ok(())
}

/// How far the layer at `path` has come.
pub(super) fn look(path: &Path) -> State {
    let mut mark = [0; 64];
    match rustix::fs::lgetxattr(path, MARK, &mut mark[..]) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => State::Settled,
        Ok(length) if boot().is_some_and(|boot| boot == &mark[..length]) => State::Unsettled,
        _ => State::Doubtful,
    }
}

/// Waits for the disk on a thread of its own, on behalf of those of `layers` that are old enough for it not to take
/// long, and removes their marks. It is no loss if the process ends before.
pub(super) fn settle(dir: &Path, mut layers: Vec<PathBuf>) {
    layers.retain(|layer| is_written(layer));
    if layers.is_empty() {
        return;
    }
    let Ok(dir) = File::open(dir) else { return };
    let work = move || {
        if rustix::fs::syncfs(&dir).is_ok() {
            for layer in layers {
                // It may have been removed meanwhile.
                let _ = rustix::fs::lremovexattr(&layer, MARK);
            }
        }
    };
    let name = "layer-sync".to_owned();
    if let Err(error) = thread::Builder::new().name(name).spawn(work) {
        tracing::debug!(%error, "layers stay unsettled");
    }
}

fn is_written(layer: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let Ok(metadata) = fs::symlink_metadata(layer) else {
        return false;
    };
    let changed = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    now.saturating_sub(changed) > WRITTEN_AFTER
}

/// The name of the machine's current boot.
fn boot() -> Option<&'static [u8]> {
    static BOOT: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let read = || fs::read("/proc/sys/kernel/random/boot_id").ok();
    BOOT.get_or_init(read).as_deref().map(<[u8]>::trim_ascii)
}
