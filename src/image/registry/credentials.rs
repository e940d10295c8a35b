//! Logins for registries, from where `docker login` leaves them: `config.json`, or the helper programs that it names.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

use crate::image::reference::DOCKER_HUB;

/// How long a helper may take: it may ask its user for a password.
const HELPER_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest message of a helper that is shown, in characters.
const MAX_MESSAGE: usize = 200;

/// What helpers say when they have no login.
const NOT_FOUND: &str = "credentials not found";

/// How to present oneself to a registry.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) auth: RegistryAuth,
    /// Why a login that there seems to be was not used.
    pub(super) note: Option<String>,
}

impl Login {
    fn anonymous(note: Option<String>) -> Self {
        Self {
            auth: RegistryAuth::Anonymous,
            note,
        }
    }
}

/// The login for `registry`. Without one, or with one that cannot be had, access is anonymous: that is enough for most
/// images, and if it is not, the note says what was wrong.
pub(super) async fn find(registry: &str, config_dir: Option<&Path>) -> Login {
    let Some(config) = config_dir.map(|dir| dir.join("config.json")) else {
        return Login::anonymous(None);
    };
    let registry = registry.to_owned();
    let ask = tokio::task::spawn_blocking(move || ask(&registry, &config));
    match tokio::time::timeout(HELPER_TIMEOUT, ask).await {
        Ok(Ok(login)) => login,
        Ok(Err(error)) => Login::anonymous(Some(format!("reading the login failed: {error}"))),
        Err(_) => Login::anonymous(Some("the credential helper does not answer".to_owned())),
    }
}

/// Asks for every name that the registry may be known by; the first that yields a login counts.
fn ask(registry: &str, config: &PathBuf) -> Login {
    let mut note = None;
    for name in names(registry) {
        let file = match File::open(config) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(error) => {
                note = Some(format!("{} cannot be read: {error}", config.display()));
                break;
            }
        };
        match docker_credential::get_credential_from_reader(std::io::BufReader::new(file), &name) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Login {
                    auth: RegistryAuth::Basic(user, password),
                    note: None,
                };
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                note = Some(
                    "the login there is a token for other programs; log in with user name and password".to_owned(),
                );
            }
            Err(error) => note = note.or(explain(&error, config)),
        }
    }
    Login::anonymous(note)
}

/// Names that a registry's login may be kept under.
fn names(registry: &str) -> Vec<String> {
    if registry == DOCKER_HUB {
        return [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
        ]
        .map(str::to_owned)
        .to_vec();
    }
    vec![registry.to_owned(), format!("https://{registry}")]
}

/// What an error means; nothing if it means that there is no login.
fn explain(error: &CredentialRetrievalError, config: &Path) -> Option<String> {
    match error {
        CredentialRetrievalError::NoCredentialConfigured
        | CredentialRetrievalError::ConfigNotFound => None,
        // On failure, a helper says why on stdout; it prints a secret only when it has one to give.
        CredentialRetrievalError::HelperFailure { stdout, stderr, .. }
            if stdout.contains(NOT_FOUND) || stderr.contains(NOT_FOUND) =>
        {
            None
        }
        CredentialRetrievalError::HelperFailure {
            helper,
            stdout,
            stderr,
        } => {
            let message = stdout
                .lines()
                .chain(stderr.lines())
                .find(|line| !line.trim().is_empty());
            let message: String = message
                .unwrap_or("no message")
                .chars()
                .take(MAX_MESSAGE)
                .collect();
            Some(format!("{helper} failed: {message}"))
        }
        CredentialRetrievalError::HelperCommunicationError => Some(format!(
            "the credential helper that {} names cannot be run",
            config.display()
        )),
        CredentialRetrievalError::MalformedHelperResponse => {
            Some("the credential helper's answer makes no sense".to_owned())
        }
        CredentialRetrievalError::ConfigReadError => {
            Some(format!("{} is malformed", config.display()))
        }
        CredentialRetrievalError::CredentialDecodingError
        | CredentialRetrievalError::CredentialMismatchError => {
            Some(format!("the login in {} is damaged", config.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    fn with_config(config: &str, registry: &str) -> Login {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("config.json");
        std::fs::write(&path, config).expect("write");
        ask(registry, &path)
    }

    fn auths(name: &str) -> String {
        let secret = base64::engine::general_purpose::STANDARD.encode("user:pass:word");
        format!(r#"{{"auths":{{"{name}":{{"auth":"{secret}"}}}}}}"#)
    }

    #[test]
    fn logins_of_the_file_are_found_by_every_name() {
        let expected = RegistryAuth::Basic("user".to_owned(), "pass:word".to_owned());
        for (name, registry) in [
            ("localhost:5000", "localhost:5000"),
            ("https://localhost:5000", "localhost:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
        ] {
            assert_eq!(with_config(&auths(name), registry).auth, expected, "{name}");
        }
        let other = with_config(&auths("localhost:5000"), "localhost:5001");
        assert_eq!(other.auth, RegistryAuth::Anonymous);
        assert_eq!(other.note, None);
    }

    #[test]
    fn what_is_wrong_with_a_login_is_noted() {
        for (config, part) in [
            ("{", "malformed"),
            (r#"{"credsStore":"does-not-exist"}"#, "cannot be run"),
            (r#"{"auths":{"r.example":{"auth":"!"}}}"#, "damaged"),
            (
                r#"{"auths":{"r.example":{"identitytoken":"t"}}}"#,
                "password",
            ),
        ] {
            let login = with_config(config, "r.example");
            assert_eq!(login.auth, RegistryAuth::Anonymous);
            assert!(
                login.note.as_ref().is_some_and(|note| note.contains(part)),
                "{config}: {login:?}"
            );
        }
    }

    #[test]
    fn no_file_is_no_login_and_nothing_odd() {
        let login = ask("r.example", &PathBuf::from("/no/such/config.json"));
        assert_eq!((login.auth, login.note), (RegistryAuth::Anonymous, None));
    }
}
