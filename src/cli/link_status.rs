//! Says how the connection to the location is, while it is not as it should be.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cli::output::Printer;
use crate::cli::terminal;
use crate::link::Status;

/// How long the connection may be away before it is worth a word: it comes back sooner as a rule.
const QUIET: Duration = Duration::from_secs(1);

/// How often the time on a terminal's status line is brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// How often a line is written where no status line can be shown.
const LINE: Duration = Duration::from_secs(10);

/// Follows the state of a link, and ends with it.
pub(crate) async fn follow(printer: &Printer, mut status: watch::Receiver<Status>) {
    loop {
        let Ok(now) = status
            .wait_for(|status| !matches!(status, Status::Up))
            .await
            .map(|status| *status)
        else {
            return;
        };
        match now {
            Status::Down { since } => while_down(printer, &mut status, since).await,
            Status::Closed(_) => return,
            Status::Up => {}
        }
    }
}

/// Says that the link is down until it no longer is, and then that it is back.
async fn while_down(printer: &Printer, status: &mut watch::Receiver<Status>, since: Instant) {
    let up = |status: &Status| !matches!(status, Status::Down { .. });
    if timeout(QUIET, status.wait_for(up)).await.is_ok() {
        return;
    }
    // On a terminal that belongs to the container's program a line that changes would write all over it.
    let line = (!printer.bars().is_hidden() && !terminal::is_raw()).then(|| {
        let style = ProgressStyle::with_template("{msg}").expect("the template is well formed");
        printer
            .bars()
            .add(ProgressBar::new_spinner().with_style(style))
    });
    loop {
        let text = text(since.elapsed());
        let pause = if let Some(line) = &line {
            line.set_message(text);
            line.tick();
            TICK
        } else {
            printer.note(text);
            LINE
        };
        if timeout(pause, status.wait_for(up)).await.is_ok() {
            break;
        }
    }
    if let Some(line) = line {
        line.finish_and_clear();
    }
    if matches!(*status.borrow(), Status::Up) {
        printer.note(format_args!(
            "link up again after {} s",
            since.elapsed().as_secs()
        ));
    }
}

fn text(down: Duration) -> String {
    format!("link down {} s, retrying", down.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_in_seconds() {
        assert_eq!(
            text(Duration::from_millis(12_900)),
            "link down 12 s, retrying"
        );
    }
}
