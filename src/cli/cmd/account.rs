//! `tf account`: the user's accounts at locations.

use super::print_result;
use crate::cli::Context;
use crate::cli::args::AccountVerb;
use crate::cli::connect;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::invited;
use crate::config::Config;
use crate::keyring::{Account, Keyring, KeyringError};
use crate::sdk;

pub(super) async fn run(context: &Context, verb: AccountVerb) -> Result<Ending, Failure> {
    let config = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    let keyring = Keyring::new(&config.home);
    match verb {
        AccountVerb::Join { invitation } => join(context, &keyring, invitation.as_deref()).await,
        AccountVerb::Backup { name } => {
            let name = name
                .or_else(|| context.global.location.clone())
                .or(config.location);
            backup(context, &keyring, name.as_deref())
        }
    }
}

async fn join(
    context: &Context,
    keyring: &Keyring,
    given: Option<&str>,
) -> Result<Ending, Failure> {
    let mut invitation = tokio::select! {
        invitation = invited::read(&context.printer, given) => invitation?,
        signal = context.shutdown.requested() => return Ok(Ending::Interrupted(signal)),
    };
    // Names are the choice of those who serve: two of them may have chosen the same.
    if let Some(name) = &context.global.location {
        invitation.name.clone_from(name);
    }
    let address = connect::address(&context.global)?;
    let account = tokio::select! {
        account = sdk::join(keyring, &invitation, address) => account.map_err(not_joined)?,
        signal = context.shutdown.requested() => return Ok(Ending::Interrupted(signal)),
    };
    let Account { name, address, .. } = account;
    let note = if keyring.default_name()?.as_ref() == Some(&name) {
        ", which is the default location from now on".to_owned()
    } else {
        format!(
            ": use it with --location {name}, or make it the default with `tf locations select {name}`"
        )
    };
    context
        .printer
        .note(format_args!("joined {name} at {address}{note}"));
    Ok(Ending::Done)
}

fn not_joined(error: sdk::Error) -> Failure {
    let taken = matches!(error, sdk::Error::Account(KeyringError::Exists(..)));
    let failure = Failure::from(error);
    if taken {
        failure
            .hint("if that is another location, join this one under another name: --location NAME")
    } else {
        failure
    }
}

fn backup(context: &Context, keyring: &Keyring, name: Option<&str>) -> Result<Ending, Failure> {
    let name = match name {
        Some(name) => keyring.complete(name)?,
        None => keyring.default_name()?.ok_or_else(|| {
            Failure::operation("there is no default location")
                .hint("name one: `tf locations` lists those there are")
        })?,
    };
    print_result(&context.printer, &script(&keyring.account(&name)?))
}

/// A script that writes the files of an account.
fn script(account: &Account) -> String {
    let Account {
        name,
        address,
        secret,
        location,
    } = account;
    let name = quoted(name);
    format!(
        r#"#!/bin/sh
# Restores an account of tf. The secret key is in here: keep this file as safe as a password.
set -eu
umask 077
name={name}
directory=${{TF_HOME:-$HOME/.20ft}}
mkdir -p "$directory"
cd "$directory"
if [ -e "$name" ]; then
    echo "there is an account at $name already: remove its files from $directory first" >&2
    exit 1
fi
put() {{
    printf '%s\n' "$2" > "$1"
    chmod 600 "$1"
}}
put "$name.pub" {public}
put "$name.spub" {location}
put "$name.addr" {address}
put "$name" {secret}
[ -e default_location ] || put default_location "$name"
"#,
        public = quoted(&secret.public().to_string()),
        location = quoted(&location.to_string()),
        address = quoted(address),
        secret = quoted(&secret.to_base64()),
    )
}

/// A word that a shell leaves as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_quoted_text_as_it_is() {
        assert_eq!(quoted("a b$(c)"), "'a b$(c)'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
