//! A Docker daemon for tests, apart from whatever the machine has.
//!
//! It has its own socket, data, mounts and process identifiers. A guard outside waits until the test process ends, in
//! whatever way, and then ends the daemon and all that it started, and removes what it left.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::PATIENCE;

/// Pause between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts the daemon, waits for the end of the test process, and cleans up.
///
/// The daemon is in namespaces of its own for mounts and processes: so neither can outlive it, and the places that it
/// insists on writing to (`/run`, `/etc/docker`) are its own, too.
const GUARD: &str = r#"
dir=$1; shift
unshare --mount --propagation private --pid --fork --kill-child --mount-proc sh -c '
    mount -t tmpfs tmpfs /run && mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker || exit 1
    dir=$1; shift
    dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" -H "unix://$dir/docker.sock" \
        --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/${dir##*/}" "$@"
' sh "$dir" "$@" >"$dir/log" 2>&1 &
cat >/dev/null
kill -9 $! 2>/dev/null
wait
for cgroup in /sys/fs/cgroup/"${dir##*/}" /sys/fs/cgroup/*/"${dir##*/}"; do
    [ -d "$cgroup" ] && find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null
done
rm -rf "$dir"
"#;

/// A running daemon. It ends when this is dropped, or with the test process.
pub(crate) struct Daemon {
    dir: PathBuf,
    guard: Child,
    /// Closing it tells the guard to clean up.
    lifeline: Option<ChildStdin>,
}

/// The daemon that all tests of a process share; none, with a word about why, where there cannot be one.
///
/// # Panics
///
/// Where there cannot be one, if the environment variable `CI` is set.
pub(crate) fn daemon() -> Option<&'static Daemon> {
    static DAEMON: OnceLock<Option<Daemon>> = OnceLock::new();
    DAEMON.get_or_init(|| Daemon::start(&[])).as_ref()
}

impl Daemon {
    /// Starts one with further arguments.
    pub(crate) fn start(args: &[&str]) -> Option<Self> {
        for program in ["dockerd", "docker", "unshare"] {
            if !needs(in_path(program), &format!("the program {program}")) {
                return None;
            }
        }
        if !needs(nix::unistd::geteuid().is_root(), "root") {
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("tf-dockerd-")
            .tempdir()
            .expect("temporary directory");
        let dir = dir.keep();
        fs::create_dir(dir.join("config")).expect("make directory");
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(&dir)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for the tests; the guard has to clean up after them.
            .process_group(0)
            .spawn()
            .expect("start sh");
        let lifeline = guard.stdin.take();
        let daemon = Self {
            dir,
            guard,
            lifeline,
        };
        daemon.wait();
        Some(daemon)
    }

    fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .command("docker", &["version"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            assert!(
                Instant::now() < deadline,
                "dockerd does not answer:\n{}",
                self.log()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// What `DOCKER_HOST` must be.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A program that uses this daemon, and no settings of whoever runs the tests.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.dir.join("config"))
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("DOCKER_CONTEXT");
        command
    }

    /// Runs `docker` and returns what it printed.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let output = self.command("docker", args).output().expect("run docker");
        assert!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs `docker` with `input` and returns what it printed.
    pub(crate) fn docker_with_input(&self, args: &[&str], input: &[u8]) -> String {
        let mut child = self
            .command("docker", args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run docker");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input).expect("docker reads it");
        drop(stdin);
        let output = child.wait_with_output().expect("docker ends");
        assert!(output.status.success(), "docker {args:?} failed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Builds an image of files of this machine (source and path in the image) and returns its id.
    pub(crate) fn build(&self, name: &str, files: &[(&Path, &str)], rest: &str) -> String {
        use std::fmt::Write as _;
        let context = TempDir::new().expect("temporary directory");
        let mut dockerfile = "FROM scratch\n".to_owned();
        for (index, (source, target)) in files.iter().enumerate() {
            fs::copy(source, context.path().join(index.to_string())).expect("copy");
            writeln!(dockerfile, "COPY {index} {target}").expect("write to memory");
        }
        dockerfile.push_str(rest);
        fs::write(context.path().join("Dockerfile"), dockerfile).expect("write");
        let path = context.path().to_str().expect("a plain path");
        self.docker(&["build", "--quiet", "--tag", name, path])
    }

    /// Builds `busybox:test`: one static program as `/bin/sh` and under its other names.
    pub(crate) fn busybox(&self) -> &'static str {
        static NAME: &str = "busybox:test";
        let files: Vec<_> = ["sh", "cat", "echo", "sleep", "ls", "nc", "wget", "httpd"]
            .map(|name| (Path::new("/usr/bin/busybox"), format!("/bin/{name}")))
            .into();
        let files: Vec<_> = files
            .iter()
            .map(|(source, target)| (*source, target.as_str()))
            .collect();
        self.build(NAME, &files, "ENV PATH=/bin\nCMD [\"sh\"]\n");
        NAME
    }

    /// Builds `nginx:test`: this machine's nginx with its libraries, serving `/srv` on port 80.
    pub(crate) fn nginx(&self) -> &'static str {
        static NAME: &str = "nginx:test";
        let context = TempDir::new().expect("temporary directory");
        let write = |name: &str, content: &str| {
            let path = context.path().join(name);
            fs::write(&path, content).expect("write");
            path
        };
        let conf = write(
            "nginx.conf",
            "daemon off; error_log stderr; pid /tmp/nginx.pid; user root; events {}\n\
             http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;\n\
             uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { listen 80; root /srv; } }\n",
        );
        let page = write("index.html", "hello from nginx\n");
        let passwd = write("passwd", "root:x:0:0:root:/root:/bin/sh\n");
        let group = write("group", "root:x:0:\n");
        let mut files = vec![
            (
                PathBuf::from("/usr/sbin/nginx"),
                "/usr/sbin/nginx".to_owned(),
            ),
            (conf, "/etc/nginx.conf".to_owned()),
            (page.clone(), "/srv/index.html".to_owned()),
            (passwd, "/etc/passwd".to_owned()),
            (group, "/etc/group".to_owned()),
            (page, "/tmp/.keep".to_owned()),
        ];
        files.extend(
            libraries("/usr/sbin/nginx")
                .into_iter()
                .map(|path| (PathBuf::from(&path), path)),
        );
        // nginx opens its compiled-in log before it reads its configuration.
        let empty = write("empty", "");
        files.push((empty, "/var/log/nginx/error.log".to_owned()));
        let files: Vec<_> = files
            .iter()
            .map(|(source, target)| (source.as_path(), target.as_str()))
            .collect();
        self.build(
            NAME,
            &files,
            "EXPOSE 80\nSTOPSIGNAL SIGQUIT\nCMD [\"/usr/sbin/nginx\", \"-c\", \"/etc/nginx.conf\"]\n",
        );
        NAME
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Its status says nothing: what counts is that it has cleaned up.
        let _ = self.guard.wait();
    }
}

/// Paths of the libraries that a program is loaded with, the loader included.
fn libraries(program: &str) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().expect("run ldd");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with('/'))
                .map(str::to_owned)
        })
        .collect()
}

/// Whether a program can be run by its name.
pub(crate) fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Passes on whether a need is met, and says so if it is not.
///
/// # Panics
///
/// If it is not, and the environment variable `CI` is set.
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
pub(crate) fn needs(met: bool, what: &str) -> bool {
    if !met {
        assert!(std::env::var_os("CI").is_none(), "this test needs {what}");
        eprintln!("skipped: needs {what}");
    }
    met
}
