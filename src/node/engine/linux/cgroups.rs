//! The cgroups of containers, in whichever hierarchies the machine has: version 1, version 2, or both.
//!
//! ```text
//! /tf            all engines of the machine
//! └── SLOT       one engine: its shim, in hierarchies of version 1 that limit no single container
//!     └── NAME   one container, in the hierarchies that do
//! ```
//!
//! To move a process from one cgroup to another, the kernel waits until no processor is about to fork, for 10 ms and more:
//! longer than all else takes that a container is made of. It need not wait for a process that is born into a cgroup, which
//! version 2 offers, nor for a single thread that moves itself, which is what `tasks` of version 1 is for.

mod limits;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sys;
use crate::protocol::container::Limits;

/// Above the cgroups of all instances, in every hierarchy.
const TOP: &str = "tf";
/// How long the kernel may take to let go of a cgroup whose processes have died.
const PATIENCE: Duration = Duration::from_secs(5);
/// Controllers of version 1 that count and limit each container. Of the others one cgroup for the engine is enough.
const PER_CONTAINER: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];
/// Devices that a container can use where version 1 can tell them apart: those that it is given, terminals, and none else
/// than to make nodes that do not work. The user namespace and `nodev` see to that, too.
const DEVICES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];
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
pub(super) struct Hierarchies(Vec<Hierarchy>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    role: Role,
}

/// The mounts of the machine's first process, as far as they can be known.
pub(super) fn machines_mounts() -> String {
    fs::read_to_string("/proc/1/mountinfo").unwrap_or_default()
}

/// The flags of version 2 that are in force. Whoever mounts it sets them for all who have it, and so has to repeat them:
/// without `nsdelegate`, a cgroup namespace holds less than the machine counts on.
fn flags_of_version_2(mountinfo: &str) -> Vec<&str> {
    let options = mountinfo
        .lines()
        .filter_map(|line| line.split_once(" - ")?.1.strip_prefix("cgroup2 "))
        .find_map(|mount| mount.split(' ').nth(1));
    options
        .into_iter()
        .flat_map(|options| options.split(','))
        .filter(|option| !["rw", "ro"].contains(option) && !option.contains('='))
        .collect()
}

/// What a hierarchy is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Version 1, with controllers that are each container's own.
    Container,
    /// Version 1, with controllers that are the engine's.
    Engine,
    /// Version 2, the only hierarchy with controllers.
    Whole,
    /// Version 2, without controllers because version 1 has them.
    Unused,
}

/// The way into a container's cgroups, for a process that is in them from the start, or moves there by itself.
pub(super) struct Entrance {
    /// Of version 1.
    tasks: Vec<File>,
    /// Of version 2: to be born into.
    birthplace: Option<OwnedFd>,
}

impl Entrance {
    /// Where the process has to be born.
    pub(super) fn birthplace(&self) -> Option<&OwnedFd> {
        self.birthplace.as_ref()
    }

    /// Moves the calling process, which has one thread, into the cgroups that it was not born into.
    pub(super) fn enter(self) -> io::Result<()> {
        self.tasks
            .into_iter()
            .try_for_each(|mut tasks| tasks.write_all(b"0"))
    }
}

impl Hierarchies {
    /// Finds them among our mounts. Where there are none, as under `ip netns exec`, which covers /sys with one of its own, they
    /// are mounted for this process alone, and where nobody sees them.
    pub(super) fn find() -> io::Result<Self> {
        Self::find_beside(&machines_mounts())
    }

    /// The same, with the mounts of the machine as [`machines_mounts`] has found them earlier.
    pub(super) fn find_beside(machines: &str) -> io::Result<Self> {
        static ANEW: OnceLock<Hierarchies> = OnceLock::new();

        let found = Self::among(&fs::read_to_string("/proc/self/mountinfo")?);
        if !found.0.is_empty() {
            return Ok(found);
        }
        let ours = fs::read_to_string("/proc/self/cgroup")?;
        // Once for all: each mount takes a descriptor, for as long as this process lives.
        Ok(ANEW.get_or_init(|| Self::anew(&ours, machines)).clone())
    }

    /// Mounts those that this process is in, according to its `/proc/self/cgroup`, as they are mounted according to the
    /// machine's `mountinfo`.
    fn anew(ours: &str, machines: &str) -> Self {
        let mut mounted = Vec::new();
        for line in ours.lines() {
            // number, controllers, path
            let Some(controllers) = line.split(':').nth(1) else {
                continue;
            };
            let (kind, options): (_, Vec<&str>) = match controllers {
                "" => ("cgroup2", flags_of_version_2(machines)),
                // Without controllers, there is nothing to limit with.
                name if name.starts_with("name=") => continue,
                _ => ("cgroup", controllers.split(',').collect()),
            };
            match sys::new_mount(kind, &options) {
                Ok(mount) => mounted.extend(Hierarchy::new(
                    format!("/proc/self/fd/{}", mount.into_raw_fd()).into(),
                    kind,
                    options.into_iter(),
                )),
                // What it has is missed when a limit is set.
                Err(error) => tracing::debug!("cannot mount {kind} {controllers}: {error}"),
            }
        }
        Self::with_roles(mounted)
    }

    fn among(mountinfo: &str) -> Self {
        let mut found: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            // mount id, parent, device, root, mount point, options, tags … - type, source, options
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut right = right.split(' ');
            let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.next()) else {
                continue;
            };
            let options = right.nth(1).unwrap_or("").split(',');
            let Some(hierarchy) = Hierarchy::new(point.into(), kind, options) else {
                continue;
            };
            if !found.iter().any(|other| other.mount == hierarchy.mount) {
                found.push(hierarchy);
            }
        }
        Self::with_roles(found)
    }

    /// Version 2 has no controllers where version 1 has them.
    fn with_roles(mut hierarchies: Vec<Hierarchy>) -> Self {
        let first = |hierarchy: &Hierarchy| hierarchy.role == Role::Container;
        if hierarchies.iter().any(first) {
            for hierarchy in &mut hierarchies {
                if hierarchy.role == Role::Whole {
                    hierarchy.role = Role::Unused;
                }
            }
        }
        Self(hierarchies)
    }

    /// The directories of a cgroup in the hierarchies of a role.
    fn of_role(&self, role: Role, cgroup: &str) -> impl Iterator<Item = PathBuf> {
        self.0
            .iter()
            .filter(move |hierarchy| hierarchy.role == role)
            .map(move |hierarchy| hierarchy.mount.join(cgroup.trim_start_matches('/')))
    }

    /// The directories of a cgroup.
    fn directories(&self, cgroup: &str) -> impl Iterator<Item = PathBuf> {
        self.0
            .iter()
            .map(move |hierarchy| hierarchy.mount.join(cgroup.trim_start_matches('/')))
    }

    /// Makes the cgroups of an engine, and moves the calling process, which has one thread, into those that its containers
    /// share.
    pub(super) fn settle(&self, instance: &str) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for hierarchy in &self.0 {
            loop {
                match hierarchy.settle(instance) {
                    // The last engine but this one has ended and taken the cgroup above away.
                    Err(error)
                        if error.kind() == io::ErrorKind::NotFound && Instant::now() < deadline => {
                    }
                    other => break other?,
                }
            }
        }
        Ok(())
    }

    /// Makes the cgroups of a container with its limits.
    pub(super) fn make(&self, cgroup: &str, limits: &Limits) -> io::Result<Entrance> {
        let directories: Vec<PathBuf> = self
            .of_role(Role::Container, cgroup)
            .chain(self.of_role(Role::Whole, cgroup))
            .collect();
        directories.iter().try_for_each(fs::create_dir)?;
        for limit in limits::settings(limits) {
            limit.write(&directories)?;
        }
        self.open(cgroup)
    }

    /// Opens the way into the cgroups of a container.
    fn open(&self, cgroup: &str) -> io::Result<Entrance> {
        let tasks = self
            .of_role(Role::Container, cgroup)
            .map(|directory| File::options().write(true).open(directory.join("tasks")))
            .collect::<Result<_, _>>()?;
        let birthplace = self
            .of_role(Role::Whole, cgroup)
            .next()
            .map(File::open)
            .transpose()?;
        Ok(Entrance {
            tasks,
            birthplace: birthplace.map(OwnedFd::from),
        })
    }

    /// Moves the calling process, which has one thread, into the cgroups of a container.
    pub(super) fn join(&self, cgroup: &str) -> io::Result<()> {
        self.of_role(Role::Whole, cgroup)
            .try_for_each(|directory| write(&directory.join("cgroup.procs"), "0"))?;
        self.open(cgroup)?.enter()
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

impl Hierarchy {
    /// One that is mounted somewhere, if this kind of file system is one.
    fn new<'a>(
        mount: PathBuf,
        kind: &str,
        mut options: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        let role = match kind {
            "cgroup" if options.any(|option| PER_CONTAINER.contains(&option)) => Role::Container,
            "cgroup" => Role::Engine,
            "cgroup2" => Role::Whole,
            _ => return None,
        };
        Some(Self { mount, role })
    }

    /// Makes the cgroup of an engine, and moves the caller there where its containers share it.
    fn settle(&self, instance: &str) -> io::Result<()> {
        let mut directory = self.mount.clone();
        match self.role {
            Role::Unused => return Ok(()),
            // A cgroup without processes hands its controllers down.
            Role::Whole => hand_down(&directory)?,
            Role::Container | Role::Engine => {}
        }
        for name in instance.split('/').filter(|name| !name.is_empty()) {
            let above = directory.clone();
            directory.push(name);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
            match self.role {
                Role::Whole => hand_down(&directory)?,
                Role::Engine => {
                    for setting in ["cpuset.cpus", "cpuset.mems"] {
                        inherit(&above.join(setting), &directory.join(setting))?;
                    }
                }
                Role::Container | Role::Unused => {}
            }
        }
        if self.role != Role::Engine {
            return Ok(());
        }
        if directory.join("devices.deny").exists() {
            write(&directory.join("devices.deny"), "a")?;
            for device in DEVICES {
                write(&directory.join("devices.allow"), device)?;
            }
        }
        write(&directory.join("tasks"), "0")
    }
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(file)?
        .write_all(text.as_bytes())
}

/// Lets the cgroups in `directory` have all its controllers. One that cannot be had is missed when a limit is set.
fn hand_down(directory: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(directory.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        let _ = write(
            &directory.join("cgroup.subtree_control"),
            &format!("+{controller}"),
        );
    }
    Ok(())
}

/// Gives a new cgroup a setting of the one above it, if there is such a setting.
fn inherit(above: &Path, file: &Path) -> io::Result<()> {
    let value = match fs::read_to_string(above) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if fs::read_to_string(file)?.trim().is_empty() {
        write(file, value.trim())?;
    }
    Ok(())
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
    fn version_2_is_mounted_as_the_machine_has_it() {
        let machines = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n\
                        31 23 0:27 / /sys/fs/pstore rw shared:10 - pstore pstore rw\n";
        assert_eq!(
            flags_of_version_2(machines),
            ["nsdelegate", "memory_recursiveprot"]
        );
        assert_eq!(flags_of_version_2(""), [""; 0]);
    }

    #[test]
    fn hierarchies_are_found_among_the_mounts() {
        let found = Hierarchies::among(
            "21 1 0:20 / /sys rw - sysfs sysfs rw\n\
             22 21 0:21 / /none/memory rw,nosuid shared:4 - cgroup cgroup rw,memory\n\
             23 21 0:22 / /none/both rw,nosuid - cgroup cgroup rw,net_cls,cpuacct\n\
             24 21 0:23 / /none/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             25 21 0:24 / /none/unified rw - cgroup2 cgroup2 rw\n\
             26 21 0:24 / /none/unified rw - cgroup2 cgroup2 rw\n",
        );
        let of = |role| found.of_role(role, "/x").collect::<Vec<_>>();
        assert_eq!(
            of(Role::Container),
            ["/none/memory/x", "/none/both/x"].map(PathBuf::from)
        );
        assert_eq!(of(Role::Engine), [PathBuf::from("/none/systemd/x")]);
        assert_eq!(of(Role::Unused), [PathBuf::from("/none/unified/x")]);
        assert_eq!(found.directories("/x").count(), 4);

        let mountinfo = "22 21 0:21 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(flags_of_version_2(mountinfo), [""; 0]);
        let found = Hierarchies::among(mountinfo);
        assert_eq!(found.of_role(Role::Whole, "x").count(), 1);
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
