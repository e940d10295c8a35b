//! `tf node serve`: this machine as a node of a location.

use std::pin::pin;

use tokio_util::sync::CancellationToken;

use crate::cli::Context;
use crate::cli::args::NodeVerb;
use crate::cli::connect;
use crate::cli::duration;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::invited;
use crate::config::Config;
use crate::link::LINGER;
use crate::serve::NodeServer;

pub(super) async fn run(context: &Context, verb: NodeVerb) -> Result<Ending, Failure> {
    let NodeVerb::Serve { join } = verb;
    let config = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    let reading = async {
        match join {
            Some(given) => invited::read(&context.printer, Some(&given))
                .await
                .map(Some),
            None => Ok(None),
        }
    };
    let invitation = tokio::select! {
        invitation = reading => invitation?,
        signal = context.shutdown.requested() => return Ok(Ending::Interrupted(signal)),
    };
    let linger = context.global.linger.as_deref();
    let linger = linger.map(|text| duration::parse_or_zero("--linger", text));
    let linger = linger.transpose()?.unwrap_or(LINGER);
    let address = connect::address(&context.global)?;
    let node = tokio::select! {
        node = NodeServer::start(config.state, invitation, address, linger) => node?,
        signal = context.shutdown.requested() => return Ok(Ending::Interrupted(signal)),
    };
    tracing::info!("this machine is a node of {}", node.location());
    let shutdown = CancellationToken::new();
    let mut served = pin!(node.serve(shutdown.clone()));
    tokio::select! {
        served = &mut served => served?,
        signal = context.shutdown.requested() => {
            tracing::info!("stopping, as {signal} asks for");
            shutdown.cancel();
            served.await?;
        }
    }
    Ok(Ending::Done)
}
