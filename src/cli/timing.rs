//! Where the time of a run goes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Measures the phases of a run, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    began: Instant,
    since: Instant,
    phases: Vec<(&'static str, Duration)>,
}

impl Timing {
    /// Begins the first phase.
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            since: began,
            phases: Vec::new(),
        }
    }

    /// Ends a phase, and begins the next.
    pub(crate) fn done(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.phases.push((phase, now.duration_since(self.since)));
        self.since = now;
    }

    /// Ends a phase of which `part` was spent on something else, named apart.
    pub(crate) fn done_with_part(&mut self, part: (&'static str, Duration), phase: &'static str) {
        self.phases.push(part);
        let now = Instant::now();
        let rest = now.duration_since(self.since).saturating_sub(part.1);
        self.phases.push((phase, rest));
        self.since = now;
    }

    /// Time since the beginning.
    pub(crate) fn total(&self) -> Duration {
        self.began.elapsed()
    }

    /// All phases, and what they add up to.
    pub(crate) fn table(&self) -> String {
        let sum = self.phases.iter().map(|(_, time)| *time).sum();
        let mut text = String::new();
        for (phase, time) in self.phases.iter().chain(&[("total", sum)]) {
            let _ = writeln!(text, "{phase:8} {:>9.1} ms", time.as_secs_f64() * 1000.0);
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

    #[test]
    fn phases_add_up() {
        let timing = Timing {
            began: Instant::now(),
            since: Instant::now(),
            phases: vec![
                ("resolve", Duration::from_micros(1500)),
                ("start", Duration::from_secs(2)),
            ],
        };
        assert_eq!(
            timing.table(),
            "resolve        1.5 ms\nstart       2000.0 ms\ntotal       2001.5 ms"
        );
    }

    #[test]
    fn a_part_is_taken_out_of_its_phase() {
        let mut timing = Timing::new(Instant::now());
        // More than has passed: the clocks of two machines may disagree.
        timing.done_with_part(("unpack", Duration::from_mins(1)), "start");
        assert_eq!(timing.phases[0], ("unpack", Duration::from_mins(1)));
        assert_eq!(timing.phases[1], ("start", Duration::ZERO));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(shown(Duration::from_millis(42)), "42 ms");
        assert_eq!(shown(Duration::from_millis(1234)), "1.2 s");
    }
}
