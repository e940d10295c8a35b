//! `ssh -L` through an `sshd` on loopback, with keys of its own and without anybody's settings.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::guarded::Guarded;
use crate::memory::children;
use crate::ports;
use crate::rootfs::find;

/// Where Debian's `sshd` insists on a directory.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// A local port that leads to another one by way of SSH.
pub(crate) struct Forward {
    port: u16,
    client: Guarded,
    _server: Guarded,
    _directory: TempDir,
    _made: Option<MadeDirectory>,
}

impl Forward {
    /// Leads a free port to `target` on localhost.
    pub(crate) fn to(target: u16, directory: TempDir) -> Result<Self> {
        let (sshd, ssh) = (find("sshd")?, find("ssh")?);
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a private sshd needs root"
        );
        let made = MadeDirectory::new(PRIVILEGE_SEPARATION)?;
        let path = |name: &str| directory.path().join(name);
        for key in ["host", "user"] {
            keygen(&path(key))?;
        }
        fs::copy(path("user.pub"), path("authorized"))?;
        let (server_port, port) = (ports::free()?, ports::free()?);
        let configuration = format!(
            "ListenAddress 127.0.0.1:{server_port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nAllowTcpForwarding yes\n",
            path("host").display(),
            path("authorized").display()
        );
        fs::write(path("sshd_config"), configuration)?;

        let connect = |port| {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            Ok(())
        };
        let log = path("sshd.log");
        // It executes itself, so that its path has to be absolute.
        let words = [
            sshd,
            "-D".into(),
            "-e".into(),
            "-f".into(),
            path("sshd_config"),
        ];
        let mut server = Guarded::start(words, &log)?;
        server
            .until(|| connect(server_port))
            .context("start sshd")?;

        let log = path("ssh.log");
        let forward = format!("127.0.0.1:{port}:127.0.0.1:{target}");
        let words = [
            "-F",
            "none",
            "-N",
            "-T",
            "-L",
            &forward,
            "-p",
            &server_port.to_string(),
            "-i",
        ];
        let mut words: Vec<PathBuf> = words.into_iter().map(PathBuf::from).collect();
        words.insert(0, ssh);
        words.push(path("user"));
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "ExitOnForwardFailure=yes",
        ] {
            words.extend(["-o", option].map(PathBuf::from));
        }
        words.push("root@127.0.0.1".into());
        let mut client = Guarded::start(words, &log)?;
        client.until(|| connect(port)).context("start ssh")?;
        Ok(Self {
            port,
            client,
            _server: server,
            _directory: directory,
            _made: made,
        })
    }

    /// The local port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the client.
    pub(crate) fn client(&self) -> Result<u32> {
        let ssh = children(self.client.id())
            .into_iter()
            .find(|child| child.name == "ssh");
        Ok(ssh.context("find ssh")?.pid)
    }
}

fn keygen(path: &Path) -> Result<()> {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .output()
        .context("run ssh-keygen")?;
    ensure!(output.status.success(), "ssh-keygen failed");
    Ok(())
}

/// A directory that was not there before and is not there afterwards.
struct MadeDirectory(PathBuf);

impl MadeDirectory {
    fn new(path: &str) -> Result<Option<Self>> {
        let path = PathBuf::from(path);
        if path.exists() {
            return Ok(None);
        }
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Some(Self(path)))
    }
}

impl Drop for MadeDirectory {
    fn drop(&mut self) {
        // Somebody else may use it by now.
        let _ = fs::remove_dir(&self.0);
    }
}
