//! Turns what failed into what a person can do about it. The machine is looked at only now, when something has failed.

use std::fs;
use std::io;
use std::path::Path;

use super::control::{Problem, steps};
use crate::node::engine::EngineError;

/// `statfs` type of overlayfs.
const OVERLAY: i64 = 0x794c_7630;

/// What to tell about `problem`, met with containers in the directory `state`.
pub(super) fn explain(problem: Problem, state: &Path) -> EngineError {
    match problem {
        Problem::System { step, errno } => system(step, errno, state),
        Problem::BadSpec(text) | Problem::NotFound(text) | Problem::NotExecutable(text) => {
            EngineError::BadSpec(text)
        }
        Problem::Other(text) => EngineError::Failed {
            step: "make the container".to_owned(),
            source: io::Error::other(text),
        },
    }
}

fn system(step: String, errno: i32, state: &Path) -> EngineError {
    let unsupported = |text: String| EngineError::Unsupported(text);
    match (step.as_str(), errno) {
        (_, libc::EPERM | libc::EACCES) if !nix::unistd::geteuid().is_root() => needs_root(),
        (_, libc::ENOSPC | libc::EDQUOT)
            if step != steps::USER_NAMESPACE && step != steps::NAMESPACES =>
        {
            EngineError::DiskFull(state.display().to_string())
        }
        (steps::PID_NAMESPACE, libc::EPERM) => EngineError::Privilege(
            "this root may not make containers: it is probably in a container itself. Run `tf` on the machine, or start \
             the outer container with `--privileged`"
                .to_owned(),
        ),
        (steps::PID_NAMESPACE | steps::USER_NAMESPACE, libc::EINVAL | libc::ENOSPC | libc::ENOSYS) => {
            unsupported(format!(
                "the kernel gives out no user or pid namespaces{}: containers need both",
                if setting("/proc/sys/user/max_user_namespaces") == Some(0) {
                    " (the setting user.max_user_namespaces is 0; raise it with `sysctl -w user.max_user_namespaces=15000`)"
                } else {
                    ""
                }
            ))
        }
        (steps::IDMAP, libc::EINVAL | libc::ENOSYS | libc::EPERM) if on_overlay(state) => {
            on_overlay_error(state)
        }
        (steps::IDMAP, libc::EINVAL | libc::ENOSYS | libc::EPERM) => unsupported(format!(
            "the file system of {} cannot show files with other owners (idmapped mounts), which containers need: \
             set TF_STATE to a directory on ext4, xfs or btrfs, with Linux 5.19 or later (this is {})",
            state.display(),
            kernel()
        )),
        (steps::OVERLAY, libc::ENODEV) => unsupported(
            "the kernel has no overlay file system, which containers need: `modprobe overlay`, or a kernel built with it"
                .to_owned(),
        ),
        (steps::OVERLAY, libc::EINVAL) if on_overlay(state) => on_overlay_error(state),
        (steps::OVERLAY, libc::EINVAL) => unsupported(format!(
            "the kernel cannot mount a container's root file system in {}: that takes Linux 5.19 or later (this is {}), \
             and a directory on ext4, xfs or btrfs (TF_STATE sets it)",
            state.display(),
            kernel()
        )),
        _ => EngineError::Failed {
            step,
            source: io::Error::from_raw_os_error(errno),
        },
    }
}

/// Says that containers need root.
pub(super) fn needs_root() -> EngineError {
    EngineError::Privilege(
        "this process is not root, and the node that it runs needs root for its containers: run it with sudo, or use a \
         location on another machine"
            .to_owned(),
    )
}

fn on_overlay_error(state: &Path) -> EngineError {
    EngineError::Unsupported(format!(
        "{} is on an overlay file system, probably that of a container, where no further container's can be: mount a \
         volume there, or set TF_STATE to a directory on one",
        state.display()
    ))
}

fn on_overlay(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|found| found.filesystem_type().0 == OVERLAY)
}

fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

fn setting(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
