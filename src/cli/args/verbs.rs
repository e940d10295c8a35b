//! What all commands with verbs have in common.

use clap::{Args, Subcommand};

/// The verbs of a command that does nothing without one.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Verbs<V: Subcommand> {
    /// The one that was named.
    #[command(subcommand)]
    pub(crate) named: V,
}
