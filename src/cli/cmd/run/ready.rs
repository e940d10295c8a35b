//! Says where the container's services are reached, each as soon as it answers.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::Door;
use crate::cli::output::Printer;
use crate::cli::timing::{Timing, shown};
use crate::sdk::{Container, Error, READY_TIMEOUT};
use crate::serve::notify::{READY, notify};

/// How long after one port has answered the others are waited for before it is said where the time went. Images expose
/// ports that nothing in them listens on.
const OTHERS: Duration = Duration::from_secs(1);

/// Waits for all ports at once and says for each when the container accepts connections there; then, if it is asked for,
/// where the time went. A service manager is told when whatever depends on the container can be started.
pub(super) async fn announce(
    printer: &Printer,
    container: &Container,
    doors: &[Door],
    timing: &mut Timing,
    with_table: bool,
) {
    if doors.is_empty() {
        return notify(READY);
    }
    let began = timing.began();
    let mut waiting: FuturesUnordered<_> = doors
        .iter()
        .map(|door| answers(printer, container, door, began))
        .collect();
    let ready = {
        let mut ready = pin!(until_ready(&mut waiting, timing));
        match timeout(READY_TIMEOUT, &mut ready).await {
            Ok(true) => {
                notify(READY);
                true
            }
            Ok(false) => false,
            Err(_) => {
                // A service where nothing listens is one, too.
                notify(READY);
                ready.await
            }
        }
    };
    if with_table
        && ready
        && let Some(table) = timing.tell()
    {
        printer.note(table);
    }
    while waiting.next().await.is_some() {}
}

/// Waits until the last port answers that does before long. Returns whether any ever does.
async fn until_ready(
    waiting: &mut FuturesUnordered<impl Future<Output = bool>>,
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
