//! systemd as it is on this machine: where its units are, and `systemctl`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::unit::{self, Written};
use crate::cli::failure::Failure;

/// Names of units begin so, to be told from those of others.
const PREFIX: &str = "tf-";
const SUFFIX: &str = ".service";

/// Programs that were copied here for services begin so.
pub(super) const PROGRAM_PREFIX: &str = "tf-";

/// Whose manager it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The calling user's.
    User,
    /// The machine's.
    System,
}

impl Scope {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
        }
    }
}

/// One manager, and what this program keeps for it.
#[derive(Debug, Clone)]
pub(super) struct Systemd {
    pub(super) scope: Scope,
    /// Where units are written.
    units: PathBuf,
    /// Programs that were copied here for services.
    programs: PathBuf,
    /// Accounts that were copied here for services, in a directory for each.
    accounts: PathBuf,
}

/// A service of ours.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) written: Written,
}

impl Systemd {
    /// The manager of a scope. Nothing is asked of it.
    ///
    /// # Errors
    ///
    /// When the user has no home directory.
    pub(super) fn new(scope: Scope) -> Result<Self, Failure> {
        let (units, programs, accounts) = match scope {
            Scope::System => (
                "/etc/systemd/system".into(),
                "/usr/local/lib/20ft".into(),
                "/var/lib/20ft/services".into(),
            ),
            Scope::User => {
                let home = dirs::home_dir().filter(|home| home.is_absolute());
                let home = home.ok_or_else(|| {
                    Failure::operation("the home directory is unknown: set HOME to a directory")
                })?;
                let config = dirs::config_dir().unwrap_or_else(|| home.join(".config"));
                let data = dirs::data_dir().unwrap_or_else(|| home.join(".local/share"));
                (
                    config.join("systemd/user"),
                    home.join(".local/lib/20ft"),
                    data.join("20ft/services"),
                )
            }
        };
        Ok(Self {
            scope,
            units,
            programs,
            accounts,
        })
    }

    /// Finds out whether the manager is there and can be spoken to.
    ///
    /// # Errors
    ///
    /// When it is not, with what to do without it.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let answer = self.ask(&["show", "--property=Version"]).await;
        let why = match answer {
            Ok(answer) if answer.status.success() => return Ok(()),
            Ok(answer) => said(&answer),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "there is no program `systemctl`".to_owned()
            }
            Err(error) => format!("`systemctl` cannot be run: {error}"),
        };
        let hint = match self.scope {
            Scope::User => {
                "`--system` uses the machine's systemd in place of your own, which runs while you are logged in or after \
                 `loginctl enable-linger`; `--print` shows the unit, whose command any supervisor can run"
            }
            Scope::System => {
                "on a machine without systemd, `--print` shows the unit, whose command any supervisor can run"
            }
        };
        Err(Failure::operation(format!(
            "cannot reach the systemd of this {}: {why}",
            match self.scope {
                Scope::User => "user",
                Scope::System => "machine",
            }
        ))
        .hint(hint))
    }

    /// Path of a service's unit.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.units.join(unit_name(name))
    }

    /// Where the account of a service is, if it has one of its own.
    pub(super) fn account(&self, name: &str) -> PathBuf {
        self.accounts.join(name)
    }

    /// The services that were installed by this program, in alphabetical order.
    ///
    /// # Errors
    ///
    /// When the directory of units cannot be read.
    pub(super) fn found(&self) -> Result<Vec<Found>, Failure> {
        let entries = match fs::read_dir(&self.units) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &self.units, &error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| cannot("read", &self.units, &error))?;
            let name = entry.file_name();
            let name = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
            let Some(name) = name else { continue };
            if let Some(found_one) = self.find(name) {
                found.push(found_one);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The service of a name, if this program has installed it.
    pub(super) fn find(&self, name: &str) -> Option<Found> {
        let text = fs::read_to_string(self.path(name)).ok()?;
        Some(Found {
            name: name.to_owned(),
            written: unit::read(&text)?,
        })
    }

    /// Writes a unit, as a whole or not at all.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        let part = self
            .units
            .join(format!(".{}.{}", unit_name(name), std::process::id()));
        let written = fs::create_dir_all(&self.units)
            .and_then(|()| fs::write(&part, text))
            .and_then(|()| fs::rename(&part, &path));
        written.map_err(|error| {
            // It may not have come to be.
            let _ = fs::remove_file(&part);
            let failure = cannot("write", &path, &error);
            match (error.kind(), self.scope) {
                (io::ErrorKind::PermissionDenied, Scope::System) => failure
                    .hint("services of the machine need root: use sudo, or leave --system out"),
                _ => failure,
            }
        })
    }

    /// Starts a service whose unit has been written, or starts it anew, and has it started from now on.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub(super) async fn start(&self, name: &str) -> Result<(), Failure> {
        let unit = unit_name(name);
        self.tell(&["daemon-reload"]).await?;
        self.tell(&["enable", &unit]).await?;
        self.tell(&["restart", &unit]).await.map_err(|failure| {
            // Not `--user -u`: that finds nothing where a user has no journal of their own, as root never has.
            let option = match self.scope {
                Scope::User => "--user-unit",
                Scope::System => "-u",
            };
            failure.hint(format!(
                "`journalctl -n 50 {option} {unit}` shows what it said"
            ))
        })
    }

    /// Stops a service if it runs, and removes it with all that was put there for it.
    ///
    /// # Errors
    ///
    /// When it does not stop, or cannot be removed.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Failure> {
        let unit = unit_name(name);
        self.tell(&["disable", "--now", &unit]).await?;
        let path = self.path(name);
        fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
        self.tell(&["daemon-reload"]).await?;
        // A unit that has not failed is told so as an error.
        let _ = self.ask(&["reset-failed", &unit]).await;
        self.tidy(Some(name))
    }

    /// Removes the account of a service, programs that no service runs any more, and directories that are empty now.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub(super) fn tidy(&self, name: Option<&str>) -> Result<(), Failure> {
        if let Some(name) = name {
            gone(fs::remove_dir_all(self.account(name)), &self.account(name))?;
        }
        let used: Vec<PathBuf> = self
            .found()?
            .into_iter()
            .map(|service| service.written.program.into())
            .collect();
        for entry in fs::read_dir(&self.programs).into_iter().flatten().flatten() {
            let path = entry.path();
            let ours = entry
                .file_name()
                .to_string_lossy()
                .starts_with(PROGRAM_PREFIX);
            if ours && !used.contains(&path) {
                gone(fs::remove_file(&path), &path)?;
            }
        }
        for directory in [&self.accounts, &self.programs] {
            // It fails where something is left in it, which is somebody's.
            let _ = fs::remove_dir(directory);
        }
        if self.scope == Scope::User {
            let _ = fs::remove_dir(&self.units);
        }
        Ok(())
    }

    /// What the manager says of the state of services, by their names. Empty if it cannot be asked.
    pub(super) async fn states(&self, names: &[String]) -> BTreeMap<String, String> {
        let mut states = BTreeMap::new();
        for name in names {
            // The exit status tells the same once more.
            if let Ok(answer) = self.ask(&["is-active", &unit_name(name)]).await {
                let state = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
                if !state.is_empty() {
                    states.insert(name.clone(), state);
                }
            }
        }
        states
    }

    async fn tell(&self, words: &[&str]) -> Result<(), Failure> {
        let answer = self.ask(words).await;
        let why = match answer {
            Ok(answer) if answer.status.success() => return Ok(()),
            Ok(answer) => said(&answer),
            Err(error) => error.to_string(),
        };
        let verb = words.join(" ");
        Err(Failure::operation(format!(
            "`systemctl {verb}` failed: {why}"
        )))
    }

    async fn ask(&self, words: &[&str]) -> io::Result<Output> {
        let mut command = Command::new("systemctl");
        if self.scope == Scope::User {
            command.arg("--user");
            // It is not set where the user has come by su or sudo.
            let runtime = PathBuf::from(format!("/run/user/{}", nix::unistd::getuid()));
            let ours =
                fs::metadata(&runtime).is_ok_and(|it| it.uid() == nix::unistd::getuid().as_raw());
            if std::env::var_os("XDG_RUNTIME_DIR").is_none() && ours {
                command.env("XDG_RUNTIME_DIR", runtime);
            }
        }
        // What was asked of the manager goes on there if nobody waits for it any more.
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        command.output().await
    }
}

/// Name of the unit of a service.
pub(super) fn unit_name(name: &str) -> String {
    format!("{PREFIX}{name}{SUFFIX}")
}

/// What a program has said of its failure, in one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return output.status.to_string();
    }
    lines.join(" ")
}

fn gone(removed: io::Result<()>, path: &Path) -> Result<(), Failure> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(cannot("remove", path, &error))
        }
        _ => Ok(()),
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::operation(format!("cannot {what} {}: {error}", path.display()))
}
