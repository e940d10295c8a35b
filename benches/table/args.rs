//! What can be said to the benchmark.

use clap::Parser;

/// Measure what tf costs, side by side with docker, runc, ssh and a plain copy
#[derive(Debug, Parser)]
#[command(name = "table")]
pub(crate) struct Args {
    /// Rows to measure; all, if none is named
    pub(crate) rows: Vec<String>,

    /// Few runs and small transfers: whether everything works, rather than what it costs
    #[arg(long)]
    pub(crate) quick: bool,

    /// Counted runs of everything, in place of each row's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: Option<u32>,

    /// List the rows
    #[arg(long)]
    pub(crate) list: bool,

    /// What Cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}
