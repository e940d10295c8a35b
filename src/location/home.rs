//! What a location that serves others keeps on its disk besides its database: its key, a lock, and a socket for
//! administrators.
//!
//! ```text
//! STATE/location/profile    what it told invitations of itself when it served last: name and address
//! STATE/location/key        its secret key, base64 of 32 bytes, readable by its owner only
//! STATE/location/serving    locked by the process that serves
//! STATE/location/admin      socket that administrators connect to while it does
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::make_private;
use crate::keys::SecretKey;

/// The directory of a location.
#[derive(Debug, Clone)]
pub struct Home {
    directory: PathBuf,
}

/// The right to serve. Nobody else has it until this is dropped, or the process ends.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// What a location is called, and where clients find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its address, `host:port`, as far as it knows it itself.
    pub address: String,
}

/// Why a location's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process serves.
    #[error(
        "another process serves the location in {0}: stop it first, or use another state directory"
    )]
    Claimed(PathBuf),
    /// The key file holds something else.
    #[error("{0} does not hold a secret key (base64 of 32 bytes)")]
    Damaged(PathBuf),
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

impl Home {
    /// The location of a state directory; its own directory is made if missing.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(state: &Path) -> Result<Self, HomeError> {
        let directory = state.join("location");
        make_private(&directory).map_err(io_error(&directory))?;
        Ok(Self { directory })
    }

    /// The location of a state directory, if there is one. Creates nothing.
    #[must_use]
    pub fn find(state: &Path) -> Option<Self> {
        let directory = state.join("location");
        let found = directory.join("key").is_file();
        found.then_some(Self { directory })
    }

    /// What the location told of itself when it served last, if it ever did.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn profile(&self) -> Result<Option<Profile>, HomeError> {
        let path = self.directory.join("profile");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| io_error(&path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    /// Writes what [`Home::profile`] reads.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_profile(&self, profile: &Profile) -> Result<(), HomeError> {
        let path = self.directory.join("profile");
        let part = self
            .directory
            .join(format!("profile.{}", std::process::id()));
        let text = serde_json::to_vec(profile).map_err(|error| io_error(&path)(error.into()))?;
        // Whoever reads it at the same time finds the one or the other.
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, &path))
            .map_err(io_error(&path))
    }

    /// Takes the right to serve.
    ///
    /// # Errors
    ///
    /// When another process has it.
    pub fn claim(&self) -> Result<Claim, HomeError> {
        let path = self.directory.join("serving");
        let file = File::create(&path).map_err(io_error(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Claim { _lock: file }),
            Err(fs::TryLockError::WouldBlock) => Err(HomeError::Claimed(self.directory.clone())),
            Err(fs::TryLockError::Error(error)) => Err(io_error(&path)(error)),
        }
    }

    /// The location's key, made at the first call.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub fn identity(&self) -> Result<SecretKey, HomeError> {
        let path = self.directory.join("key");
        match fs::read_to_string(&path) {
            Ok(text) => SecretKey::from_base64(&text).map_err(|_| HomeError::Damaged(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_identity(&path),
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    /// Where administrators connect.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.directory.join("admin")
    }

    fn make_identity(&self, path: &Path) -> Result<SecretKey, HomeError> {
        let key = SecretKey::generate();
        let part = self.directory.join(format!("key.{}", std::process::id()));
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&part)?;
            writeln!(file, "{}", key.to_base64())?;
            file.sync_all()?;
            // Two processes at their first start: the key of the first to come is that of both.
            fs::hard_link(&part, path)
        };
        let written = write();
        // The name that counts is the other one.
        let _ = fs::remove_file(&part);
        match written {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.identity(),
            Err(error) => Err(io_error(path)(error)),
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_for_its_owner_only() {
        let state = tempfile::tempdir().unwrap();
        let first = Home::open(state.path()).unwrap().identity().unwrap();
        let home = Home::open(state.path()).unwrap();
        assert_eq!(home.identity().unwrap().public(), first.public());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(home.directory.join("key"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(home.directory.join("key"), "x").unwrap();
        assert!(matches!(home.identity(), Err(HomeError::Damaged(_))));
    }

    #[test]
    fn a_location_is_found_once_it_has_a_key() {
        let state = tempfile::tempdir().unwrap();
        assert!(Home::find(state.path()).is_none());
        let home = Home::open(state.path()).unwrap();
        home.identity().unwrap();
        let found = Home::find(state.path()).unwrap();
        assert_eq!(found.profile().unwrap(), None);
        let profile = Profile {
            name: "here".to_owned(),
            address: "here:5555".to_owned(),
        };
        home.set_profile(&profile).unwrap();
        assert_eq!(found.profile().unwrap(), Some(profile));
    }

    #[test]
    fn only_one_serves() {
        let state = tempfile::tempdir().unwrap();
        let home = Home::open(state.path()).unwrap();
        let claim = home.claim().unwrap();
        assert!(matches!(home.claim(), Err(HomeError::Claimed(_))));
        drop(claim);
        assert!(home.claim().is_ok());
    }
}
