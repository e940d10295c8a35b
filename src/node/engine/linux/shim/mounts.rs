//! The file systems of a container that are mounted in others of the kernel's: those below `/dev` and `/sys`, which the
//! image has no hand in. Made inside the container, before it counts as created.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::super::control::{Problem, Step};

/// As Docker: nothing in there is a program or a device.
const PLAIN: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NODEV);
const CGROUPS: &str = "/sys/fs/cgroup";

/// Mounts `/dev/pts`, `/dev/shm`, `/dev/mqueue` and `/sys/fs/cgroup`.
pub(super) fn mount_rest() -> Result<(), Problem> {
    let below_dev = [
        (
            "/dev/pts",
            "devpts",
            // Terminals are devices.
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        ("/dev/shm", "tmpfs", PLAIN, "mode=1777,size=65536k"),
        ("/dev/mqueue", "mqueue", PLAIN, ""),
    ];
    for (place, kind, flags, options) in below_dev {
        fs::create_dir(place)
            .and_then(|()| mount_new(place, kind, flags, options))
            .step(format!("mount {place} in the container"))?;
    }
    fs::read_to_string("/proc/self/cgroup")
        .and_then(|own| mount_cgroups(&own))
        .step(format!("mount {CGROUPS} in the container"))
}

fn mount_new(place: &str, kind: &str, flags: MsFlags, options: &str) -> io::Result<()> {
    Ok(mount(Some(kind), place, Some(kind), flags, Some(options))?)
}

/// Mounts the hierarchies that this process is in according to `own`, the content of `/proc/self/cgroup`. They show the
/// container's part only, because it has a cgroup namespace.
fn mount_cgroups(own: &str) -> io::Result<()> {
    let first_version = first_version_hierarchies(own);
    if first_version.is_empty() {
        mount_new(CGROUPS, "cgroup2", PLAIN, "")?;
        return make_read_only(CGROUPS);
    }
    mount_new(CGROUPS, "tmpfs", PLAIN, "mode=755,size=64k")?;
    for controllers in first_version {
        let name = controllers.trim_start_matches("name=");
        let place = format!("{CGROUPS}/{name}");
        fs::create_dir(&place)?;
        mount_new(&place, "cgroup", PLAIN, controllers)?;
        make_read_only(&place)?;
        // Controllers in one hierarchy are found under their own names too.
        for controller in name.split(',').filter(|controller| *controller != name) {
            std::os::unix::fs::symlink(name, Path::new(CGROUPS).join(controller))?;
        }
    }
    make_read_only(CGROUPS)
}

/// The controllers of each hierarchy of version 1.
fn first_version_hierarchies(own: &str) -> Vec<&str> {
    own.lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|controllers| !controllers.is_empty())
        .collect()
}

/// Makes a mount read-only, and not the file system behind it, which others have mounted too.
fn make_read_only(place: &str) -> io::Result<()> {
    Ok(mount(
        None::<&str>,
        place,
        None::<&str>,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | PLAIN,
        None::<&str>,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_version_1_are_those_with_controllers() {
        let hybrid = "12:pids:/tf/0/x\n3:cpu,cpuacct:/tf\n1:name=systemd:/\n0::/\n";
        assert_eq!(
            first_version_hierarchies(hybrid),
            ["pids", "cpu,cpuacct", "name=systemd"]
        );
        assert!(first_version_hierarchies("0::/tf/0/x\n").is_empty());
    }
}
