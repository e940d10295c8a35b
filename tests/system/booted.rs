//! A machine that systemd has booted: a [`Machine`] whose programs run below a systemd of their own, with files, devices and a
//! network of their own, too.
//!
//! Its files are those of the real machine, with what is written to them in memory. Of the real machine's units none is
//! started; what sets up hardware would do that to the real one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::docker::needs;
use crate::common::{Done, PATIENCE, Program, Running, eventually, installed};
use crate::system::machine::{Machine, child_of};

const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// Makes what stays when the machine is booted again: its files.
const FILES: &str = r#"
set -e
mkdir -p /run/files/changes /run/files/work /run/files/root
mount -t overlay -o lowerdir=/,upperdir=/run/files/changes,workdir=/run/files/work overlay /run/files/root
cd /run/files/root
units=usr/lib/systemd/system
# State is where overlays are made, which cannot be on one; what users have here is not for tests.
for directory in var/lib/20ft root home etc/systemd/system "$units/sysinit.target.wants" "$units/local-fs.target.wants" \
    "$units/multi-user.target.wants"; do
    mkdir -p "$directory"
    mount -t tmpfs -o mode=755 tmpfs "$directory"
done
ln -s "/$units/multi-user.target" etc/systemd/system/default.target
# The kernel's log and its audit are the real machine's.
ln -s /dev/null etc/systemd/system/systemd-journald-audit.socket
mkdir -p etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\n' >etc/systemd/journald.conf.d/test.conf
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
: >etc/fstab
: >usr/local/bin/tf
mount --bind "$1" usr/local/bin/tf
"#;

/// Boots the machine. Runs as the first process of its processes, which systemd then is.
const BOOT: &str = r#"
export hierarchies=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts)
for path in $hierarchies; do
    for controller in $(cat "$path/cgroup.controllers" 2>/dev/null); do
        echo "+$controller" >"$path/cgroup.subtree_control" || :
    done
    # Of the boot before.
    find "$path/booted" -depth -type d -exec rmdir {} \; 2>/dev/null || :
    mkdir "$path/booted"
    for setting in cpuset.cpus cpuset.mems; do
        [ ! -e "$path/booted/$setting" ] || cat "$path/$setting" >"$path/booted/$setting"
    done
    echo $$ >"$path/booted/cgroup.procs"
done
exec unshare --cgroup --net --uts --ipc sh -ec '
    ip link set lo up
    cd /run/files/root
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    [ "$hierarchies" = /sys/fs/cgroup ] || mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    for path in $hierarchies; do
        mkdir -p ".$path"
        mount --bind "$path/booted" ".$path"
    done
    # What would manage devices sees by this that there are none for it.
    mount -o remount,bind,ro sys
    for directory in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$directory"; done
    chmod 1777 tmp
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    : >dev/console
    for device in null zero full random urandom tty; do cp -a "/dev/$device" dev; done
    pivot_root . .
    umount -l .
    cd /
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin "$0" --system --show-status=no
' "$1"
"#;

/// Such a machine. It ends when this is dropped, or with the test process.
pub(crate) struct Booted {
    /// The parent of systemd, with which it dies.
    unshare: Pid,
    /// systemd.
    first: Pid,
    running: Running,
    machine: Machine,
}

impl Booted {
    /// Boots one; none, with a word about why, where there cannot be one.
    pub(crate) fn new() -> Option<Self> {
        let programs = ["curl", "dbus-daemon", "systemctl", "useradd"];
        if !needs(Path::new(SYSTEMD).exists(), "systemd") || !programs.into_iter().all(installed) {
            return None;
        }
        let machine = Machine::new()?;
        let tf = env!("CARGO_BIN_EXE_tf");
        let files = machine.program("sh").args(["-c", FILES, "sh", tf]);
        files.run().code(0);
        let (running, unshare, first) = boot(&machine);
        let booted = Self {
            unshare,
            first,
            running,
            machine,
        };
        booted.wait();
        Some(booted)
    }

    /// Takes the power away, and boots it again.
    pub(crate) fn power_cycle(&mut self) {
        kill(self.unshare, Signal::SIGKILL).expect("it runs");
        let first = format!("/proc/{}", self.first);
        eventually(PATIENCE, || (!Path::new(&first).exists()).then_some(()));
        (self.running, self.unshare, self.first) = boot(&self.machine);
        self.wait();
    }

    fn wait(&self) {
        eventually(PATIENCE, || {
            let name = fs::read_to_string(format!("/proc/{}/comm", self.first));
            (name.ok()?.trim() == "systemd").then_some(())
        });
        let mut said = String::new();
        let mut ask = || {
            said = self.root(&["systemctl", "is-system-running"]).run().stdout;
            said.trim() == "running" || said.trim() == "degraded"
        };
        eventually(PATIENCE, || ask().then_some(()));
        assert_eq!(said, "running\n", "{}", self.journal());
    }

    /// A link to another machine, over which this one has the first address and that one the second.
    pub(crate) fn connect(&self, other: &Self, addresses: [&str; 2]) {
        let [here, there] = [self, other].map(|machine| machine.first.to_string());
        let link = ["link", "add", "eth0", "netns", &here, "type", "veth"];
        let peer = ["peer", "name", "eth0", "netns", &there];
        Program::new("ip").args(link).args(peer).run().code(0);
        for (machine, address) in [self, other].into_iter().zip(addresses) {
            machine.shell(&format!(
                "ip address add {address}/24 dev eth0; ip link set eth0 up"
            ));
        }
    }

    /// A program of root's, who is at home.
    pub(crate) fn root(&self, words: &[&str]) -> Program {
        let target = self.first.to_string();
        let namespaces = [
            "--target", &target, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
        ];
        let path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let home = ["--", "env", "-i", "-C", "/root", "HOME=/root", path];
        Program::new("nsenter")
            .args(namespaces)
            .args(home)
            .args(words)
    }

    /// Runs `tf` with the words of this line, as root.
    pub(crate) fn tf(&self, line: &str) -> Done {
        let words: Vec<&str> = std::iter::once("tf").chain(line.split(' ')).collect();
        self.root(&words).run()
    }

    /// Runs a shell script as root, and returns what it prints.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        let done = self.root(&["sh", "-ec", script]).run();
        assert!(
            done.status.success(),
            "{script}: {done:#?}\n{}",
            self.journal()
        );
        done.stdout
    }

    /// What systemd says of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        let value = self.shell(&format!("systemctl show --property={name} --value {unit}"));
        value.trim().to_owned()
    }

    /// Kills the main process of a service, and waits until systemd has started it again.
    #[track_caller]
    pub(crate) fn kill(&self, unit: &str) {
        let restarts = || self.property(unit, "NRestarts").parse::<u32>();
        let before = restarts().expect("a number");
        self.shell(&format!(
            "systemctl kill --kill-whom=main --signal=KILL {unit}"
        ));
        eventually(PATIENCE, || {
            let again = restarts().expect("a number") > before;
            (again && self.property(unit, "ActiveState") == "active").then_some(())
        });
    }

    /// The page that a service has on a port of localhost; none if nobody answers.
    pub(crate) fn page(&self, port: u16) -> Option<String> {
        let url = format!("http://localhost:{port}");
        let done = self.root(&["curl", "-sf", "-m", "10", &url]).run();
        done.status.success().then_some(done.stdout)
    }

    /// What containers leave: all that is not systemd's own.
    pub(crate) fn inventory(&self) -> BTreeSet<String> {
        let script = r#"
            ps -e -o comm= | grep -e '^tf' -e hello | sed 's/^/process /'
            ip -o link | sed 's/@.*//; s/^[0-9]*: /link /'
            ip route | sed 's/^/route /'
            nft list ruleset | sed 's/^/filter /'
            awk '{ print "mount", $5 }' /proc/1/mountinfo | grep 20ft
            find /sys/fs/cgroup -type d -name 'tf*' | sed 's/^/cgroup /'
            find /run/20ft /var/lib/20ft/run -mindepth 1 2>/dev/null | sed 's/^/file /'
            find /etc/systemd/system -name 'tf-*' | sed 's/^/file /'
        "#;
        self.shell(script).lines().map(str::to_owned).collect()
    }

    /// Waits until there is nothing here that was not there `before`, except these. What the kernel frees by itself takes
    /// its time.
    #[track_caller]
    pub(crate) fn assert_as_before(&self, before: &BTreeSet<String>, except: &[&str]) {
        let mut left = Vec::new();
        let end = Instant::now() + PATIENCE;
        eventually(2 * PATIENCE, || {
            let now = self.inventory();
            let new = now.difference(before).cloned();
            left = new
                .filter(|line| !except.contains(&line.as_str()))
                .collect();
            (left.is_empty() || Instant::now() > end).then_some(())
        });
        assert!(left.is_empty(), "left: {left:#?}");
    }

    /// What there is in the journal.
    pub(crate) fn journal(&self) -> String {
        self.root(&["journalctl", "--no-pager", "-b"]).run().stdout
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.journal());
        }
    }
}

/// `nsenter`, its child `unshare`, and the child of that, which systemd is.
fn boot(machine: &Machine) -> (Running, Pid, Pid) {
    let alone = ["--pid", "--fork", "--kill-child", "--mount"];
    let mut program = machine.program("unshare").args(alone);
    let rest = ["--propagation", "private", "sh", "-ec", BOOT, "sh", SYSTEMD];
    program = program.args(rest);
    program.command().stdin(Stdio::null()).stdout(Stdio::null());
    let mut running = program.spawn();
    let nsenter = i32::try_from(running.child().id()).expect("process ids are small");
    let unshare = eventually(PATIENCE, || child_of(Pid::from_raw(nsenter)));
    let first = eventually(PATIENCE, || child_of(unshare));
    (running, unshare, first)
}
