//! Says where the container's services are reached, each as soon as it answers.

use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use tokio::time::timeout;

use super::Door;
use crate::cli::output::Printer;
use crate::cli::timing::{Timing, shown};
use crate::sdk::{Container, Error, READY_TIMEOUT};

/// How long after one port has answered the others are waited for before it is said where the time went. Images expose
/// ports that nothing in them listens on.
const OTHERS: Duration = Duration::from_secs(1);

/// Waits for all ports at once and says for each when the container accepts connections there; then, if it is asked for,
/// where the time went.
pub(super) async fn announce(
    printer: &Printer,
    container: &Container,
    doors: &[Door],
    timing: &mut Timing,
    with_table: bool,
) {
    let began = timing.began();
    let mut waiting: FuturesUnordered<_> = doors
        .iter()
        .map(|door| answers(printer, container, door, began))
        .collect();
    if with_table
        && until_ready(&mut waiting, timing).await
        && let Some(table) = timing.tell()
    {
        printer.note(table);
    }
    while waiting.next().await.is_some() {}
}

/// Waits until the last port answers that does before long. Returns whether any ever does.
async fn until_ready(
    waiting: &mut (impl Stream<Item = bool> + Unpin),
    timing: &mut Timing,
) -> bool {
    if !waiting.any(std::future::ready).await {
        return false;
    }
    timing.done();
    let others = async {
        while let Some(answered) = waiting.next().await {
            if answered {
                timing.done();
            }
        }
    };
    // One that takes longer is told of when it answers.
    let _ = timeout(OTHERS, others).await;
    true
}

/// Waits until the container accepts connections behind a door, however long that takes. Returns whether it came to that.
async fn answers(printer: &Printer, container: &Container, door: &Door, began: Instant) -> bool {
    let port = door.tunnel.port();
    let mut patient = false;
    loop {
        match container.wait_tcp(port, READY_TIMEOUT).await {
            Ok(()) => {
                let (address, time) = (&door.address, shown(began.elapsed()));
                printer.note(format_args!("{address} -> {port}/tcp (ready after {time})"));
                return true;
            }
            Err(Error::TimedOut { limit, .. }) => {
                if !patient {
                    printer.warning(format_args!(
                        "nothing in the container listens on port {port} after {}: still waiting",
                        shown(limit)
                    ));
                }
                patient = true;
            }
            // The end of the container is told by whoever waits for it.
            Err(error) => {
                tracing::debug!("port {port} is not waited for any more: {error}");
                return false;
            }
        }
    }
}
