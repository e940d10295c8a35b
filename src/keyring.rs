//! The user's accounts: key files in `~/.20ft`, one set for each location.
//!
//! ```text
//! default_location   name of the location that is used unless another is named
//! NAME               this user's secret key there, base64 of 32 bytes, readable by the user only
//! NAME.pub           the public half of it
//! NAME.spub          the location's public key
//! NAME.addr          where the location is, `host:port`; without it, port 5555 of the host NAME
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::keys::{PublicKey, SecretKey};

/// Port that locations listen on.
pub const DEFAULT_PORT: u16 = 5555;

/// Name of the file that names the default location.
const DEFAULT: &str = "default_location";

/// One account: who the user is at one location.
#[derive(Debug, Clone)]
pub struct Account {
    /// Name of the location.
    pub name: String,
    /// Where it is, `host:port`.
    pub address: String,
    /// The user's key.
    pub secret: SecretKey,
    /// The location's key.
    pub location: PublicKey,
}

impl Account {
    /// All of it, the secret key included, as four lines of text.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let Self {
            name,
            address,
            secret,
            location,
        } = self;
        format!("{name}\n{address}\n{}\n{location}\n", secret.to_base64())
    }

    /// The account that [`Account::to_lines`] has written. None if it is something else.
    #[must_use]
    pub fn from_lines(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let account = Self {
            name: lines.next().filter(|name| is_name(name))?.to_owned(),
            address: lines.next()?.to_owned(),
            secret: SecretKey::from_base64(lines.next()?).ok()?,
            location: lines.next()?.parse().ok()?,
        };
        lines.next().is_none().then_some(account)
    }
}

/// A directory of accounts.
#[derive(Debug, Clone)]
pub struct Keyring {
    directory: PathBuf,
}

/// Why an account cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no such account.
    #[error("there is no account at a location `{0}`: `tf locations` lists those there are")]
    Unknown(String),
    /// More than one location's name begins so.
    #[error("`{prefix}` is the start of more than one location's name: {}", .names.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The names that begin so.
        names: Vec<String>,
    },
    /// A name that cannot be that of files.
    #[error("`{0}` cannot be a location's name: its files would be taken for others")]
    BadName(String),
    /// There is an account of this name already.
    #[error("there is an account at `{0}` already: remove its files from {1} first")]
    Exists(String, PathBuf),
    /// A file holds something else than it should.
    #[error("{path} does not hold {expected}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Keyring {
    /// The accounts in a directory, which need not exist.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Names of all locations that the user has an account at, in alphabetical order.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, KeyringError> {
        let failed = |source| KeyringError::Io {
            path: self.directory.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".spub"))
                && self.path(name).is_file()
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Name of the default location, if there is one.
    ///
    /// # Errors
    ///
    /// When the file that names it cannot be read.
    pub fn default_name(&self) -> Result<Option<String>, KeyringError> {
        Ok(read(&self.path(DEFAULT))?
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty()))
    }

    /// Makes the location whose name begins with `prefix` the default, and returns its name.
    ///
    /// # Errors
    ///
    /// When there is no such location, or more than one.
    pub fn select(&self, prefix: &str) -> Result<String, KeyringError> {
        let name = self.complete(prefix)?;
        write(&self.path(DEFAULT), &name)?;
        Ok(name)
    }

    /// The one name that is `prefix`, or begins with it.
    ///
    /// # Errors
    ///
    /// When there is no such location, or more than one.
    pub fn complete(&self, prefix: &str) -> Result<String, KeyringError> {
        let names = self.names()?;
        if names.iter().any(|name| name == prefix) {
            return Ok(prefix.to_owned());
        }
        let mut matching: Vec<String> = names
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .collect();
        match (matching.len(), matching.pop()) {
            (1, Some(name)) => Ok(name),
            (_, Some(last)) => {
                matching.push(last);
                Err(KeyringError::Ambiguous {
                    prefix: prefix.to_owned(),
                    names: matching,
                })
            }
            (_, None) => Err(KeyringError::Unknown(prefix.to_owned())),
        }
    }

    /// The account at a location.
    ///
    /// # Errors
    ///
    /// When there is none, or its files are damaged.
    pub fn account(&self, name: &str) -> Result<Account, KeyringError> {
        let unknown = || KeyringError::Unknown(name.to_owned());
        let damaged = |path: PathBuf, expected| KeyringError::Damaged { path, expected };
        if !is_name(name) {
            return Err(unknown());
        }
        let secret_path = self.path(name);
        let secret = read(&secret_path)?.ok_or_else(unknown)?;
        let secret = SecretKey::from_base64(&secret)
            .map_err(|_| damaged(secret_path, "a secret key (base64 of 32 bytes)"))?;
        let location_path = self.path(&format!("{name}.spub"));
        let location = read(&location_path)?.ok_or_else(unknown)?;
        let location = location.parse().map_err(|_| {
            damaged(
                location_path,
                "a location's public key (base64 of 32 bytes)",
            )
        })?;
        let address = match read(&self.path(&format!("{name}.addr")))? {
            Some(address) => address.trim().to_owned(),
            None => format!("{name}:{DEFAULT_PORT}"),
        };
        Ok(Account {
            name: name.to_owned(),
            address,
            secret,
            location,
        })
    }

    /// Finds out whether [`Keyring::add`] could write an account of this name, before it is needed.
    ///
    /// # Errors
    ///
    /// When there is an account of this name, or the directory cannot be made.
    pub fn check_new(&self, name: &str) -> Result<(), KeyringError> {
        if !is_name(name) {
            return Err(KeyringError::BadName(name.to_owned()));
        }
        if self.path(name).exists() {
            return Err(KeyringError::Exists(
                name.to_owned(),
                self.directory.clone(),
            ));
        }
        let failed = |source| KeyringError::Io {
            path: self.directory.clone(),
            source,
        };
        self.make_directory()?;
        // Permissions and full disks show by writing only.
        let probe = self.path(&format!(".probe.{}", std::process::id()));
        File::create_new(&probe).map_err(failed)?;
        fs::remove_file(&probe).map_err(failed)
    }

    fn make_directory(&self) -> Result<(), KeyringError> {
        let mut directory = fs::DirBuilder::new();
        directory.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut directory, 0o700);
        directory
            .create(&self.directory)
            .map_err(|source| KeyringError::Io {
                path: self.directory.clone(),
                source,
            })
    }

    /// Writes a new account, and makes it the default if there is no other. Nothing is overwritten.
    ///
    /// # Errors
    ///
    /// When there is an account of this name, or the files cannot be written.
    pub fn add(&self, account: &Account) -> Result<(), KeyringError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyringError::Io { path, source }
        };
        if !is_name(&account.name) {
            return Err(KeyringError::BadName(account.name.clone()));
        }
        self.make_directory()?;
        let name = &account.name;
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                KeyringError::Exists(name.clone(), self.directory.clone())
            }
            _ => io(&path)(error),
        })?;
        let mut rest = || {
            write_to(&mut file, &account.secret.to_base64()).map_err(io(&path))?;
            write(
                &self.path(&format!("{name}.pub")),
                &account.secret.public().to_string(),
            )?;
            write(&self.path(&format!("{name}.addr")), &account.address)?;
            write(
                &self.path(&format!("{name}.spub")),
                &account.location.to_string(),
            )?;
            if self.default_name()?.is_none() {
                write(&self.path(DEFAULT), name)?;
            }
            Ok(())
        };
        let result = rest();
        if result.is_err() {
            for suffix in ["", ".pub", ".addr", ".spub"] {
                // What is not there need not be removed.
                let _ = fs::remove_file(self.path(&format!("{name}{suffix}")));
            }
        }
        result
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }
}

/// `host` or `host:port` with the port that locations listen on unless told otherwise.
#[must_use]
pub fn with_port(address: &str) -> String {
    let bare_ipv6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    match address.rsplit_once(':') {
        _ if bare_ipv6 => format!("[{address}]:{DEFAULT_PORT}"),
        Some((_, port)) if port.parse::<u16>().is_ok() => address.to_owned(),
        _ => format!("{address}:{DEFAULT_PORT}"),
    }
}

/// Whether a name can be a location's: it becomes a file's name.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
        && name != DEFAULT
        && ![".pub", ".spub", ".addr"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
}

fn read(path: &Path) -> Result<Option<String>, KeyringError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyringError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, line: &str) -> Result<(), KeyringError> {
    let failed = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    write_to(&mut File::create(path).map_err(failed)?, line).map_err(failed)
}

fn write_to(file: &mut File, line: &str) -> io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account {
            name: name.to_owned(),
            address: format!("{name}:7000"),
            secret: SecretKey::generate(),
            location: SecretKey::generate().public(),
        }
    }

    fn keyring() -> (tempfile::TempDir, Keyring) {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(directory.path().join("home/.20ft"));
        (directory, keyring)
    }

    #[test]
    fn an_account_is_its_lines() {
        let account = account("syd");
        let text = account.to_lines();
        let read = Account::from_lines(&text).unwrap();
        assert_eq!(read.to_lines(), text);
        for bad in [
            String::new(),
            text.replacen("syd", "../syd", 1),
            format!("{text}more\n"),
            text.lines().take(3).collect(),
        ] {
            assert!(Account::from_lines(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn accounts_survive_their_files_and_the_first_is_the_default() {
        let (_directory, keyring) = keyring();
        assert!(keyring.names().unwrap().is_empty());
        let (first, second) = (account("syd.example"), account("akl.example"));
        keyring.add(&first).unwrap();
        keyring.add(&second).unwrap();
        assert_eq!(keyring.names().unwrap(), ["akl.example", "syd.example"]);
        assert_eq!(
            keyring.default_name().unwrap().as_deref(),
            Some("syd.example")
        );
        let read = keyring.account("akl.example").unwrap();
        assert_eq!(
            (read.address, read.location),
            (second.address, second.location)
        );
        assert_eq!(read.secret.public(), second.secret.public());
    }

    #[test]
    #[cfg(unix)]
    fn secrets_are_for_the_user_only() {
        use std::os::unix::fs::PermissionsExt as _;

        let (_directory, keyring) = keyring();
        keyring.add(&account("syd")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keyring.path("syd")), 0o600);
        assert_eq!(mode(&keyring.directory), 0o700);
    }

    #[test]
    fn an_account_is_never_overwritten() {
        let (_directory, keyring) = keyring();
        let first = account("syd");
        keyring.add(&first).unwrap();
        assert!(matches!(
            keyring.add(&account("syd")),
            Err(KeyringError::Exists(..))
        ));
        assert_eq!(
            keyring.account("syd").unwrap().secret.public(),
            first.secret.public()
        );
    }

    #[test]
    fn a_unique_start_of_a_name_selects() {
        let (_directory, keyring) = keyring();
        for name in ["syd", "sydney", "akl"] {
            keyring.add(&account(name)).unwrap();
        }
        assert_eq!(keyring.select("a").unwrap(), "akl");
        assert_eq!(keyring.default_name().unwrap().as_deref(), Some("akl"));
        assert_eq!(keyring.select("syd").unwrap(), "syd");
        assert!(matches!(
            keyring.select("sy"),
            Err(KeyringError::Ambiguous { .. })
        ));
        assert!(matches!(keyring.select("x"), Err(KeyringError::Unknown(_))));
    }

    #[test]
    fn names_that_are_paths_are_unknown() {
        let (_directory, keyring) = keyring();
        for name in ["", "..", "../x", "/etc/passwd", "default_location", "x.pub"] {
            assert!(
                matches!(keyring.account(name), Err(KeyringError::Unknown(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn what_cannot_be_added_is_known_before() {
        let (_directory, keyring) = keyring();
        keyring.check_new("syd").unwrap();
        keyring.add(&account("syd")).unwrap();
        let exists = keyring.check_new("syd");
        assert!(matches!(exists, Err(KeyringError::Exists(..))));
        for name in ["default_location", "syd.pub"] {
            let error = keyring.add(&account(name)).unwrap_err();
            assert!(matches!(error, KeyringError::BadName(_)), "{error}");
        }
        assert_eq!(keyring.names().unwrap(), ["syd"]);
    }

    #[test]
    fn addresses_get_the_usual_port() {
        for (given, complete) in [
            ("server", "server:5555"),
            ("server:7", "server:7"),
            ("192.0.2.1", "192.0.2.1:5555"),
            ("2001:db8::1", "[2001:db8::1]:5555"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
        ] {
            assert_eq!(with_port(given), complete);
        }
    }
}
