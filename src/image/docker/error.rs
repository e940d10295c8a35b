//! Why a Docker daemon does not give what it is asked for.

use std::error::Error;
use std::io;

use crate::image::platform::WrongPlatform;

/// Why a Docker daemon does not give what it is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerError {
    /// Nothing answers.
    #[error(
        "no Docker daemon answers at {address} ({reason}): start it (`systemctl start docker`), or say where it is with \
         DOCKER_HOST or `docker context use`"
    )]
    NotRunning {
        /// Where it was looked for.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// There is one, but this user may not use it.
    #[error(
        "no permission to use the Docker daemon at {address}: run as root, or join the group that may \
         (`sudo usermod -aG docker $USER`, then log in again)"
    )]
    Forbidden {
        /// Where it is.
        address: String,
    },
    /// It has no image at all.
    #[error(
        "the Docker daemon at {address} has no images: build one with `docker build`, or pull one with `docker pull`"
    )]
    NoImages {
        /// Where it is.
        address: String,
    },
    /// It has no image of that name.
    #[error("the Docker daemon at {address} has no image `{name}`")]
    NotFound {
        /// Where it is.
        address: String,
        /// What was asked for.
        name: String,
    },
    /// What says where the daemon is cannot be used.
    #[error("{setting} does not say where a Docker daemon is: {reason}")]
    Settings {
        /// The environment variable, file or context.
        setting: String,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
    /// The daemon cannot be spoken to over TLS.
    #[error(
        "no secure connection to the Docker daemon at {address}: {reason}; check DOCKER_CERT_PATH"
    )]
    Tls {
        /// Where it is.
        address: String,
        /// What TLS said.
        reason: String,
    },
    /// It did not answer in time.
    #[error(
        "the Docker daemon at {address} does not answer: look at it with `docker info`, or restart it"
    )]
    TimedOut {
        /// Where it is.
        address: String,
    },
    /// It answered what makes no sense, or that it failed.
    #[error("the Docker daemon at {address} failed: {reason}")]
    Answer {
        /// Where it is.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The image is made for another kind of machine.
    #[error("`{name}` of the Docker daemon cannot run there")]
    Platform {
        /// What was asked for.
        name: String,
        /// The platforms.
        #[source]
        source: WrongPlatform,
    },
}

impl DockerError {
    /// What an error of the client library means to its caller.
    pub(super) fn new(error: bollard::errors::Error, address: &str, asked: &str) -> Self {
        use bollard::errors::Error as Bollard;
        let address = address.to_owned();
        match error {
            Bollard::DockerResponseServerError {
                status_code: 404, ..
            } => Self::NotFound {
                address,
                name: asked.to_owned(),
            },
            Bollard::DockerResponseServerError {
                status_code: 403, ..
            } => Self::Forbidden { address },
            Bollard::DockerResponseServerError { message, .. } => Self::Answer {
                address,
                reason: message,
            },
            Bollard::RequestTimeoutError => Self::TimedOut { address },
            Bollard::SocketNotFoundError(path) => Self::NotRunning {
                address,
                reason: format!("{path} does not exist"),
            },
            error => Self::of_connection(&error, address),
        }
    }

    fn of_connection(error: &bollard::errors::Error, address: String) -> Self {
        let reason = root_cause(error);
        let mut errors = causes(error);
        if let Some(tls) = errors.find_map(|error| error.downcast_ref::<rustls::Error>()) {
            return Self::Tls {
                address,
                reason: tls.to_string(),
            };
        }
        for kind in io_kinds(error) {
            match kind {
                io::ErrorKind::PermissionDenied => return Self::Forbidden { address },
                io::ErrorKind::TimedOut => return Self::TimedOut { address },
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable => return Self::NotRunning { address, reason },
                _ => {}
            }
        }
        Self::Answer { address, reason }
    }
}

/// The error and its causes, from the outermost to the innermost.
///
/// An `io::Error` that wraps another error hides it from `source`, so it is looked into as well.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let wrapped = error.downcast_ref().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// The kinds of the system's errors among the causes.
pub(crate) fn io_kinds<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = io::ErrorKind> + 'a {
    causes(error)
        .filter_map(|error| error.downcast_ref())
        .map(io::Error::kind)
}

/// The text of the innermost cause.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}
