//! `tf location`: a location of one's own.

mod limits;
mod manage;
pub(super) mod serve;

#[cfg(test)]
pub(crate) use self::manage::NamedSession;
use crate::cli::Context;
use crate::cli::args::LocationVerb;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::config::Config;

pub(super) async fn run(context: &Context, verb: LocationVerb) -> Result<Ending, Failure> {
    let config = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    match verb {
        LocationVerb::Serve(options) => serve::run(context, config, options).await,
        LocationVerb::Invite(options) => manage::invite(context, &config, &options).await,
        LocationVerb::Users { json } => manage::users(context, &config, json).await,
        LocationVerb::Nodes { json } => manage::nodes(context, &config, json).await,
        LocationVerb::Sessions { json } => manage::sessions(context, &config, json).await,
        LocationVerb::Limits(options) => limits::run(context, &config, &options).await,
        LocationVerb::Revoke { who } => manage::revoke(context, &config, &who).await,
    }
}
