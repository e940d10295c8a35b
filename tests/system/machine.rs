//! A machine of one's own, as far as the kernel makes one: processes, network, mounts, cgroups and `/run`.
//!
//! Tests run beside each other, and beside whatever else the machine does. In here, what is left of a program is all there
//! is, and ports are free whose numbers a test did not choose. Files are the real machine's.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::unistd::Pid;

use crate::common::{PATIENCE, Program, eventually, installed};
use crate::system::fixture::can_run;
use crate::system::session::Session;

/// Makes the machine, says so, waits for the end of the test process, and cleans up.
///
/// The cgroups of the machine are below one of its own in each hierarchy, in which nobody is: in version 2, a cgroup has
/// processes or controllers.
const GUARD: &str = r#"
set -e
name=tf-machine-$$
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $3, $2, $4 }' /proc/mounts; }
hierarchies | while read -r kind path options; do
    mkdir "$path/$name"
    for setting in cpuset.cpus cpuset.mems; do
        [ ! -e "$path/$setting" ] || [ "$kind" = cgroup2 ] || cat "$path/$setting" >"$path/$name/$setting"
    done
    echo $$ >"$path/$name/cgroup.procs"
done
unshare --mount --propagation private --pid --fork --kill-child --net --ipc --cgroup --mount-proc sh -ec '
    ip link set lo up
    mount -t tmpfs tmpfs /run
    awk "\$3 == \"cgroup\" || \$3 == \"cgroup2\" { print \$3, \$2, \$4 }" /proc/mounts | while read -r kind path options; do
        umount "$path"
        options=${options#rw,}
        while :; do
            case $options in
                nosuid,*|nodev,*|noexec,*|relatime,*) options=${options#*,} ;;
                nsdelegate*|memory_recursiveprot*) options=defaults ;;
                *) break ;;
            esac
        done
        [ "$kind" = cgroup ] || options=defaults
        mount -t "$kind" -o "$options" "$kind" "$path"
    done
    # Where programs go whose memory is of interest.
    if [ -d /sys/fs/cgroup/memory ]; then mkdir /sys/fs/cgroup/memory/counted; else mkdir /sys/fs/cgroup/counted; fi
    # The first process of a machine waits for orphans.
    sleep infinity &
    until grep -q sleep "/proc/$!/comm"; do :; done
    echo ready
    while :; do wait || :; done
' &
inside=$!
own() { readlink "/proc/$1/ns/cgroup"; }
while [ "$(own $inside)" = "$(own self)" ]; do :; done
hierarchies | while read -r kind path options; do
    while processes=$(cat "$path/$name/cgroup.procs") && [ -n "$processes" ]; do
        for process in $processes; do
            echo "$process" >"$path/cgroup.procs" || :
        done
    done
done 2>/dev/null
cat >/dev/null
kill -9 $inside 2>/dev/null || :
wait || :
hierarchies | while read -r kind path options; do
    # The last processes may still be about to go.
    tries=0
    while [ -d "$path/$name" ] && [ "$tries" -lt 200 ]; do
        find "$path/$name" -depth -type d -exec rmdir {} \; 2>/dev/null || :
        [ ! -d "$path/$name" ] || sleep 0.05
        tries=$((tries + 1))
    done
done
"#;

/// A machine. It ends when this is dropped, or with the test process.
pub(crate) struct Machine {
    guard: Child,
    /// Closing it tells the guard to clean up.
    lifeline: Option<ChildStdin>,
    first: Pid,
}

impl Machine {
    /// Makes one; none, with a word about why, where there cannot be one.
    pub(crate) fn new() -> Option<Self> {
        let programs = ["unshare", "nsenter", "ip", "nft", "awk"];
        if !can_run() || !programs.into_iter().all(installed) {
            return None;
        }
        let mut guard = Command::new("sh")
            .args(["-c", GUARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C at the terminal is for the tests; the guard has to clean up after them.
            .process_group(0)
            .spawn()
            .expect("start sh");
        let lifeline = guard.stdin.take();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it is readable");
        assert_eq!(line, "ready\n", "there is no machine");
        // guard ─ unshare ─ first process
        let unshare = eventually(PATIENCE, || child_of(pid(&guard)));
        let first = eventually(PATIENCE, || child_of(unshare));
        Some(Self {
            guard,
            lifeline,
            first,
        })
    }

    /// A program on this machine.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Program {
        let target = self.first.to_string();
        let enter = [
            "nsenter", "--target", &target, "--mount", "--net", "--pid", "--ipc", "--cgroup", "--",
        ];
        // `nsenter` ends by the signal that its child ended by, unless it ignores it, as what is started in the background of
        // a script does.
        // Where version 2 is all there is, nothing is moved or born into the cgroups of a namespace from outside of them.
        let join = r#"[ ! -e "$0" ] || echo $$ >"$0"; exec "$@""#;
        let guard = self.guard.id();
        let inside = format!("/sys/fs/cgroup/tf-machine-{guard}/counted/cgroup.procs");
        Program::new("sh")
            .args(["-c", join, &inside, "env", "--default-signal=INT"])
            .args(enter)
            .args([program])
    }

    /// `tf` on this machine.
    pub(crate) fn tf(&self) -> Program {
        self.program(env!("CARGO_BIN_EXE_tf"))
    }

    /// `tf` on this machine, whose memory counts as this machine's, with what the kernel uses for it.
    pub(crate) fn counted_tf(&self) -> Program {
        let join = r#"
            cd /sys/fs/cgroup/memory 2>/dev/null || cd /sys/fs/cgroup
            echo $$ >counted/cgroup.procs && cd / && exec "$@"
        "#;
        let program = self.program("sh");
        program.args(["-c", join, "sh", env!("CARGO_BIN_EXE_tf")])
    }

    /// Memory that is used by whatever has been counted, in bytes. Caches, which can be made again, are emptied.
    pub(crate) fn memory(&self) -> u64 {
        let script = r"
            cd /sys/fs/cgroup/memory 2>/dev/null || cd /sys/fs/cgroup
            { echo 0 >memory.force_empty || echo 10G >memory.reclaim; } 2>/dev/null || :
            cat memory.usage_in_bytes 2>/dev/null || cat memory.current
        ";
        self.shell(script).trim().parse().expect("a number")
    }

    /// Runs a shell script on this machine and returns what it prints.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        let done = self.program("sh").args(["-c", script]).run();
        assert!(done.status.success(), "{script}: {done:#?}");
        done.stdout
    }

    /// Everything that a container could leave here, one thing a line.
    pub(crate) fn inventory(&self) -> BTreeSet<String> {
        let script = r#"
            # Without a process of its own, which would be one of those that it finds.
            for process in /proc/[0-9]*; do
                [ "$process" = /proc/$$ ] || { read -r name <"$process/comm" && echo "process ${process#/proc/} $name"; }
            done 2>/dev/null
            ip -o link | sed 's/@.*//; s/^[0-9]*: /link /'
            ip -o address | awk '{ print "address", $2, $4 }'
            ip route | sed 's/^/route /'
            ip rule | sed 's/^/rule /'
            nft list ruleset | sed 's/^/filter /'
            awk '{ print "mount", $5 }' /proc/1/mountinfo
            find /sys/fs/cgroup -type d | sed 's/^/cgroup /'
            # An empty directory for locks stays, as the one for the state does.
            find /run ! -path /run/20ft | sed 's/^/file /'
            find /dev/shm /dev/mqueue 2>/dev/null | sed 's/^/file /'
            ipcs -a 2>/dev/null | grep '^0x' | sed 's/^/ipc /'
        "#;
        self.shell(script).lines().map(str::to_owned).collect()
    }

    /// Waits until there is nothing here that was not there `before`.
    #[track_caller]
    pub(crate) fn assert_as_before(&self, before: &BTreeSet<String>, what: &str) {
        let mut left = BTreeSet::new();
        let end = std::time::Instant::now() + PATIENCE;
        eventually(2 * PATIENCE, || {
            left = self.inventory().difference(before).cloned().collect();
            (left.is_empty() || std::time::Instant::now() > end).then_some(())
        });
        assert!(left.is_empty(), "left {what}: {left:#?}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Its status says nothing: what counts is that it has cleaned up.
        let _ = self.guard.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process ids are small"))
}

/// The process that a program on another machine is: `nsenter` is its parent.
pub(crate) fn entered(session: &Session) -> Pid {
    eventually(PATIENCE, || child_of(session.id()))
}

/// The only child of a process, if it has one by now.
pub(crate) fn child_of(process: Pid) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.ok()?;
    let first = children.split_whitespace().next()?;
    Some(Pid::from_raw(first.parse().ok()?))
}
