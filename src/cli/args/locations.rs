//! What can be said to `tf locations`.

use clap::{Args, Subcommand, ValueHint};

/// List the locations that you have an account at, or choose the default one
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs"
)]
pub(crate) struct Locations {
    /// Print JSON in place of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// What to do; list them if not given.
    #[command(subcommand)]
    pub(crate) verb: Option<LocationsVerb>,
}

/// What can be done with the user's locations.
#[derive(Debug, Subcommand)]
pub(crate) enum LocationsVerb {
    /// List the locations that you have an account at; `ls` may be left out
    Ls {
        /// Print JSON in place of a table
        #[arg(long)]
        json: bool,
    },

    /// Make a location the default one
    Select {
        /// Name of the location, or the start of it
        #[arg(value_name = "NAME", value_hint = ValueHint::Other)]
        name: String,
    },
}
