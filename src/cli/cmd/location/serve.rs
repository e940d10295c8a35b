//! `tf location serve`.

use crate::cli::Context;
use crate::cli::args::Serve;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::serve::{LocationOptions, LocationServer};

pub(super) async fn run(
    context: &Context,
    config: Config,
    options: Serve,
) -> Result<Ending, Failure> {
    let options = LocationOptions {
        state: config.state,
        listen: options.listen,
        name: options.name,
        node: !options.no_node,
    };
    let server = tokio::select! {
        server = LocationServer::start(options) => server?,
        signal = context.shutdown.requested() => return Ok(Ending::Interrupted(signal)),
    };
    tracing::info!(
        "the location {} listens on {}",
        server.profile().name,
        server.address()
    );
    let asked = async {
        let signal = context.shutdown.requested().await;
        tracing::info!("stopping, as {signal:?} asks for");
    };
    server.serve(asked).await?;
    tracing::info!("stopped");
    Ok(Ending::Done)
}
