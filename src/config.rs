//! Where this program keeps things: the user's keys and settings, a server's state, what can be made again.

use std::path::PathBuf;

use crate::size;

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
    /// How many bytes of layers a location in this process keeps: `TF_MAX_CACHE`, else as many as there is room for.
    pub max_cache: Option<u64>,
    /// Where that location is, `host` or `host:port`, if not where the user's files say.
    pub address: Option<String>,
}

/// Why the settings are not known.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing says where the user's files are.
    #[error("the home directory is unknown: set HOME, or {0} to a directory")]
    NoHome(&'static str),
    /// A variable holds something else than a size.
    #[error("{name}={value} is not a size: expected a number and b, k, m, g or t, as in 20g")]
    NoSize {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

impl Config {
    /// The paths that the environment asks for. Creates nothing.
    ///
    /// # Errors
    ///
    /// When a path is needed that neither its variable nor the user's home directory gives, or a variable makes no sense.
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
            max_cache: size("TF_MAX_CACHE")?,
            address: None,
        })
    }
}

/// The size that a variable holds, if it is set.
fn size(name: &'static str) -> Result<Option<u64>, ConfigError> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => match size::parse(&value) {
            Some(size) => Ok(Some(size)),
            None => Err(ConfigError::NoSize { name, value }),
        },
        _ => Ok(None),
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
