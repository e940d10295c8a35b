//! What is said when something did not work: what was wrong, and what to do about it.

use std::fmt;

use crate::keyring::KeyringError;
use crate::{sdk, serve};

/// A failure in the words that the user reads.
///
/// The message is in lower case and without a full stop: what was tried, what was wrong, what was expected. The hint is what
/// to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// Failures by who has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line makes no sense: nothing has been tried.
    Arguments,
    /// It was tried and did not work.
    Operation,
}

impl Failure {
    /// A command line that makes no sense.
    pub(crate) fn arguments(message: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Arguments,
            message: message.to_string(),
            hint: None,
        }
    }

    /// Something that was tried and did not work.
    pub(crate) fn operation(message: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Operation,
            message: message.to_string(),
            hint: None,
        }
    }

    /// An error with all its causes, in one line.
    pub(crate) fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their cause in their own text.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self::operation(message)
    }

    /// The same, with what to do about it.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Who has to do something.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<KeyringError> for Failure {
    fn from(error: KeyringError) -> Self {
        let failure = Self::from_error(&error);
        if is_of_path(&error) {
            return failure.hint(
                "keys and settings are in ~/.20ft, or in the directory that TF_HOME names: it has to be one that can be read and written",
            );
        }
        failure
    }
}

/// What to do where a server's state cannot be kept.
const STATE: &str = "TF_STATE names the directory for what a location and its containers need: it has to be one that can be written";

/// Whether the system has refused a path that the user has chosen, or could have chosen.
fn is_of_path(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind;

    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(said) = this.downcast_ref::<std::io::Error>()
            && said.raw_os_error().is_some()
        {
            return matches!(
                said.kind(),
                ErrorKind::AlreadyExists
                    | ErrorKind::IsADirectory
                    | ErrorKind::NotADirectory
                    | ErrorKind::NotFound
                    | ErrorKind::PermissionDenied
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::StorageFull
            );
        }
        error = this.source();
    }
    false
}

impl From<serve::Error> for Failure {
    fn from(error: serve::Error) -> Self {
        use serve::Error;

        let failure = Self::from_error(&error);
        match error {
            Error::Privilege(_) | Error::NoEngine => {
                failure.hint("run it as root, or leave running containers to other machines with `tf location serve --no-node`")
            }
            Error::NoLocation(_) => failure.hint(
                "`tf location serve` makes one; TF_STATE names another directory, and root has one of its own",
            ),
            Error::NotJoined(_) => {
                failure.hint("ask for an invitation (`tf location invite --node NAME` there) and give it with --join")
            }
            Error::Forgotten { .. } => {
                failure.hint("ask for another invitation (`tf location invite --node NAME` there) and give it with --join")
            }
            Error::ForUser => failure.hint("use it with `tf account join`"),
            Error::NotInvited { .. } => failure.hint("ask for another invitation"),
            Error::BadName(_) => Self::arguments(failure),
            Error::Keyring(error) => error.into(),
            Error::Home(_) | Error::Open(_) | Error::Engine(_) if is_of_path(&error) => failure.hint(STATE),
            Error::Listen { address, .. } if !address.starts_with('/') => failure.hint(
                "--listen has to name an address of this machine, and a port that nobody else listens on",
            ),
            _ => failure,
        }
    }
}

impl From<sdk::Error> for Failure {
    fn from(error: sdk::Error) -> Self {
        let failure = Self::from_error(&error);
        match error {
            sdk::Error::NotInvited { .. } => failure.hint("ask for another invitation"),
            sdk::Error::ForNode => failure.hint("use it with `tf node serve --join`"),
            sdk::Error::Account(error) => error.into(),
            sdk::Error::Embedded(_) if is_of_path(&error) => failure.hint(STATE),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the key file")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_follow_in_the_same_line() {
        let error = Outer(io::Error::other("no such file"));
        assert_eq!(
            Failure::from_error(&error).to_string(),
            "cannot read the key file: no such file"
        );
    }

    #[test]
    fn the_hint_has_a_line_of_its_own() {
        let failure = Failure::arguments("port 80 is in use").hint("try --offset 8000");
        assert_eq!(
            failure.to_string(),
            "port 80 is in use\nhint: try --offset 8000"
        );
    }
}
