//! A server that is reached by a real sshd.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::desk::Desk;
use crate::common::{PATIENCE, Program, Running, eventually, free_port, installed};

/// A server that is reached by ssh: another home on this machine.
pub(super) struct Server {
    pub(super) desk: Desk,
    host: String,
    key: String,
    _sshd: Running,
}

impl Server {
    /// None where there can be none, having said why.
    pub(super) fn new(client: &Desk) -> Option<Self> {
        let programs = ["sshd", "ssh", "ssh-keygen"];
        if !nix::unistd::geteuid().is_root() || !programs.into_iter().all(installed) {
            assert!(std::env::var_os("CI").is_none(), "an sshd needs root");
            eprintln!("skipped: an sshd needs root");
            return None;
        }
        let desk = Desk::new();
        for key in ["host", "user"] {
            let keygen = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(desk.path(key))
                .status();
            assert!(keygen.expect("it is installed").success());
        }
        let port = free_port();
        // Where Debian's sshd insists on a directory.
        let _ = fs::create_dir("/run/sshd");
        let directory = desk.directory.path().display();
        let configuration = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\n\
             PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n\
             SetEnv HOME={directory}/home PATH={}\n",
            desk.search_path()
        );
        fs::write(desk.path("sshd_config"), configuration).expect("it is ours");
        let sshd = which("sshd");
        let mut sshd = Program::new(sshd).args([
            "-D".as_ref(),
            "-f".as_ref(),
            desk.path("sshd_config").as_os_str(),
        ]);
        sshd.command().stderr(Stdio::null());
        let sshd = sshd.spawn();
        // Looked up rather than tried: where nobody listens yet, a connection may be one with itself, and take the port.
        let listens = format!("0100007F:{port:04X} 00000000:0000 0A");
        eventually(PATIENCE, || {
            let sockets = fs::read_to_string("/proc/net/tcp").expect("it is there");
            sockets.contains(&listens).then_some(())
        });
        // The user's settings, which are the machine's otherwise: the server's key is known.
        let public = fs::read_to_string(desk.path("host.pub")).expect("it was made");
        fs::write(client.path("known"), format!("[127.0.0.1]:{port} {public}"))
            .expect("it is ours");
        let script = format!(
            "#!/bin/sh\n[ -z \"$FEED\" ] || exec < \"$FEED\"\n\
             exec {} -F none -o UserKnownHostsFile={} -o GlobalKnownHostsFile=none \"$@\"\n",
            which("ssh").display(),
            client.path("known").display()
        );
        client.program("ssh", &script);
        Some(Self {
            host: format!("ssh://root@127.0.0.1:{port}"),
            key: desk.path("user").display().to_string(),
            desk,
            _sshd: sshd,
        })
    }

    /// Words in front of a verb of `tf service`.
    pub(super) fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let place = ["service", "--host", &self.host, "--identity", &self.key];
        [&place[..], words].concat()
    }

    /// The programs that were copied there.
    pub(super) fn programs(&self) -> Vec<PathBuf> {
        let mut files = self.desk.files();
        files.retain(|path| path.to_string_lossy().contains("/.local/lib/20ft/"));
        files
    }
}

pub(super) fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("it is set");
    let mut paths = std::env::split_paths(&path).map(|directory| directory.join(program));
    paths.find(|path| path.is_file()).expect("it is installed")
}
