//! `tf last-image`: the id of the most recent image of the local Docker daemon.

use super::print_result;
use crate::cli::Context;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::sdk::last_image;

pub(super) async fn run(context: &Context) -> Result<Ending, Failure> {
    let id = tokio::select! {
        id = last_image() => id?,
        signal = context.shutdown.requested() => return Ok(Ending::Interrupted(signal)),
    };
    print_result(&context.printer, &format!("{id}\n"))
}
