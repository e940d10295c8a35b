//! Progress bars: one for each layer that takes long enough to be worth looking at.
//!
//! [`Bars`] takes the reports of an upload. What is done within a second is not shown at all, so that a run of an image
//! whose layers are there is as quiet as a local program.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{
    BinaryBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState,
    ProgressStyle,
};

use crate::cli::output::Printer;
use crate::cli::terminal;
use crate::ids::Digest;
use crate::progress::{Progress, Step};

/// How long something has to take before it is shown.
const WORTH_SHOWING: Duration = Duration::from_secs(1);

/// How often a bar that gets no reports is drawn anew, so that its clock goes on.
const TICK: Duration = Duration::from_millis(250);

/// Draws the progress of layers on a terminal.
#[derive(Debug)]
pub(crate) struct Bars {
    printer: Printer,
    started: Instant,
    /// Whether what it came to is said however short it took.
    summary: bool,
    layers: Mutex<Layers>,
}

impl Bars {
    /// Bars that go where the printer prints.
    pub(crate) fn new(printer: &Printer) -> Self {
        Self {
            started: Instant::now(),
            summary: false,
            layers: Mutex::new(Layers::new(printer.bars().clone())),
            printer: printer.clone(),
        }
    }

    /// The same, for whoever asks for nothing but the upload: says at the end what it came to, in any case.
    pub(crate) fn with_summary(printer: &Printer) -> Self {
        Self {
            summary: true,
            ..Self::new(printer)
        }
    }

    /// Removes the bars that are still shown.
    pub(crate) fn clear(&self) {
        self.layers().bars.clear();
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn report(&self, step: Step) {
        if let Step::Uploaded { sent, saved } = step {
            self.clear();
            let text = uploaded(sent, saved);
            if self.summary || self.started.elapsed() >= WORTH_SHOWING {
                self.printer.note(text);
            } else {
                self.printer.info(text);
            }
            return;
        }
        self.layers().take(&step, Instant::now());
    }
}

/// What is said when all layers are there.
fn uploaded(sent: u64, saved: u64) -> String {
    match (sent, saved) {
        (0, 0) => "all layers were at the location already".to_owned(),
        (0, saved) => format!(
            "all layers were at the location already, {}",
            BinaryBytes(saved)
        ),
        (sent, 0) => format!("sent {}", BinaryBytes(sent)),
        (sent, saved) => format!(
            "sent {}, {} were at the location already",
            BinaryBytes(sent),
            BinaryBytes(saved)
        ),
    }
}

/// What is done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    Send,
    Unpack,
}

impl Work {
    fn verb(self) -> &'static str {
        match self {
            Self::Send => "sending",
            Self::Unpack => "unpacking",
        }
    }
}

/// The layers that are worked on.
#[derive(Debug)]
struct Layers {
    target: MultiProgress,
    sizes: HashMap<Digest, u64>,
    bars: HashMap<(Digest, Work), Bar>,
}

/// One layer that is worked on.
#[derive(Debug)]
struct Bar {
    since: Instant,
    /// Where it began, in bytes: not at the start of a layer that was interrupted before.
    from: u64,
    shown: Option<ProgressBar>,
}

impl Layers {
    fn new(target: MultiProgress) -> Self {
        Self {
            target,
            sizes: HashMap::new(),
            bars: HashMap::new(),
        }
    }

    fn take(&mut self, step: &Step, now: Instant) {
        match *step {
            Step::LayerStarted {
                layer,
                size,
                offset,
            } => {
                if let Some(size) = size {
                    self.sizes.insert(layer, size);
                }
                self.advance(layer, Work::Send, offset, now);
            }
            Step::LayerSent { layer, done } => self.advance(layer, Work::Send, done, now),
            Step::LayerDone { layer } => {
                self.bars.remove(&(layer, Work::Send));
            }
            Step::LayerUnpacked { layer, done } => {
                self.advance(layer, Work::Unpack, done, now);
                if self.sizes.get(&layer).is_some_and(|size| done >= *size) {
                    self.bars.remove(&(layer, Work::Unpack));
                }
            }
            Step::Uploaded { .. } => self.bars.clear(),
        }
    }

    fn advance(&mut self, layer: Digest, work: Work, done: u64, now: Instant) {
        let size = self.sizes.get(&layer).copied();
        let bar = self.bars.entry((layer, work)).or_insert(Bar {
            since: now,
            from: done,
            shown: None,
        });
        if bar.shown.is_none() && now.duration_since(bar.since) >= WORTH_SHOWING {
            let shown =
                self.target
                    .add(drawn(layer, work, size, bar.from, terminal::size().columns));
            shown.enable_steady_tick(TICK);
            bar.shown = Some(shown);
        }
        if let Some(shown) = &bar.shown {
            shown.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(shown) = &self.shown {
            shown.finish_and_clear();
        }
    }
}

/// What a bar shows: as much as a terminal of so many columns has room for in one line. Lines that wrap scroll the terminal.
fn template(sized: bool, columns: u16) -> &'static str {
    match (sized, columns) {
        (true, 100..) => {
            "{prefix:9} {msg} [{wide_bar}] {binary_bytes:>11} of {binary_total_bytes}, {speed}/s, {time_left} left"
        }
        (true, 75..) => {
            "{prefix:9} {msg} [{wide_bar}] {binary_bytes:>11} of {binary_total_bytes}, {speed}/s"
        }
        (true, 60..) => "{prefix:9} {msg} [{wide_bar}] {binary_bytes:>11} of {binary_total_bytes}",
        (true, 30..) => "{prefix:9} {msg} {percent:>3}%",
        (true, _) => "{percent:>3}%",
        (false, 60..) => "{prefix:9} {msg} {spinner} {binary_bytes:>11}, {speed}/s",
        (false, 40..) => "{prefix:9} {msg} {binary_bytes:>11}",
        (false, _) => "{spinner}",
    }
}

/// A bar for something that has been under way for [`WORTH_SHOWING`], and began at `from`.
fn drawn(layer: Digest, work: Work, size: Option<u64>, from: u64, columns: u16) -> ProgressBar {
    let template = template(size.is_some(), columns);
    // The speed that indicatif knows begins with a jump: it was not there in the first second.
    let style = ProgressStyle::with_template(template)
        .expect("the template is well formed")
        .with_key(
            "speed",
            move |state: &ProgressState, out: &mut dyn Write| {
                let speed = speed(state.pos().saturating_sub(from), state.elapsed());
                let _ = write!(out, "{}", BinaryBytes(speed));
            },
        )
        .with_key(
            "time_left",
            move |state: &ProgressState, out: &mut dyn Write| {
                let speed = speed(state.pos().saturating_sub(from), state.elapsed());
                let left = state.len().unwrap_or(0).saturating_sub(state.pos());
                let left = Duration::from_secs(left.checked_div(speed).unwrap_or(0));
                let _ = write!(out, "{}", HumanDuration(left));
            },
        );
    // Hidden until it is added to its target: it would be drawn twice otherwise.
    ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden())
        .with_elapsed(WORTH_SHOWING)
        .with_message(layer.short())
        .with_prefix(work.verb())
        .with_style(style.progress_chars("=> "))
}

/// Bytes in a second.
fn speed(bytes: u64, time: Duration) -> u64 {
    let per_second = u128::from(bytes) * 1000 / time.as_millis().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use indicatif::TermLike;

    use super::*;

    /// Layers, drawn nowhere, and a function that gives them a step at so many milliseconds.
    fn layers() -> (Layers, impl Fn(&mut Layers, u64, Step)) {
        let start = Instant::now();
        let target = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        (Layers::new(target), move |layers, after, step| {
            layers.take(&step, start + Duration::from_millis(after));
        })
    }

    /// A layer of 100 bytes begins here.
    fn started(layer: Digest, offset: u64) -> Step {
        Step::LayerStarted {
            layer,
            size: Some(100),
            offset,
        }
    }

    /// The bars that are shown: verb, position and length.
    fn shown(layers: &Layers) -> Vec<(String, u64, Option<u64>)> {
        let bars = layers.bars.values().filter_map(|bar| bar.shown.as_ref());
        bars.map(|bar| (bar.prefix(), bar.position(), bar.length()))
            .collect()
    }

    #[test]
    fn what_takes_less_than_a_second_is_not_shown() {
        let (mut layers, take) = layers();
        let layer = Digest::of(b"layer");
        take(&mut layers, 0, started(layer, 0));
        take(&mut layers, 999, Step::LayerSent { layer, done: 50 });
        assert_eq!(shown(&layers), []);
        take(&mut layers, 999, Step::LayerDone { layer });
        assert!(layers.bars.is_empty());
    }

    #[test]
    fn a_layer_that_takes_longer_has_a_bar_until_it_is_done() {
        let (mut layers, take) = layers();
        let layer = Digest::of(b"layer");
        take(&mut layers, 0, started(layer, 10));
        take(&mut layers, 1000, Step::LayerSent { layer, done: 50 });
        assert_eq!(shown(&layers), [("sending".to_owned(), 50, Some(100))]);
        take(&mut layers, 1100, Step::LayerSent { layer, done: 60 });
        assert_eq!(shown(&layers), [("sending".to_owned(), 60, Some(100))]);
        take(&mut layers, 1200, Step::LayerDone { layer });
        assert_eq!(shown(&layers), []);
    }

    #[test]
    fn a_layer_of_unknown_size_has_a_bar_without_an_end() {
        let (mut layers, take) = layers();
        let layer = Digest::of(b"layer");
        take(&mut layers, 0, Step::LayerUnpacked { layer, done: 1 });
        take(&mut layers, 2000, Step::LayerUnpacked { layer, done: 5 });
        assert_eq!(shown(&layers), [("unpacking".to_owned(), 5, None)]);
    }

    #[test]
    fn unpacking_ends_with_the_last_byte() {
        let (mut layers, take) = layers();
        let layer = Digest::of(b"layer");
        take(&mut layers, 0, started(layer, 0));
        take(&mut layers, 1, Step::LayerDone { layer });
        take(&mut layers, 2, Step::LayerUnpacked { layer, done: 1 });
        take(&mut layers, 2000, Step::LayerUnpacked { layer, done: 99 });
        assert_eq!(shown(&layers).len(), 1);
        take(&mut layers, 2001, Step::LayerUnpacked { layer, done: 100 });
        assert_eq!(shown(&layers), []);
    }

    /// A terminal of so many columns that keeps what is written.
    #[derive(Debug)]
    struct Paper(u16, Arc<Mutex<Vec<String>>>);

    impl Paper {
        fn keep(&self, text: &str) {
            let mut kept = self.1.lock().expect("nobody panics with it");
            kept.push(text.to_owned());
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            self.0
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.keep(text);
            Ok(())
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.keep(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_has_one_line_of_any_terminal() {
        let layer = Digest::of(b"layer");
        for columns in (4..=130).chain([500]) {
            for size in [None, Some(1023 << 20)] {
                let written = Arc::default();
                let paper = Box::new(Paper(columns, Arc::clone(&written)));
                let target = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(paper));
                let bar = target.add(drawn(layer, Work::Unpack, size, 0, columns));
                bar.set_position(1_000_000_000);
                bar.tick();
                let lines = written.lock().expect("nobody panics with it");
                let lengths = lines.iter().map(|line| line.trim_end().chars().count());
                let longest = lengths.max().unwrap_or(0);
                assert!(
                    (1..=usize::from(columns)).contains(&longest),
                    "{columns}: {lines:?}"
                );
            }
        }
    }

    #[test]
    fn the_speed_is_the_mean() {
        assert_eq!(speed(3000, Duration::from_millis(1500)), 2000);
        assert_eq!(speed(0, Duration::ZERO), 0);
        assert_eq!(speed(u64::MAX, Duration::from_millis(1)), u64::MAX);
    }

    #[test]
    fn the_last_line_says_what_was_sent_and_what_was_there() {
        assert_eq!(uploaded(0, 0), "all layers were at the location already");
        assert_eq!(
            uploaded(0, 1 << 20),
            "all layers were at the location already, 1.00 MiB"
        );
        assert_eq!(uploaded(2 << 20, 0), "sent 2.00 MiB");
        assert_eq!(
            uploaded(2 << 20, 1 << 30),
            "sent 2.00 MiB, 1.00 GiB were at the location already"
        );
    }
}
