//! `tf location serve`.

use crate::cli::Context;
use crate::cli::args::Serve;
use crate::cli::duration;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::limits;
use crate::config::Config;
use crate::serve::{Bounds, LocationOptions, LocationServer};

pub(super) async fn run(
    context: &Context,
    config: Config,
    options: Serve,
) -> Result<Ending, Failure> {
    let max_linger = duration::parse_or_zero("--max-linger", &options.max_linger)?;
    let max_cache = options.max_cache.as_deref();
    let max_cache = max_cache
        .map(|text| limits::size("--max-cache", text))
        .transpose()?
        .or(config.max_cache);
    let options = LocationOptions {
        state: config.state,
        listen: options.listen,
        name: options.name,
        node: !options.no_node,
        bounds: Bounds {
            max_linger,
            max_cache,
        },
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
