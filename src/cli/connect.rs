//! The one place where a command line finds its way to a location.

use crate::cli::args::Global;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::sdk::Location;

/// Connects to the location that the options, the environment or the user's settings name; without any, to one in this
/// process.
///
/// # Errors
///
/// When the location is unknown or cannot be reached.
pub(crate) async fn connect(options: &Global) -> Result<Location, Failure> {
    let config = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    if let Some(asked) = asked_for(options, &config, |name| std::env::var(name).ok()) {
        return Err(Failure::operation(format!(
            "cannot use {asked}: this version of tf knows no location but the one in its own process"
        ))
        .hint("leave it out, and the container runs on this machine"));
    }
    let dialler = crate::embedded::dialler(&config).await?;
    Ok(Location::connect(dialler).await?)
}

/// The location that is asked for, and by what.
fn asked_for(
    options: &Global,
    config: &Config,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    if let Some(name) = &options.location {
        return Some(format!("`--location {name}`"));
    }
    if let Some(address) = &options.location_ip {
        return Some(format!("`--location-ip {address}`"));
    }
    if let Some(name) = variable("TF_LOCATION").filter(|name| !name.is_empty()) {
        return Some(format!("the location `{name}` of TF_LOCATION"));
    }
    let default = config.home.join("default_location");
    let name = std::fs::read_to_string(&default).ok()?;
    Some(format!(
        "the location `{}` of `{}`",
        name.trim(),
        default.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_command_line_goes_before_the_environment_and_that_before_the_settings() {
        let home = tempfile::tempdir().expect("a directory");
        let config = Config {
            home: home.path().to_owned(),
            state: home.path().to_owned(),
            cache: home.path().to_owned(),
        };
        let mut options = Global::default();
        let asked = |options: &Global, variable: &str| {
            asked_for(options, &config, |_| Some(variable.to_owned()))
        };
        assert_eq!(asked(&options, ""), None);
        fs::write(home.path().join("default_location"), "settings\n").expect("writable");
        assert!(asked(&options, "").is_some_and(|asked| asked.contains("`settings`")));
        assert!(asked(&options, "variable").is_some_and(|asked| asked.contains("`variable`")));
        options.location_ip = Some("address".into());
        assert!(asked(&options, "variable").is_some_and(|asked| asked.contains("address")));
        options.location = Some("option".into());
        assert!(asked(&options, "variable").is_some_and(|asked| asked.contains("option")));
    }
}
