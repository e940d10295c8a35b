//! The verbs, one file each.

mod account;
mod cache;
mod complete;
mod containers;
mod describe;
mod generate;
mod last_image;
pub(crate) mod location;
mod locations;
mod node;
mod resources;
mod run;
#[cfg(unix)]
mod service;

use std::time::Duration;

use tokio::time::timeout;

use crate::cli::Context;
use crate::cli::args::Verb;
use crate::cli::connect::connect;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::output::Printer;
use crate::embedded::Purpose;
use crate::protocol::messages::NodeInfo;
use crate::sdk::Location;

/// How long a location may take to free what a session had. Ending the process ends what runs in it in any case.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long a connection that is being made when a signal comes gets to be made, to be ended properly.
const HALF_MADE: Duration = Duration::from_secs(1);

/// Does what a verb says.
pub(super) async fn dispatch(context: &Context, verb: Verb) -> Result<Ending, Failure> {
    match verb {
        Verb::Run(options) => run::run(context, *options).await,
        Verb::Cache(options) => cache::run(context, options.verb.named).await,
        Verb::Describe(options) => describe::run(context, &options).await,
        Verb::LastImage(_) => last_image::run(context).await,
        Verb::Ps(options) => containers::list(context, &options).await,
        Verb::Stop(options) => containers::stop(context, &options).await,
        Verb::Resources(options) => resources::run(context, &options).await,
        Verb::Account(options) => account::run(context, options.verb.named).await,
        Verb::Locations(options) => locations::run(context, options),
        Verb::Location(options) => location::run(context, options.verb.named).await,
        Verb::Node(options) => Box::pin(node::run(context, options.verb.named)).await,
        #[cfg(not(unix))]
        Verb::Service(_) => Err(Failure::operation(
            "services are units of systemd, which is on Linux only",
        )),
        #[cfg(unix)]
        Verb::Service(options) => Box::pin(service::run(context, options)).await,
        Verb::Generate(options) => generate::run(&options),
        Verb::Complete(options) => complete::run(context, &options).await,
    }
}

/// Connects to the location, works with it, and disconnects whatever happens. A signal ends the work where it is.
async fn with_location(
    context: &Context,
    purpose: Purpose,
    work: impl AsyncFnOnce(&Location) -> Result<Ending, Failure>,
) -> Result<Ending, Failure> {
    let connecting = connect(context, purpose);
    tokio::pin!(connecting);
    let location = tokio::select! {
        location = &mut connecting => location?,
        signal = context.shutdown.requested() => {
            // A location that is being started in this process is ended in good order rather than dropped half made.
            if let Ok(Ok(location)) = timeout(HALF_MADE, connecting).await {
                let _ = timeout(GOODBYE, location.disconnect()).await;
            }
            return Ok(Ending::Interrupted(signal));
        }
    };
    let ended = tokio::select! {
        ended = work(&location) => ended,
        signal = context.shutdown.requested() => Ok(Ending::Interrupted(signal)),
    };
    if timeout(GOODBYE, location.disconnect()).await.is_err() {
        context
            .printer
            .warning("the location does not answer: leaving without its goodbye");
    }
    ended
}

/// Prints what a verb was asked for.
fn print_result(printer: &Printer, text: &str) -> Result<Ending, Failure> {
    printer
        .result(text)
        .map(|()| Ending::Done)
        .map_err(|error| Failure::operation(format!("cannot write to standard output: {error}")))
}

/// A node, for lists in JSON: the mean start is a number of seconds, and null before the first start.
fn node_value(node: &NodeInfo) -> serde_json::Value {
    let mut value = serde_json::to_value(node).expect("it has text keys only");
    let mean_start = (!node.mean_start.is_zero()).then_some(node.mean_start.as_secs_f64());
    value["mean_start"] = mean_start.into();
    value
}

/// The value as JSON, for people to read and for programs to parse.
fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("the value has text keys only");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;
    use crate::protocol::image::Platform;

    #[test]
    fn the_mean_start_is_a_number_or_nothing() {
        let mut node = NodeInfo {
            id: NodeId::random(),
            hostname: "here".to_owned(),
            platform: Platform::host(),
            cpus: 1,
            load: 0.0,
            memory: 0,
            memory_free: 0,
            disk_free: 0,
            containers: 0,
            mean_start: Duration::ZERO,
        };
        assert!(node_value(&node)["mean_start"].is_null());
        node.mean_start = Duration::from_millis(12);
        assert_eq!(node_value(&node)["mean_start"], 0.012);
    }
}
