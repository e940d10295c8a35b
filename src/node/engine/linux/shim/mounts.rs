//! The mounts of a container, and its way into them.
//!
//! The kernel's file systems are mounted on directories of the image first, which may be hostile: each is looked for beneath
//! its root, and no link is followed. Everything else is mounted in what the kernel itself has made: below `/dev`, `/proc`
//! and `/sys`, when the image's root is the root.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::super::control::{Problem, Step};
use super::super::sys::{self, OpenHow};
use super::root::ROOT;
use super::view::{self, DEVICES};

/// Directories of the image that file systems of the kernel's are mounted on.
pub(super) const PLACES: [&str; 3] = ["proc", "dev", "sys"];

/// As Docker: nothing in there is a program or a device.
const PLAIN: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NODEV);
const CGROUPS: &str = "/sys/fs/cgroup";
const CONSOLE: &str = "/dev/console";
/// Controllers of version 1 that programs read their limits from: runtimes of languages, to know how much memory and how
/// many processors they have. A container has not the others' to see, nor anything to change in these.
const VISIBLE: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];
/// What Docker hides from containers.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// What Docker lets containers only read.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// Links that every container has in `/dev`.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Makes what is mounted at [`ROOT`] the root directory, with all that a container has mounted in it, and leaves every
/// other mount behind. The caller is in a mount namespace that is the container's own, as root of the container.
pub(super) fn enter_root() -> Result<(), Problem> {
    // What the view consists of is private already. This holds whatever it is made of.
    view::separate_mounts().step("separate the mounts of the container")?;
    // The kernel keeps together what comes from a more privileged namespace. A copy can be taken out of it.
    mount(
        Some(ROOT),
        ROOT,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .step("mount the root directory")?;
    mount_kernels()?;
    std::env::set_current_dir(ROOT).step("enter the root directory")?;
    for name in DEVICES {
        let place = format!("dev/{name}");
        File::create(&place)
            .and_then(|_| Ok(bind(&format!("/dev/{name}"), &place)?))
            .step(format!("mount /dev/{name} in the container"))?;
    }
    // The old root ends up over the new one, in the same place, from where it is taken away.
    nix::unistd::pivot_root(".", ".").step("change the root directory")?;
    umount2(".", MntFlags::MNT_DETACH).step("leave the old root directory")?;
    std::env::set_current_dir("/").step("change to the root directory")?;

    for (target, link) in LINKS {
        symlink(target, link).step(format!("make {link} in the container"))?;
    }
    mount_rest()?;
    for path in MASKED {
        mask_path(path).step(format!("hide {path} from the container"))?;
    }
    for path in READ_ONLY {
        protect_path(path).step(format!("protect {path} from the container"))?;
    }
    open_null().step("open /dev/null")
}

/// Connects the standard streams with the `/dev/null` of the container. They were open on the machine's, whose mount is
/// nothing for a process of a container to hold.
pub(super) fn open_null() -> io::Result<()> {
    let null = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/dev/null")?;
    // The container cannot put something else there, as it is mounted. Should that ever be wrong, nothing is gained by it.
    if null.metadata()?.rdev() != libc::makedev(1, 3) {
        return Err(io::Error::other(
            "/dev/null of the container is something else",
        ));
    }
    for stream in 0..3 {
        nix::unistd::dup2(null.as_raw_fd(), stream)?;
    }
    Ok(())
}

/// Mounts `/proc`, `/dev` and `/sys`.
fn mount_kernels() -> Result<(), Problem> {
    let root = File::open(ROOT).step("open the root directory")?;
    for (name, kind, flags, options) in [
        ("proc", "proc", PLAIN, ""),
        (
            "dev",
            "tmpfs",
            MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME,
            "mode=755,size=65536k",
        ),
        ("sys", "sysfs", PLAIN | MsFlags::MS_RDONLY, ""),
    ] {
        let place = directory(&root, name)?;
        nix::unistd::fchdir(place.as_raw_fd())
            .map_err(io::Error::from)
            .and_then(|()| mount_new(".", kind, flags, options))
            .step(format!("mount /{name} in the container"))?;
    }
    Ok(())
}

/// Opens a directory in the root of the image, where it was made if there was none.
fn directory(root: &File, name: &str) -> Result<OwnedFd, Problem> {
    let how = OpenHow {
        flags: libc::O_PATH | libc::O_DIRECTORY,
        resolve: libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV,
        ..OpenHow::default()
    };
    sys::open_beneath(root, name, how).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR | libc::EXDEV) => Problem::BadSpec(format!(
            "/{name} of the image is a link or a file: a container needs a directory there"
        )),
        _ => Problem::System {
            step: format!("open /{name} of the image"),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        },
    })
}

/// Gives the container its first process's terminal as the console, as other engines do. The caller is where
/// [`enter_root`] has led it, and nothing of the image has run there yet.
pub(super) fn mount_console(terminal: &OwnedFd) -> Result<(), Problem> {
    let mount = || -> io::Result<()> {
        let terminal = nix::unistd::ttyname(terminal)?;
        File::create_new(CONSOLE)?;
        Ok(bind(&terminal.to_string_lossy(), CONSOLE)?)
    };
    mount().step(format!("mount {CONSOLE} in the container"))
}

/// Mounts `/dev/pts`, `/dev/shm`, `/dev/mqueue` and `/sys/fs/cgroup`.
fn mount_rest() -> Result<(), Problem> {
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

fn bind(what: &str, place: &str) -> nix::Result<()> {
    mount(
        Some(what),
        place,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
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
        let place = format!("{CGROUPS}/{controllers}");
        fs::create_dir(&place)?;
        mount_new(&place, "cgroup", PLAIN, controllers)?;
        make_read_only(&place)?;
        // Controllers in one hierarchy are found under their own names too.
        for controller in controllers.split(',').filter(|name| *name != controllers) {
            symlink(controllers, Path::new(CGROUPS).join(controller))?;
        }
    }
    make_read_only(CGROUPS)
}

/// The controllers of each hierarchy of version 1 that is to be seen.
fn first_version_hierarchies(own: &str) -> Vec<&str> {
    own.lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|controllers| controllers.split(',').any(|name| VISIBLE.contains(&name)))
        .collect()
}

/// Mounts something empty over what is at `path`, if there is anything.
fn mask_path(path: &str) -> io::Result<()> {
    match bind("/dev/null", path) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        // A directory.
        Err(Errno::ENOTDIR) => mount_new(path, "tmpfs", PLAIN | MsFlags::MS_RDONLY, "size=0k"),
        Err(errno) => Err(errno.into()),
    }
}

/// Mounts what is at `path`, if there is anything, over itself, read-only.
fn protect_path(path: &str) -> io::Result<()> {
    match bind(path, path) {
        Ok(()) => make_read_only(path),
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
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
    fn hierarchies_of_version_1_are_seen_for_their_limits() {
        let hybrid = "12:pids:/tf/0/x\n3:cpu,cpuacct:/tf\n4:devices:/tf\n1:name=systemd:/\n0::/\n";
        assert_eq!(first_version_hierarchies(hybrid), ["pids", "cpu,cpuacct"]);
        assert!(first_version_hierarchies("0::/tf/0/x\n").is_empty());
    }

    #[test]
    fn what_is_mounted_on_is_a_directory_of_the_image() {
        let image = tempfile::tempdir().expect("a directory");
        fs::create_dir(image.path().join("proc")).expect("made");
        symlink("proc", image.path().join("dev")).expect("a link");
        File::create(image.path().join("sys")).expect("a file");
        let root = File::open(image.path()).expect("opened");
        directory(&root, "proc").expect("a directory");
        for name in ["dev", "sys"] {
            let problem = directory(&root, name).expect_err(name);
            assert!(matches!(problem, Problem::BadSpec(_)), "{problem:?}");
        }
    }
}
