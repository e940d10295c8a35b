//! Where this program keeps things: the user's keys and settings, a server's state, what can be made again.

use std::path::PathBuf;

/// Paths that everything else is found under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Keys and settings of the user: `TF_HOME`, else `~/.20ft`.
    pub home: PathBuf,
    /// State of servers, the embedded ones included: `TF_STATE`, else `/var/lib/20ft` for root and `20ft` in the user's
    /// data directory for others.
    pub state: PathBuf,
    /// What can be made again at any time: `TF_CACHE`, else `20ft` in the user's cache directory.
    pub cache: PathBuf,
    /// The location to use: `TF_LOCATION`, else the user's default one.
    pub location: Option<String>,
    /// Where that location is, `host` or `host:port`, if not where the user's files say.
    pub address: Option<String>,
}

/// Why the paths are not known.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing says where the user's files are.
    #[error("the home directory is unknown: set HOME, or {0} to a directory")]
    NoHome(&'static str),
}

impl Config {
    /// The paths that the environment asks for. Creates nothing.
    ///
    /// # Errors
    ///
    /// When a path is needed that neither its variable nor the user's home directory gives.
    pub fn from_env() -> Result<Self, ConfigError> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = variable("TF_HOME")
            .or_else(|| dirs::home_dir().map(|home| home.join(".20ft")))
            .ok_or(ConfigError::NoHome("TF_HOME"))?;
        let state = variable("TF_STATE")
            .or_else(|| is_root().then(|| PathBuf::from("/var/lib/20ft")))
            .or_else(|| dirs::data_dir().map(|data| data.join("20ft")))
            .ok_or(ConfigError::NoHome("TF_STATE"))?;
        let cache = variable("TF_CACHE")
            .or_else(|| dirs::cache_dir().map(|cache| cache.join("20ft")))
            .ok_or(ConfigError::NoHome("TF_CACHE"))?;
        let location = std::env::var("TF_LOCATION")
            .ok()
            .filter(|name| !name.is_empty());
        Ok(Self {
            home,
            state,
            cache,
            location,
            address: None,
        })
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}
