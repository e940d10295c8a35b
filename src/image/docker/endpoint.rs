//! Where the Docker daemon is: what the `docker` command would use, by environment, contexts and default.

use std::env;
use std::path::{Path, PathBuf};

use bollard::{API_DEFAULT_VERSION, Docker};
use serde::Deserialize;

use super::DockerError;
use crate::ids::Digest;
use crate::image::tls;

/// Where the daemon is when nothing says otherwise.
#[cfg(unix)]
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
#[cfg(windows)]
const DEFAULT_HOST: &str = "npipe:////./pipe/docker_engine";

/// Name of the context that means: no context.
const DEFAULT_CONTEXT: &str = "default";

/// Seconds to wait for an answer; replaced for each use.
const TIMEOUT: u64 = 30;

/// What says where the daemon is, as it was found in the environment.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// `DOCKER_HOST`: an address; goes before any context.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`: name of a context; goes before the one that `config.json` names.
    pub context: Option<String>,
    /// `DOCKER_TLS_VERIFY`, not empty: speak TLS to `host`.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`: directory of `ca.pem`, `cert.pem` and `key.pem`.
    pub cert_path: Option<PathBuf>,
    /// `DOCKER_CONFIG`, or `.docker` in the home directory.
    pub config_dir: Option<PathBuf>,
}

impl Settings {
    /// The settings of this process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        let text = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let config_dir = text("DOCKER_CONFIG").map(PathBuf::from);
        Self {
            host: text("DOCKER_HOST"),
            context: text("DOCKER_CONTEXT"),
            tls: text("DOCKER_TLS_VERIFY").is_some(),
            cert_path: text("DOCKER_CERT_PATH").map(PathBuf::from),
            config_dir: config_dir.or_else(|| Some(dirs::home_dir()?.join(".docker"))),
        }
    }

    /// The address that all of this leads to.
    pub(super) fn endpoint(&self) -> Result<Endpoint, DockerError> {
        if let Some(host) = &self.host {
            let certificates = self.cert_path.as_ref().or(self.config_dir.as_ref());
            let certificates = match certificates {
                Some(directory) if self.tls || host.starts_with("https://") => {
                    Some(directory.clone())
                }
                _ => None,
            };
            return Endpoint::new("DOCKER_HOST", host, certificates);
        }
        match self.context_name()? {
            Some((name, setting)) if name != DEFAULT_CONTEXT => self.of_context(&name, setting),
            _ => Endpoint::new("the default", DEFAULT_HOST, None),
        }
    }

    /// The context in use, and what says so.
    fn context_name(&self) -> Result<Option<(String, &'static str)>, DockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            current_context: Option<String>,
        }
        if let Some(name) = &self.context {
            return Ok(Some((name.clone(), "DOCKER_CONTEXT")));
        }
        let Some(path) = self.config_dir.as_ref().map(|dir| dir.join("config.json")) else {
            return Ok(None);
        };
        let Ok(json) = std::fs::read(&path) else {
            // Most people have none, and one that cannot be read means as much to `docker`.
            return Ok(None);
        };
        let config: Config = serde_json::from_slice(&json)
            .map_err(|error| settings(&path.display().to_string(), &error.to_string()))?;
        let name = config.current_context.filter(|name| !name.is_empty());
        Ok(name.map(|name| (name, "`docker context use`")))
    }

    fn of_context(&self, name: &str, setting: &str) -> Result<Endpoint, DockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Meta {
            endpoints: Endpoints,
        }
        #[derive(Deserialize)]
        struct Endpoints {
            docker: Option<Target>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Target {
            #[serde(default)]
            host: String,
            #[serde(rename = "SkipTLSVerify", default)]
            skip_tls_verify: bool,
        }
        let chosen = format!("the Docker context `{name}` (by {setting})");
        let contexts = self.config_dir.as_ref().map(|dir| dir.join("contexts"));
        let contexts = contexts.ok_or_else(|| settings(&chosen, "there is no home directory"))?;
        // A context's directory is named by the digest of its name, so any name is harmless as a path.
        let directory = Digest::of(name.as_bytes()).hex();
        let path = contexts.join("meta").join(&directory).join("meta.json");
        let json = std::fs::read(&path)
            .map_err(|_| settings(&chosen, "there is no such context; see `docker context ls`"))?;
        let meta: Meta = serde_json::from_slice(&json)
            .map_err(|error| settings(&path.display().to_string(), &error.to_string()))?;
        let target = meta
            .endpoints
            .docker
            .filter(|target| !target.host.is_empty())
            .ok_or_else(|| settings(&chosen, "it has no Docker endpoint"))?;
        if target.skip_tls_verify {
            return Err(settings(
                &chosen,
                "it skips the verification of TLS, which is not supported",
            ));
        }
        let certificates = contexts.join("tls").join(&directory).join("docker");
        Endpoint::new(
            &chosen,
            &target.host,
            Some(certificates).filter(|dir| dir.is_dir()),
        )
    }
}

/// An address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: String,
    transport: Transport,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Transport {
    /// A Unix socket or a named pipe.
    Local,
    Tcp,
    /// With the directory of `ca.pem`, `cert.pem` and `key.pem`.
    Tls(PathBuf),
}

impl Endpoint {
    fn new(
        setting: &str,
        address: &str,
        certificates: Option<PathBuf>,
    ) -> Result<Self, DockerError> {
        let transport = match address.split_once("://") {
            Some(("unix", path)) if cfg!(unix) && path.starts_with('/') => Transport::Local,
            Some(("unix", _)) if cfg!(unix) => {
                return Err(settings(
                    setting,
                    &format!("`{address}` has no absolute path"),
                ));
            }
            Some(("npipe", _)) if cfg!(windows) => Transport::Local,
            Some(("tcp" | "http" | "https", host)) if host.trim_end_matches('/').is_empty() => {
                return Err(settings(setting, &format!("`{address}` has no host")));
            }
            Some(("tcp" | "http" | "https", _)) if certificates.is_some() => {
                Transport::Tls(certificates.unwrap_or_default())
            }
            Some(("https", _)) => {
                return Err(settings(
                    setting,
                    "`https` needs certificates: set DOCKER_CERT_PATH",
                ));
            }
            Some(("tcp" | "http", _)) => Transport::Tcp,
            Some(("ssh", host)) => {
                return Err(settings(
                    setting,
                    &format!(
                        "ssh is not supported here; forward the socket (`ssh -NL /tmp/docker.sock:/var/run/docker.sock \
                         {host}`) and set DOCKER_HOST=unix:///tmp/docker.sock"
                    ),
                ));
            }
            _ => {
                return Err(settings(
                    setting,
                    &format!(
                        "`{address}` is no address; expected `unix:///path` or `tcp://host:port`"
                    ),
                ));
            }
        };
        Ok(Self {
            address: address.to_owned(),
            transport,
        })
    }

    /// A client for it. Only the local socket is looked at, nothing is connected.
    pub(super) fn connect(&self) -> Result<Docker, DockerError> {
        let version = API_DEFAULT_VERSION;
        let address = self.address.trim_end_matches('/');
        let client = match &self.transport {
            Transport::Local => Docker::connect_with_local(&self.address, TIMEOUT, version),
            Transport::Tcp => Docker::connect_with_http(address, TIMEOUT, version),
            Transport::Tls(certificates) => {
                tls::install_provider();
                let file = |name: &str| certificates.join(name);
                let (key, cert, ca) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
                for path in [&key, &cert, &ca] {
                    self.check_readable(path)?;
                }
                Docker::connect_with_ssl(address, &key, &cert, &ca, TIMEOUT, version)
            }
        };
        client.map_err(|error| DockerError::new(error, &self.address, ""))
    }

    fn check_readable(&self, path: &Path) -> Result<(), DockerError> {
        match std::fs::File::open(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(DockerError::Tls {
                address: self.address.clone(),
                reason: format!("cannot read {}: {error}", path.display()),
            }),
        }
    }
}

fn settings(setting: &str, reason: &str) -> DockerError {
    DockerError::Settings {
        setting: setting.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn host(host: &str) -> Result<Endpoint, DockerError> {
        let settings = Settings {
            host: Some(host.to_owned()),
            ..Settings::default()
        };
        settings.endpoint()
    }

    fn with_context(name: &str, meta: &str) -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let hash = Digest::of(name.as_bytes()).hex();
        let meta_dir = dir.path().join("contexts/meta").join(hash);
        std::fs::create_dir_all(&meta_dir).expect("make directory");
        std::fs::write(meta_dir.join("meta.json"), meta).expect("write file");
        let settings = Settings {
            config_dir: Some(dir.path().to_owned()),
            ..Settings::default()
        };
        (dir, settings)
    }

    const META: &str = r#"{"Name":"work","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://build:2375","SkipTLSVerify":false}}}"#;

    #[test]
    fn the_default_is_the_local_socket() {
        let endpoint = Settings::default().endpoint().expect("default");
        assert_eq!(endpoint.address, DEFAULT_HOST);
    }

    #[test]
    fn addresses_are_read_and_bad_ones_explained() {
        assert_eq!(
            host("unix:///run/d.sock").expect("unix").transport,
            Transport::Local
        );
        assert_eq!(
            host("tcp://host:2375").expect("tcp").transport,
            Transport::Tcp
        );
        for (address, reason) in [
            ("unix://relative", "absolute"),
            ("tcp://", "no host"),
            ("ssh://user@host", "ssh -NL"),
            ("https://host:2376", "DOCKER_CERT_PATH"),
            ("/run/docker.sock", "expected `unix:///path`"),
            ("fd://", "expected"),
        ] {
            let error = host(address).expect_err(address).to_string();
            assert!(
                error.contains(reason) && error.contains("DOCKER_HOST"),
                "{error}"
            );
        }
    }

    #[test]
    fn tls_is_used_when_asked_for() {
        let settings = Settings {
            host: Some("tcp://host:2376".to_owned()),
            tls: true,
            cert_path: Some("/certs".into()),
            ..Settings::default()
        };
        let endpoint = settings.endpoint().expect("valid");
        assert_eq!(endpoint.transport, Transport::Tls("/certs".into()));
        let error = endpoint.connect().expect_err("no certificates there");
        assert!(error.to_string().contains("/certs/key.pem"), "{error}");
    }

    #[test]
    fn contexts_are_followed_by_environment_and_by_configuration() {
        let (dir, mut settings) = with_context("work", META);
        settings.context = Some("work".to_owned());
        assert_eq!(
            settings.endpoint().expect("by variable").address,
            "tcp://build:2375"
        );

        settings.context = None;
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"currentContext":"work"}"#,
        )
        .expect("write file");
        assert_eq!(
            settings.endpoint().expect("by file").address,
            "tcp://build:2375"
        );

        settings.context = Some("default".to_owned());
        assert_eq!(settings.endpoint().expect("default").address, DEFAULT_HOST);

        settings.host = Some("unix:///other.sock".to_owned());
        settings.context = Some("work".to_owned());
        assert_eq!(
            settings.endpoint().expect("host first").address,
            "unix:///other.sock"
        );
    }

    #[test]
    fn contexts_that_cannot_be_used_are_errors_that_name_them() {
        let (dir, mut settings) = with_context("work", META);
        settings.context = Some("../../etc".to_owned());
        let error = settings.endpoint().expect_err("unknown").to_string();
        assert!(
            error.contains("no such context") && error.contains("DOCKER_CONTEXT"),
            "{error}"
        );

        std::fs::write(dir.path().join("config.json"), "{").expect("write file");
        settings.context = None;
        let error = settings.endpoint().expect_err("malformed").to_string();
        assert!(error.contains("config.json"), "{error}");

        let skip = META.replace("false", "true");
        let (_dir, mut settings) = with_context("work", &skip);
        settings.context = Some("work".to_owned());
        let error = settings.endpoint().expect_err("unverified TLS").to_string();
        assert!(error.contains("not supported"), "{error}");
    }
}
