//! What goes wrong with one entry, told apart by whose fault it is: the layer's, its source's or the machine's.

use std::io;

use rustix::io::Errno;

use super::UnpackError;
use super::entries::{Malformed, ReadError};

/// Longest part of a hostile name that is shown, in characters.
const SHOWN: usize = 200;

/// A name of an entry in a form that can be printed, whatever is in it.
pub(super) fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect()
}

/// What went wrong with one entry.
#[derive(Debug)]
pub(super) enum Fault {
    Bad(String),
    Input(io::Error),
    System(Errno),
}

pub(super) type Done<T = ()> = Result<T, Fault>;

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<Malformed> for Fault {
    fn from(reason: Malformed) -> Self {
        Self::Bad(reason.to_string())
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Malformed(reason) => reason.into(),
            ReadError::Io(error) => Self::Input(error),
        }
    }
}

impl Fault {
    pub(super) fn bad(reason: &str) -> Self {
        Self::Bad(reason.to_owned())
    }

    /// The error for the entry called `name`.
    pub(super) fn at(self, name: &[u8]) -> UnpackError {
        let name = shown(name);
        let bad = |reason: &str| UnpackError::Bad(format!("`{name}`: {reason}"));
        match self {
            Self::Bad(reason) => bad(&reason),
            Self::Input(error) => UnpackError::Input(error),
            Self::System(Errno::NOSPC | Errno::DQUOT) => UnpackError::DiskFull,
            // What a layer can provoke.
            Self::System(Errno::NAMETOOLONG) => bad("its name, or what it links to, is too long"),
            Self::System(Errno::LOOP) => bad("its directory is a circle of symbolic links"),
            Self::System(Errno::NOTDIR) => bad("it is in something that is not a directory"),
            Self::System(Errno::FBIG) => bad("it is larger than the file system allows"),
            Self::System(Errno::MLINK) => bad("it has more names than the file system allows"),
            Self::System(Errno::NOSYS) => UnpackError::System {
                step: "resolve a path safely: the system call openat2 is missing (it came with Linux 5.6)".to_owned(),
                source: Errno::NOSYS.into(),
            },
            Self::System(errno) => UnpackError::System {
                step: format!("unpack `{name}`"),
                source: errno.into(),
            },
        }
    }
}
