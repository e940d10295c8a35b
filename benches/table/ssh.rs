//! `ssh`, and `ssh -L`, to an `sshd` nearby, with keys of its own and without anybody's settings.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddrV4, TcpStream};
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

/// An `sshd` that is asked by its own client alone.
pub(crate) struct Server {
    address: SocketAddrV4,
    ssh: PathBuf,
    _sshd: Guarded,
    directory: TempDir,
    _made: Option<MadeDirectory>,
}

impl Server {
    /// Starts one on loopback that keeps everything in `directory`.
    pub(crate) fn start(directory: TempDir) -> Result<Self> {
        Self::at(ports::local(ports::free()?), directory)
    }

    /// Starts one at an address that keeps everything in `directory`.
    pub(crate) fn at(address: SocketAddrV4, directory: TempDir) -> Result<Self> {
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
        let configuration = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nAllowTcpForwarding yes\n",
            path("host").display(),
            path("authorized").display()
        );
        fs::write(path("sshd_config"), configuration)?;
        // It executes itself, so that its path has to be absolute.
        let words = [
            sshd,
            "-D".into(),
            "-e".into(),
            "-f".into(),
            path("sshd_config"),
        ];
        let mut server = Guarded::start(words, &path("sshd.log"))?;
        server.until(|| connect(address)).context("start sshd")?;
        Ok(Self {
            address,
            ssh,
            _sshd: server,
            directory,
            _made: made,
        })
    }

    /// `ssh` to it, with these options and this command.
    pub(crate) fn words(&self, options: &[&str], command: &[&str]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![self.ssh.clone().into()];
        words.extend(["-F", "none", "-T", "-p"].map(OsString::from));
        words.push(self.address.port().to_string().into());
        words.push("-i".into());
        words.push(self.directory.path().join("user").into());
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
            "ExitOnForwardFailure=yes",
        ] {
            words.extend(["-o", option].map(OsString::from));
        }
        words.extend(options.iter().map(OsString::from));
        words.push(format!("root@{}", self.address.ip()).into());
        words.extend(command.iter().map(OsString::from));
        words
    }
}

/// A local port that leads to another one by way of SSH.
pub(crate) struct Forward {
    port: u16,
    client: Guarded,
    _server: Server,
}

impl Forward {
    /// Leads a free port to `target` on localhost.
    pub(crate) fn to(target: u16, directory: TempDir) -> Result<Self> {
        Self::through(Server::start(directory)?, ports::local(target))
    }

    /// Leads a free port to `target`, as the server sees it.
    pub(crate) fn through(server: Server, target: SocketAddrV4) -> Result<Self> {
        let log = server.directory.path().join("ssh.log");
        let port = ports::free()?;
        let forward = format!("{}:{target}", ports::local(port));
        let mut client = Guarded::start(server.words(&["-N", "-L", &forward], &[]), &log)?;
        client
            .until(|| connect(ports::local(port)))
            .context("start ssh")?;
        Ok(Self {
            port,
            client,
            _server: server,
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

fn connect(address: SocketAddrV4) -> Result<()> {
    TcpStream::connect(address)?;
    Ok(())
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
