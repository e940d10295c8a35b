//! The state file of `--json`: what runs and how it is reached, for other programs to read while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::cli::failure::Failure;

/// Content of the file.
#[derive(Debug, Serialize)]
pub(crate) struct State {
    /// Id of the container.
    pub(crate) container: String,
    /// The image as the user named it.
    pub(crate) image: String,
    /// Id of the node that it runs on.
    pub(crate) node: String,
    /// The container's address, as seen by other containers.
    pub(crate) ip: IpAddr,
    /// Local port by port of the container; the first one where there are several.
    pub(crate) tunnels: BTreeMap<u16, u16>,
    /// The `tf` process that it lives and ends with.
    pub(crate) pid: u32,
}

/// A path that was found free for a state file.
#[derive(Debug)]
pub(crate) struct Reserved(PathBuf);

/// A state file that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct StateFile(Written);

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    path: PathBuf,
    identity: Option<Identity>,
}

/// The state files that are there now, for whoever leaves without dropping anything.
static PRESENT: Mutex<Vec<Written>> = Mutex::new(Vec::new());

/// What tells a file from another one that has taken its name since.
type Identity = (u64, u64);

impl Reserved {
    /// Finds out that the file can be created, so that it fails before anything is started.
    ///
    /// # Errors
    ///
    /// When it exists, or its directory is missing or cannot be written.
    pub(crate) fn check(path: &Path) -> Result<Self, Failure> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(exists(path));
        }
        let part = part_of(path);
        create(&part, b"").map_err(|error| failed(path, &error))?;
        remove(&part).map_err(|error| failed(path, &error))?;
        Ok(Self(path.to_owned()))
    }

    /// Writes the file: it appears with its whole content, or not at all.
    ///
    /// # Errors
    ///
    /// When it exists by now, or cannot be written.
    pub(crate) fn write(self, state: &State) -> Result<StateFile, Failure> {
        let path = self.0;
        let mut content = serde_json::to_vec_pretty(state).expect("the state has text keys only");
        content.push(b'\n');
        let part = part_of(&path);
        let written = create(&part, &content).and_then(|()| {
            // Unlike a rename, a link never replaces what is there.
            match fs::hard_link(&part, &path) {
                Err(error) if lacks_links(&error) => create(&path, &content),
                result => result,
            }
        });
        // Removed whatever happened, and not there if it could not be created.
        let _ = remove(&part);
        match written {
            Ok(()) => {
                let identity = identity(&path);
                let written = Written { path, identity };
                present().push(written.clone());
                Ok(StateFile(written))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&path)),
            Err(error) => Err(failed(&path, &error)),
        }
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        present().retain(|written| *written != self.0);
        self.0.remove();
    }
}

/// Removes the state files of this process, which is about to leave without cleaning up.
pub(crate) fn remove_all() {
    for written in present().drain(..) {
        written.remove();
    }
}

fn present() -> MutexGuard<'static, Vec<Written>> {
    PRESENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Written {
    fn remove(&self) {
        // Somebody may have removed it, and somebody else may have created another one since.
        if identity(&self.path) == self.identity {
            // Nothing can be done about a directory that has become read-only.
            let _ = remove(&self.path);
        }
    }
}

/// A name beside `path` for the unfinished file.
fn part_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    let written = file.write_all(content);
    if written.is_err() {
        // The error of the write is the one to report.
        let _ = remove(path);
    }
    written
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Whether the file system has no hard links, as that of a memory stick.
fn lacks_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    )
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|_| (0, 0))
}

fn exists(path: &Path) -> Failure {
    Failure::operation(format!(
        "the state file `{}` exists already",
        path.display()
    ))
    .hint("another tf may be using it (its `pid` says which): choose another name, or remove it if that process is gone")
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::operation(format!(
        "cannot create the state file `{}`: {error}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn state() -> State {
        State {
            container: "c".into(),
            image: "nginx".into(),
            node: "n".into(),
            ip: Ipv4Addr::new(10, 0, 0, 2).into(),
            tunnels: BTreeMap::from([(80, 8080)]),
            pid: 7,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory)
            .expect("it is there")
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect()
    }

    #[test]
    fn it_lives_as_long_as_its_owner_and_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        let reserved = Reserved::check(&path).expect("free");
        assert_eq!(names(directory.path()), [""; 0]);
        let file = reserved.write(&state()).expect("writable");
        let text = fs::read_to_string(&path).expect("it is there");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({
                "container": "c", "image": "nginx", "node": "n", "ip": "10.0.0.2", "tunnels": {"80": 8080}, "pid": 7,
            })
        );
        assert_eq!(names(directory.path()), ["state.json"]);
        drop(file);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        let reserved = Reserved::check(&path).expect("free");
        fs::write(&path, "theirs").expect("writable");
        for message in [
            Reserved::check(&path).expect_err("taken").to_string(),
            reserved.write(&state()).expect_err("taken").to_string(),
        ] {
            assert!(message.contains("exists already"), "{message}");
        }
        assert_eq!(fs::read_to_string(&path).expect("there"), "theirs");
        assert_eq!(names(directory.path()), ["state.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_dangling_link_counts_as_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        std::os::unix::fs::symlink("/nowhere/at/all", &path).expect("writable");
        assert!(Reserved::check(&path).is_err());
    }

    #[test]
    fn a_file_of_somebody_else_is_not_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        let file = Reserved::check(&path)
            .and_then(|reserved| reserved.write(&state()))
            .expect("writable");
        // Kept open, so that the file that follows cannot get the same inode.
        let ours = fs::File::open(&path).expect("there");
        fs::remove_file(&path).expect("there");
        fs::write(&path, "theirs").expect("writable");
        drop(file);
        drop(ours);
        assert_eq!(fs::read_to_string(&path).expect("there"), "theirs");
    }

    #[test]
    fn a_missing_directory_is_found_at_the_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("none/state.json");
        let message = Reserved::check(&path)
            .expect_err("no directory")
            .to_string();
        assert!(message.contains("cannot create"), "{message}");
    }
}
