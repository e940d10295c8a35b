//! Why a registry does not give what it is asked for.

use std::io;

use oci_client::errors::{OciDistributionError, OciErrorCode};

use crate::image::docker::{causes, io_kinds, root_cause};
use crate::image::platform::WrongPlatform;

/// Why a registry does not give what it is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It refuses access. Many registries say so too of what does not exist.
    #[error(
        "{registry} does not give access to {image}: check the name, and if it is private, log in with \
         `docker login {registry}`{}", .note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default()
    )]
    Unauthorized {
        /// Host and port.
        registry: String,
        /// Registry and repository.
        image: String,
        /// What was odd about the login that was used, or not.
        note: Option<String>,
    },
    /// It has no such image.
    #[error("{registry} has no such image: check name and tag of {image}")]
    NotFound {
        /// Host and port.
        registry: String,
        /// Registry and repository.
        image: String,
    },
    /// It wants to be asked less often.
    #[error(
        "{registry} limits how much is pulled: wait a little, or log in with `docker login {registry}`"
    )]
    TooManyRequests {
        /// Host and port.
        registry: String,
    },
    /// Nothing answers.
    #[error(
        "{registry} cannot be reached ({reason}): check the name, the network, and HTTPS_PROXY if there is a proxy"
    )]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What the system said.
        reason: String,
    },
    /// It speaks TLS, but cannot be trusted.
    #[error(
        "{registry} cannot be trusted ({reason}): put the certificate of its authority into \
         /etc/docker/certs.d/{registry}/ca.crt"
    )]
    Untrusted {
        /// Host and port.
        registry: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// It does not speak TLS.
    #[error(
        "{registry} does not speak TLS ({reason}), and plain HTTP is spoken on this machine only: set up TLS for it"
    )]
    NoTls {
        /// Host and port.
        registry: String,
        /// What TLS said.
        reason: String,
    },
    /// It sent what makes no sense.
    #[error("{registry} sent what makes no sense: {part}: {reason}")]
    Malformed {
        /// Host and port.
        registry: String,
        /// Which part of the image.
        part: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection broke in the middle.
    #[error("the connection to {registry} broke off ({reason}): try again")]
    Interrupted {
        /// Host and port.
        registry: String,
        /// What the system said.
        reason: String,
    },
    /// It failed.
    #[error("{registry} failed: {reason}")]
    Failed {
        /// Host and port.
        registry: String,
        /// What it said.
        reason: String,
    },
    /// The image is made for another kind of machine.
    #[error(transparent)]
    Platform(#[from] WrongPlatform),
    /// This machine cannot make connections of this kind.
    #[error(
        "cannot set up secure connections: {reason}; install the system's certificates (package `ca-certificates`)"
    )]
    Client {
        /// What is missing.
        reason: String,
    },
}

impl RegistryError {
    /// What an error of the client library means to its caller.
    pub(super) fn new(
        error: OciDistributionError,
        registry: &str,
        image: &str,
        note: Option<&str>,
    ) -> Self {
        let registry = registry.to_owned();
        let image = image.to_owned();
        let note = note.map(str::to_owned);
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError {
                code: 401 | 403, ..
            } => Self::Unauthorized {
                registry,
                image,
                note,
            },
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => {
                Self::NotFound { registry, image }
            }
            OciDistributionError::ServerError { code: 429, .. } => {
                Self::TooManyRequests { registry }
            }
            OciDistributionError::RegistryError { envelope, .. } => {
                match envelope.errors.first().map(|error| &error.code) {
                    Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Self::Unauthorized {
                        registry,
                        image,
                        note,
                    },
                    Some(
                        OciErrorCode::ManifestUnknown
                        | OciErrorCode::NameUnknown
                        | OciErrorCode::NameInvalid
                        | OciErrorCode::NotFound
                        | OciErrorCode::BlobUnknown,
                    ) => Self::NotFound { registry, image },
                    Some(OciErrorCode::Toomanyrequests) => Self::TooManyRequests { registry },
                    _ => Self::Failed {
                        registry,
                        reason: envelope.to_string(),
                    },
                }
            }
            OciDistributionError::RequestError(error) => {
                let timed_out = error.is_timeout();
                let connecting = error.is_connect();
                Self::of_connection(&error, registry, connecting || timed_out)
            }
            error @ (OciDistributionError::DigestError(_)
            | OciDistributionError::VersionedParsingError(_)
            | OciDistributionError::ManifestParsingError(_)) => Self::Malformed {
                registry,
                part: image,
                reason: error.to_string(),
            },
            error => Self::Failed {
                registry,
                reason: root_cause(&error),
            },
        }
    }

    fn of_connection(
        error: &(dyn std::error::Error + 'static),
        registry: String,
        connecting: bool,
    ) -> Self {
        let reason = root_cause(error);
        let mut errors = causes(error);
        match errors.find_map(|error| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                return Self::Untrusted { registry, reason };
            }
            Some(_) => return Self::NoTls { registry, reason },
            None => {}
        }
        let broken = io_kinds(error).any(|kind| {
            matches!(
                kind,
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            )
        });
        if connecting && broken {
            // A server that closes the connection when it sees the start of TLS.
            return Self::NoTls { registry, reason };
        }
        if connecting {
            return Self::Unreachable { registry, reason };
        }
        Self::Failed { registry, reason }
    }
}
