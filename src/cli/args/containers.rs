//! What can be said to the verbs that look at what runs, and where.

use clap::{Args, ValueHint};

/// List your containers at the location, of all sessions
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Print JSON in place of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// End containers of yours, whichever session runs them
///
/// The program gets a SIGKILL. Whoever waits for it, such as a tf on another machine, sees it end.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Containers: ids, or the start of ids, as `tf ps` shows them
    #[arg(value_name = "ID", required = true, value_hint = ValueHint::Other)]
    pub(crate) containers: Vec<String>,
}

/// List the nodes of the location, the one with most room first
///
/// LOAD is the number of processors' worth of work over the last minute, MEMORY and DISK what is free, START the mean time
/// that the last containers took to start.
#[derive(Debug, Args)]
pub(crate) struct Resources {
    /// Print JSON in place of a table
    #[arg(long)]
    pub(crate) json: bool,
}
