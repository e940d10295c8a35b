//! The same on a server, over ssh: this program is copied there, and does there what it is told.
//!
//! ```text
//! look ─▶ what machine it is, and whether this very program is there
//! copy ─▶ to a path that names its content: into place only when it is whole and runs
//! run  ─▶ `tf service …` there, whose output is passed on
//! ```
//!
//! ssh is the user's own program with the user's own settings. It checks the server's key, and does not ask for passwords:
//! there may be nobody to answer.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::systemd::{PROGRAM_PREFIX, Scope};
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;

/// ssh's own exit status, if it is not the remote program's.
const SSH_FAILED: i32 = 255;

/// A server.
pub(super) struct Remote<'a> {
    host: &'a str,
    identity: Option<&'a Path>,
    scope: Scope,
}

/// What there is to know of a server.
struct Machine {
    /// Directory for programs.
    programs: String,
    /// The newest program that is there already, ours if that is there.
    found: Option<String>,
}

impl<'a> Remote<'a> {
    /// # Errors
    ///
    /// When the host is something else to ssh.
    pub(super) fn new(
        host: &'a str,
        identity: Option<&'a Path>,
        scope: Scope,
    ) -> Result<Self, Failure> {
        // ssh would take it for options, one of which runs programs here.
        if host.is_empty() || host.starts_with('-') || host.contains(char::is_whitespace) {
            return Err(Failure::arguments(format!(
                "`--host {host}` is not a server: expected USER@SERVER"
            )));
        }
        Ok(Self {
            host,
            identity,
            scope,
        })
    }

    /// Runs `tf` there with these words and this input, copied there before if need be. What it says is said here.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or this program cannot run there.
    pub(super) async fn install(&self, words: &[String], input: &str) -> Result<Ending, Failure> {
        let program = Program::of_this_process()?;
        let machine = self.look(&program.name).await?;
        let path = format!("{}/{}", machine.programs, program.name);
        if machine.found.as_ref() != Some(&path) {
            self.copy(program, &machine.programs).await?;
        }
        self.run(&path, words, input).await
    }

    /// Runs the `tf` that is there already.
    ///
    /// # Errors
    ///
    /// When there is none, or the server cannot be reached.
    pub(super) async fn manage(&self, words: &[String]) -> Result<Ending, Failure> {
        let machine = self.look("").await?;
        let path = machine.found.ok_or_else(|| {
            Failure::operation(format!(
                "no service was installed on {} from elsewhere",
                self.host
            ))
        })?;
        self.run(&path, words, "").await
    }

    async fn look(&self, wanted: &str) -> Result<Machine, Failure> {
        let programs = match self.scope {
            Scope::System => "/usr/local/lib/20ft",
            Scope::User => "$HOME/.local/lib/20ft",
        };
        let script = format!(
            "d=\"{programs}\"\n\
             uname -s && uname -m && id -u && printf '%s\\n' \"$d\"\n\
             if [ -x \"$d/{wanted}\" ] && [ -n '{wanted}' ]; then printf '%s\\n' \"$d/{wanted}\"\n\
             else ls -t \"$d\"/{PROGRAM_PREFIX}* 2>/dev/null | head -n 1\nfi\n"
        );
        let mut ssh = self.ssh("sh -s");
        ssh.stdout(Stdio::piped());
        let (status, output) = fed(&mut ssh, io::Cursor::new(script)).await?;
        self.judge(status, "look at it")?;
        let text = String::from_utf8_lossy(&output);
        let mut lines = text.lines();
        let mut line = || {
            lines
                .next()
                .map(str::to_owned)
                .ok_or_else(|| Failure::operation(format!("{} does not say what it is", self.host)))
        };
        let (system, machine, user, programs) = (line()?, line()?, line()?, line()?);
        let here = (uname_system(), std::env::consts::ARCH);
        if (system.as_str(), machine.as_str()) != here {
            return Err(Failure::operation(format!(
                "{} is {system} on {machine}, and this program is made for {} on {}",
                self.host, here.0, here.1
            ))
            .hint("install tf there, and use `tf service install` there"));
        }
        if self.scope == Scope::System && user != "0" {
            return Err(Failure::operation(format!(
                "services of the machine need root, which `{}` is not",
                self.host
            ))
            .hint("use --host root@SERVER, or leave --system out"));
        }
        // It becomes part of commands.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@ ".contains(c);
        if !programs.starts_with('/') || !programs.chars().all(plain) {
            return Err(Failure::operation(format!(
                "the home directory on {} has a name that cannot be used: {programs}",
                self.host
            )));
        }
        Ok(Machine {
            programs,
            found: line().ok().filter(|path| path.starts_with('/')),
        })
    }

    /// Puts the program there. Whoever looks sees all of it or nothing, also when the connection breaks in the middle.
    async fn copy(&self, program: Program, directory: &str) -> Result<(), Failure> {
        let Program { name, file, length } = program;
        // In one word for the login shell, whichever it is: neither quotes nor backslashes of its kind are in it.
        let script = format!(
            "umask 022; mkdir -p \"{directory}\" && t=$(mktemp \"{directory}/.part.XXXXXX\") || exit 1; \
             cat > \"$t\" && test $(wc -c < \"$t\") -eq {length} && chmod 755 \"$t\" && \"$t\" --version > /dev/null && \
             mv -f \"$t\" \"{directory}/{name}\" && exit 0; rm -f \"$t\"; exit 1"
        );
        let mut ssh = self.ssh(&format!("sh -c '{script}'"));
        ssh.stdout(Stdio::null());
        let (status, _) = fed(&mut ssh, tokio::fs::File::from_std(file)).await?;
        self.judge(status, "copy tf there, or to run it there")
    }

    async fn run(&self, path: &str, words: &[String], input: &str) -> Result<Ending, Failure> {
        // By way of standard input, a login shell of any kind cannot misread it, and no list of processes shows it.
        let mut script = format!("printf %s {} | {}", quoted(input), quoted(path));
        for word in words {
            script.push(' ');
            script.push_str(&quoted(word));
        }
        script.push('\n');
        let mut ssh = self.ssh("sh -s");
        ssh.stdout(Stdio::inherit());
        let (status, _) = fed(&mut ssh, io::Cursor::new(script)).await?;
        match status.code() {
            Some(0) => Ok(Ending::Done),
            Some(2) => Ok(Ending::WrongArguments),
            // It has said why.
            Some(code) if code != SSH_FAILED => Ok(Ending::Failed),
            _ => self.judge(status, "use it").map(|()| Ending::Failed),
        }
    }

    fn ssh(&self, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]);
        if let Some(identity) = self.identity {
            ssh.arg("-i")
                .arg(identity)
                .args(["-o", "IdentitiesOnly=yes"]);
        }
        ssh.args(["--", self.host, command]);
        ssh.stdin(Stdio::piped()).kill_on_drop(true);
        ssh
    }

    fn judge(&self, status: ExitStatus, what: &str) -> Result<(), Failure> {
        let host = self.host;
        match status.code() {
            Some(0) => Ok(()),
            Some(SSH_FAILED) => Err(Failure::operation(format!("cannot reach {host} by ssh")).hint(
                format!("`ssh {host}` has to get in without asking anything; --identity names the file of a key"),
            )),
            _ => Err(Failure::operation(format!(
                "it was not possible on {host} to {what}"
            ))),
        }
    }
}

/// This program as a file.
struct Program {
    /// Its name on a server, which says what is in it.
    name: String,
    file: File,
    length: u64,
}

impl Program {
    fn of_this_process() -> Result<Self, Failure> {
        let failed = |error| Failure::operation(format!("cannot read this program: {error}"));
        // What is running, even if something else has its path by now.
        let path = if cfg!(target_os = "linux") {
            "/proc/self/exe".into()
        } else {
            std::env::current_exe().map_err(failed)?
        };
        let mut file = File::open(&path).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut length = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = io::Read::read(&mut file, &mut buffer).map_err(failed)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            length += read as u64;
        }
        io::Seek::rewind(&mut file).map_err(failed)?;
        let hash: [u8; 8] = hash.finalize()[..8].try_into().expect("a hash is longer");
        let hash = u64::from_be_bytes(hash);
        Ok(Self {
            name: format!("{PROGRAM_PREFIX}{}-{hash:016x}", env!("CARGO_PKG_VERSION")),
            file,
            length,
        })
    }
}

/// What `uname -s` calls this system.
fn uname_system() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        other => other,
    }
}

/// Runs a command with this input to its end.
async fn fed(
    command: &mut Command,
    mut input: impl tokio::io::AsyncRead + Unpin,
) -> Result<(ExitStatus, Vec<u8>), Failure> {
    let failed = |error: io::Error| {
        let failure = Failure::operation(format!("cannot run `ssh`: {error}"));
        if error.kind() == io::ErrorKind::NotFound {
            return failure.hint("install OpenSSH's client");
        }
        failure
    };
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let feeding = async {
        // If it does not read all, it says so by its exit status.
        let _ = tokio::io::copy(&mut input, &mut stdin).await;
        let _ = stdin.shutdown().await;
        drop(stdin);
    };
    let ((), output) = tokio::join!(feeding, child.wait_with_output());
    let output = output.map_err(failed)?;
    Ok((output.status, output.stdout))
}

/// A word that a shell leaves as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_no_option_of_ssh() {
        for bad in ["", "-oProxyCommand=id", "a b", "a\nb"] {
            assert!(Remote::new(bad, None, Scope::User).is_err(), "{bad}");
        }
        for good in ["user@server", "server", "ssh://root@[::1]:2222"] {
            assert!(Remote::new(good, None, Scope::User).is_ok(), "{good}");
        }
    }
}
