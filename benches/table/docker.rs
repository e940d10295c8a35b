//! A Docker daemon of our own, in namespaces of its own: its bridge, its firewall rules and its mounts go when it goes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::guarded::Guarded;
use crate::memory::children;
use crate::patience::until;
use crate::rootfs::find;

/// Starts the daemon, waits until its own input closes, and ends all. What cannot be in a namespace is the cgroups.
const GUARD: &str = r#"
dir=$1
unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc sh -c '
    ip link set lo up && mount -t tmpfs tmpfs /run && mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker || exit 1
    exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" -H "unix://$1/docker.sock" \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$2"
' sh "$dir" "$2" </dev/null &
cat >/dev/null
kill -9 $! 2>/dev/null
wait
for cgroup in /sys/fs/cgroup/"$2" /sys/fs/cgroup/*/"$2"; do
    [ -d "$cgroup" ] && find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null
done
rm -rf "$dir"
"#;

/// A running daemon. It ends when this is dropped, or with the benchmark.
pub(crate) struct Docker {
    guard: Guarded,
    directory: PathBuf,
}

impl Docker {
    /// Starts one that keeps everything in `directory`. No two have the same name.
    pub(crate) fn start(directory: &Path, name: &str) -> Result<Self> {
        for program in ["docker", "dockerd", "unshare", "ip", "iptables"] {
            find(program)?;
        }
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a Docker daemon needs root"
        );
        std::fs::create_dir(directory)?;
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "sh"])
            .arg(directory)
            .arg(format!("tf-bench-{name}-{}", std::process::id()));
        let log = directory.join("log");
        let mut docker = Self {
            guard: Guarded::start_guard(guard, &log)?,
            directory: directory.to_owned(),
        };
        let answers = || run(docker_command(directory, &["version"]));
        let started = docker.guard.until(answers);
        started.context("start a Docker daemon")?;
        Ok(docker)
    }

    /// What `DOCKER_HOST` must be.
    pub(crate) fn host(&self) -> String {
        host(&self.directory)
    }

    /// `docker` with these arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        docker_command(&self.directory, args)
    }

    /// Runs `docker` with these arguments to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Result<()> {
        run(self.command(args)).with_context(|| format!("docker {}", args.join(" ")))
    }

    /// Waits until a container that was run with `--rm` is gone.
    pub(crate) fn wait_removed(&self, name: &str) -> Result<()> {
        // Fails if it is gone already.
        let _ = run(self.command(&["wait", name]));
        until(
            || Ok(()),
            || match run(self.command(&["container", "inspect", name])) {
                Ok(()) => bail!("the container {name} is still there"),
                Err(_) => Ok(()),
            },
        )
    }

    /// Does something where the ports are that the daemon publishes.
    pub(crate) fn in_its_network<T: Send>(
        &self,
        what: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let unshare = children(self.guard.id())
            .into_iter()
            .find(|child| child.name == "unshare")
            .context("find the Docker daemon")?;
        let namespace = File::open(format!("/proc/{}/ns/net", unshare.pid))?;
        // A thread of its own, since it does not come back from there.
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
                what()
            });
            there.join().map_err(|_| anyhow!("a thread panicked"))?
        })
    }
}

fn run(mut docker: Command) -> Result<()> {
    let output = docker.output().context("run docker")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.trim());
    Ok(())
}

fn host(directory: &Path) -> String {
    format!("unix://{}/docker.sock", directory.display())
}

/// `docker` for the daemon in a directory, without the user's settings.
fn docker_command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command
        .args(args)
        .env("DOCKER_HOST", host(directory))
        .env("DOCKER_CONFIG", directory.join("config"))
        .env_remove("DOCKER_CONTEXT");
    command
}
