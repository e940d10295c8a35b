//! The verbs, one file each.

mod generate;

use crate::cli::Context;
use crate::cli::args::Verb;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;

/// Does what a verb says.
pub(super) async fn run(context: &Context, verb: Verb) -> Result<Ending, Failure> {
    match verb {
        Verb::Generate(options) => generate::run(&options),
        _ => todo!(),
    }
}
