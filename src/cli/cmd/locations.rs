//! `tf locations`: where the user has an account.

use serde::Serialize;

use super::{json, print_result};
use crate::cli::Context;
use crate::cli::args::{Locations, LocationsVerb};
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::table::table;
use crate::config::Config;
use crate::keyring::Keyring;

/// A location in the list.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    address: String,
    default: bool,
}

pub(super) fn run(context: &Context, options: Locations) -> Result<Ending, Failure> {
    let config = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    let keyring = Keyring::new(&config.home);
    match options.verb {
        None => list(context, &keyring, options.json),
        Some(LocationsVerb::Ls { json }) => list(context, &keyring, json),
        Some(LocationsVerb::Select { name }) => {
            let name = keyring.select(&name)?;
            context
                .printer
                .note(format_args!("{name} is the default location from now on"));
            Ok(Ending::Done)
        }
    }
}

fn list(context: &Context, keyring: &Keyring, as_json: bool) -> Result<Ending, Failure> {
    let default = keyring.default_name()?;
    let mut entries = Vec::new();
    for name in keyring.names()? {
        let account = keyring.account(&name)?;
        entries.push(Entry {
            default: default.as_ref() == Some(&name),
            address: account.address,
            name,
        });
    }
    if as_json {
        return print_result(&context.printer, &json(&entries));
    }
    if entries.is_empty() {
        context
            .printer
            .note("no location is configured: containers run on this machine");
    }
    let rows = entries.into_iter().map(|entry| {
        let default = if entry.default { "yes" } else { "no" };
        [entry.name, entry.address, default.to_owned()]
    });
    let text = table(["LOCATION", "ADDRESS", "DEFAULT"], rows.collect());
    print_result(&context.printer, &text)
}
