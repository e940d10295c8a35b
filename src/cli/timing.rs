//! Where the time of a run goes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Measures the phases of a run, one after the other.
#[derive(Debug)]
pub(crate) struct Timing {
    began: Instant,
    over: Vec<(&'static str, Duration)>,
    last: Phase,
    told: bool,
}

/// A phase that is under way, or the last one.
#[derive(Debug)]
struct Phase {
    name: &'static str,
    since: Instant,
    /// How long it took. None while it is under way.
    took: Option<Duration>,
}

impl Phase {
    fn new(name: &'static str, since: Instant) -> Self {
        Self {
            name,
            since,
            took: None,
        }
    }

    fn took(&self, now: Instant) -> Duration {
        self.took
            .unwrap_or_else(|| now.saturating_duration_since(self.since))
    }
}

impl Timing {
    /// Begins the first phase.
    pub(crate) fn new(began: Instant, phase: &'static str) -> Self {
        Self {
            began,
            over: Vec::new(),
            last: Phase::new(phase, began),
            told: false,
        }
    }

    /// Ends a phase, and begins the next.
    pub(crate) fn begin(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.over.push((self.last.name, self.last.took(now)));
        self.last = Phase::new(phase, now);
    }

    /// Takes the time of a part out of the phase that is under way, and names it apart.
    pub(crate) fn take_out(&mut self, part: &'static str, time: Duration) {
        self.over.push((part, time));
        // More than has passed, perhaps: the clocks of two machines may disagree.
        self.last.since += time;
    }

    /// Ends the last phase. What has been said to be done may be said again, later.
    pub(crate) fn done(&mut self) {
        let Phase { since, .. } = self.last;
        self.last.took = Some(Instant::now().saturating_duration_since(since));
    }

    /// When the first phase began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// All phases as far as it has come, and what they add up to. None if that has been told before.
    pub(crate) fn tell(&mut self) -> Option<String> {
        let told = std::mem::replace(&mut self.told, true);
        (!told).then(|| self.table(Instant::now()))
    }

    fn table(&self, now: Instant) -> String {
        let last = &self.last;
        let unfinished = last.took.is_none();
        let rows = self
            .over
            .iter()
            .copied()
            .chain([(last.name, last.took(now))]);
        let sum = rows.clone().map(|(_, time)| time).sum();
        let mut text = String::new();
        for (phase, time) in rows.chain([("total", sum)]) {
            let note = if unfinished && phase == last.name {
                " (unfinished)"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "{phase:8} {:>9.1} ms{note}",
                time.as_secs_f64() * 1000.0
            );
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// A time as a person reads it.
pub(crate) fn shown(time: Duration) -> String {
    let millis = time.as_millis();
    if millis < 1000 {
        format!("{millis} ms")
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that has resolved its image and has been sending it for two seconds.
    fn sending() -> (Timing, Instant) {
        let began = Instant::now();
        let timing = Timing {
            over: vec![("resolve", Duration::from_micros(1500))],
            last: Phase::new("upload", began),
            ..Timing::new(began, "connect")
        };
        (timing, began + Duration::from_secs(2))
    }

    #[test]
    fn phases_add_up() {
        let (mut timing, now) = sending();
        timing.last.took = Some(Duration::from_secs(1));
        assert_eq!(
            timing.table(now),
            "resolve        1.5 ms\nupload      1000.0 ms\ntotal       1001.5 ms"
        );
    }

    #[test]
    fn a_phase_that_is_not_over_counts_and_is_marked() {
        let (timing, now) = sending();
        assert_eq!(
            timing.table(now),
            "resolve        1.5 ms\nupload      2000.0 ms (unfinished)\ntotal       2001.5 ms"
        );
    }

    #[test]
    fn it_is_told_once() {
        let (mut timing, _) = sending();
        assert!(timing.tell().is_some());
        timing.begin("start");
        assert_eq!(timing.tell(), None);
    }

    #[test]
    fn a_part_is_taken_out_of_its_phase() {
        let mut timing = Timing::new(Instant::now(), "start");
        // More than has passed: the clocks of two machines may disagree.
        timing.take_out("unpack", Duration::from_mins(1));
        timing.begin("ready");
        assert_eq!(
            timing.over,
            [
                ("unpack", Duration::from_mins(1)),
                ("start", Duration::ZERO)
            ]
        );
    }

    #[test]
    fn times_are_short() {
        assert_eq!(shown(Duration::from_millis(42)), "42 ms");
        assert_eq!(shown(Duration::from_millis(1234)), "1.2 s");
    }
}
