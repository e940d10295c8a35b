//! Says where the container's services are reached, each as soon as it answers.

use futures_util::future::join_all;

use super::Door;
use crate::cli::output::Printer;
use crate::cli::timing::{Timing, shown};
use crate::sdk::{Container, Error, READY_TIMEOUT};

/// Waits for all ports at once and says for each when the container accepts connections there; then, if it is asked for,
/// where the time went.
pub(super) async fn announce(
    printer: &Printer,
    container: &Container,
    doors: &[Door],
    mut timing: Timing,
    with_table: bool,
) {
    let waiting = doors
        .iter()
        .map(|door| answers(printer, container, door, &timing));
    let all = join_all(waiting).await;
    if with_table && all.iter().all(|answered| *answered) {
        timing.done("ready");
        printer.note(timing.table());
    }
}

/// Waits until the container accepts connections behind a door, however long that takes. Returns whether it came to that.
async fn answers(printer: &Printer, container: &Container, door: &Door, timing: &Timing) -> bool {
    let port = door.tunnel.port();
    let mut patient = false;
    loop {
        match container.wait_tcp(port, READY_TIMEOUT).await {
            Ok(()) => {
                let (address, time) = (&door.address, shown(timing.total()));
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
