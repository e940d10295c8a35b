//! `tf describe IMAGE`: what an image is, as JSON.

use super::{json, print_result, with_location};
use crate::cli::Context;
use crate::cli::args::Describe;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::embedded::Purpose;

pub(super) async fn run(context: &Context, options: &Describe) -> Result<Ending, Failure> {
    with_location(context, Purpose::Manage, async |location| {
        let image = location.resolve(&options.image).await?;
        print_result(&context.printer, &json(&image.description))
    })
    .await
}
