//! `tf location serve`.

use crate::cli::Context;
use crate::cli::address;
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
    let asked = bounds(&options)?;
    let options = LocationOptions {
        state: config.state,
        listen: options.listen,
        name: options.name,
        node: !options.no_node,
        bounds: Bounds {
            max_cache: asked.max_cache.or(config.max_cache),
            ..asked
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
        tracing::info!("stopping, as {signal} asks for");
    };
    server.serve(asked).await?;
    tracing::info!("stopped");
    Ok(Ending::Done)
}

/// Checks the options, as far as they can be without the machine, and returns what they say the location gives at most.
///
/// # Errors
///
/// When one of them makes no sense.
pub(in crate::cli::cmd) fn bounds(options: &Serve) -> Result<Bounds, Failure> {
    if let Some(listen) = &options.listen {
        address::check_listening("--listen", listen)?;
    }
    let max_cache = options.max_cache.as_deref();
    Ok(Bounds {
        max_linger: duration::parse_or_zero("--max-linger", &options.max_linger)?,
        max_cache: max_cache
            .map(|text| limits::size("--max-cache", text))
            .transpose()?,
    })
}
