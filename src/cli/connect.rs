//! The one place where a command line finds its way to a location.

use std::time::Duration;

use crate::cli::Context;
use crate::cli::address;
use crate::cli::args::Global;
use crate::cli::duration;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::embedded::{Purpose, dialler_for};
use crate::keyring::Keyring;
use crate::sdk::Location;

/// Connects to the location that the options, the environment or the user's settings name; without any, to one in this
/// process.
///
/// # Errors
///
/// When the location is unknown or cannot be reached, or an option makes no sense.
pub(crate) async fn connect(context: &Context, purpose: Purpose) -> Result<Location, Failure> {
    let options = &context.global;
    let linger = linger(options)?;
    let environment = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    let config = with_options(environment, options)?;
    let mut dialler = dialler_for(&config, purpose).await?;
    // The connection to one in this process cannot be lost.
    let remote = dialler.host.is_none();
    if remote {
        dialler.linger = linger;
    }
    let location = Location::connect(dialler).await?;
    let (granted, asked) = (location.linger(), linger.unwrap_or_default());
    if remote && granted < asked {
        context.printer.warning(format_args!(
            "the location keeps a session for {} s without a connection, not for the {} s that --linger asks for",
            granted.as_secs(),
            asked.as_secs()
        ));
    }
    Ok(location)
}

/// How long the session is to be kept without a connection, if the command line says so.
fn linger(options: &Global) -> Result<Option<Duration>, Failure> {
    let text = options.linger.as_deref();
    text.map(|text| duration::parse_or_zero("--linger", text))
        .transpose()
}

/// Where the location is, if the command line says so.
///
/// # Errors
///
/// When it can be nowhere.
pub(crate) fn address(options: &Global) -> Result<Option<String>, Failure> {
    let text = options.location_ip.as_deref();
    text.map(|text| address::parse("--location-ip", text))
        .transpose()
}

/// Whether there is a location to connect to, other than one in this process.
///
/// # Errors
///
/// When the user's settings cannot be read.
pub(crate) fn is_remote(options: &Global) -> Result<bool, Failure> {
    let environment = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    let config = with_options(environment, options)?;
    Ok(config.location.is_some() || Keyring::new(&config.home).default_name()?.is_some())
}

/// The settings, with those of the command line in place of others.
fn with_options(mut config: Config, options: &Global) -> Result<Config, Failure> {
    if let Some(name) = &options.location {
        config.location = Some(name.clone());
    }
    if let Some(address) = address(options)? {
        let keyring = Keyring::new(&config.home);
        let default = keyring.default_name();
        if config.location.is_none() && matches!(default, Ok(None)) {
            return Err(Failure::arguments(format!(
                "`--location-ip {address}` says where a location is, but not which one: there is no default one"
            ))
            .hint("name it with --location NAME"));
        }
        config.address = Some(address);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(home: &tempfile::TempDir) -> Config {
        Config {
            home: home.path().to_owned(),
            state: home.path().to_owned(),
            cache: home.path().to_owned(),
            location: None,
            max_cache: None,
            address: None,
        }
    }

    #[test]
    fn options_go_before_the_environment() {
        let home = tempfile::tempdir().expect("a directory");
        let environment = || Config {
            location: Some("variable".into()),
            ..config(&home)
        };
        let mut options = Global::default();
        let location =
            |options: &Global| with_options(environment(), options).map(|config| config.location);
        assert_eq!(location(&options), Ok(Some("variable".into())));
        options.location = Some("option".into());
        assert_eq!(location(&options), Ok(Some("option".into())));
    }

    #[test]
    fn an_address_alone_is_no_location() {
        let home = tempfile::tempdir().expect("a directory");
        let mut options = Global {
            location_ip: Some("192.0.2.1".into()),
            ..Global::default()
        };
        let failure = with_options(config(&home), &options).expect_err("no location");
        assert!(failure.to_string().contains("--location NAME"));
        options.location = Some("home".into());
        let config = with_options(config(&home), &options).expect("a location");
        assert_eq!(config.address.as_deref(), Some("192.0.2.1:5555"));
    }
}
