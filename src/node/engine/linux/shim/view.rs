//! What a shim sees of the machine: a root file system of its own that holds the layers and the containers of its
//! engine, the devices that every container gets, `/sys`, and the `/proc` of its own pid namespace. Nothing else.
//!
//! It is what containers are made from: the fewer mounts it has, the less there is to copy for each, and to leak into one.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::super::cgroups::{Hierarchies, machines_mounts};
use super::super::control::{Problem, Setup, Step};
use super::super::sys;

/// Directory of the unpacked layers, in the view.
pub(super) const LAYERS: &str = "/layers";
/// Directory of the containers, in the view.
pub(super) const CONTAINERS: &str = "/containers";

/// Devices that every container has.
pub(super) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What the shim knows of the machine.
pub(super) struct View {
    /// Its cgroups.
    pub(super) cgroups: Hierarchies,
}

impl View {
    /// Makes the view. The caller is in a mount namespace of its own, as the first process of a pid namespace.
    pub(super) fn make(setup: &Setup) -> Result<Self, Problem> {
        separate_mounts().step("separate the mounts")?;

        let find = |path: &Path| sys::clone_mount(path).step(format!("find {}", path.display()));
        let layers = find(&setup.layers)?;
        sys::make_read_only(&layers).step("protect the layers")?;
        let containers = find(&setup.containers)?;
        let devices: Vec<(PathBuf, OwnedFd)> = DEVICES
            .into_iter()
            .map(|name| {
                let path = Path::new("/dev").join(name);
                find(&path).map(|device| (path, device))
            })
            .collect::<Result<_, _>>()?;
        let sys = sys::clone_mounts(Path::new("/sys")).step("find /sys")?;
        // With the /proc that is mounted below, the first process is the shim.
        let machines = machines_mounts();

        // Any directory will do to build it on, as it becomes the root.
        mount(
            Some("tmpfs"),
            &setup.containers,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            Some("mode=0755"),
        )
        .step("mount a temporary directory")?;
        let build = || -> std::io::Result<()> {
            std::env::set_current_dir(&setup.containers)?;
            for directory in [
                "layers",
                "containers",
                "dev",
                "sys",
                "proc",
                "root",
                "parts",
            ] {
                fs::create_dir(directory)?;
            }
            sys::attach_mount(&layers, Path::new("layers"))?;
            sys::attach_mount(&containers, Path::new("containers"))?;
            sys::attach_mount(&sys, Path::new("sys"))?;
            for (path, device) in &devices {
                let place = path.strip_prefix("/").unwrap_or(path);
                fs::File::create(place)?;
                sys::attach_mount(device, place)?;
            }
            Ok(())
        };
        build().step("build the view of the machine")?;
        mount(
            Some("proc"),
            "proc",
            Some("proc"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            None::<&str>,
        )
        .step("mount /proc")?;
        // The old root ends up below the new one, in the same place, from where it is taken away.
        nix::unistd::pivot_root(".", ".").step("change the root directory")?;
        umount2(".", MntFlags::MNT_DETACH).step("leave the old root directory")?;
        std::env::set_current_dir("/").step("change to the root directory")?;
        let cgroups = Hierarchies::find_beside(&machines).step("read the mounts")?;
        cgroups.settle(&setup.cgroup).step("make cgroups")?;
        Ok(Self { cgroups })
    }
}

/// Keeps mounts of the calling process's mount namespace from appearing in others, and theirs from appearing here.
pub(super) fn separate_mounts() -> nix::Result<()> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
}
