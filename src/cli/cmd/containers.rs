//! `tf ps` and `tf stop`: the user's containers, of all sessions.

use std::time::SystemTime;

use super::{json, print_result, with_location};
use crate::cli::Context;
use crate::cli::args::{Ps, Stop};
use crate::cli::connect::is_remote;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::table::{ago, table};
use crate::embedded::Purpose;
use crate::protocol::messages::ContainerInfo;

/// Digits of an id that are shown: enough to tell containers apart, and taken for the whole.
const SHOWN: usize = 12;

pub(super) async fn list(context: &Context, options: &Ps) -> Result<Ending, Failure> {
    require_remote(context)?;
    with_location(context, Purpose::Manage, async |location| {
        let containers = location.containers().await?;
        let text = if options.json {
            json(&containers)
        } else {
            rows(&containers, SystemTime::now())
        };
        print_result(&context.printer, &text)
    })
    .await
}

/// Ends all that can be ended, and says what could not.
pub(super) async fn stop(context: &Context, options: &Stop) -> Result<Ending, Failure> {
    require_remote(context)?;
    with_location(context, Purpose::Manage, async |location| {
        let mut ending = Ending::Done;
        for prefix in &options.containers {
            match location.stop(prefix).await {
                Ok(id) => context.printer.note(format_args!("stopped {id}")),
                Err(error) => {
                    context.printer.error(Failure::from(error));
                    ending = Ending::Failed;
                }
            }
        }
        Ok(ending)
    })
    .await
}

/// Containers of a location inside another process cannot be seen, and it would be wrong to say that there are none.
fn require_remote(context: &Context) -> Result<(), Failure> {
    if is_remote(&context.global)? {
        return Ok(());
    }
    Err(Failure::operation(
        "no location is configured, so each container is known to the tf that runs it only",
    )
    .hint("end it there with Ctrl-C; for a location that all share, see `tf location serve`"))
}

fn rows(containers: &[ContainerInfo], now: SystemTime) -> String {
    let rows = containers.iter().map(|container| {
        let name = container.image_name.as_deref().unwrap_or_default();
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        let name = name.strip_prefix("library/").unwrap_or(name);
        [
            container.id.as_str()[..SHOWN].to_owned(),
            if name.is_empty() {
                container.image.short()
            } else {
                name.to_owned()
            },
            container.hostname.clone(),
            ago(now, container.since),
        ]
    });
    table(["CONTAINER", "IMAGE", "NODE", "STARTED"], rows.collect())
}
