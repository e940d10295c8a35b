//! Values of one quantity, measured several times.

use std::time::Duration;

/// What is measured, which decides how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds.
    Time,
    /// Bytes per second.
    Rate,
    /// Bytes.
    Size,
    /// A number of things.
    Count,
}

impl Unit {
    /// A value with three digits, in the multiple of the unit that suits it.
    pub(crate) fn show(self, value: f64) -> String {
        let (steps, base): (&[&str], f64) = match self {
            Self::Time => (&["µs", "ms", "s"], 1e-6),
            Self::Rate => (&["kB/s", "MB/s", "GB/s"], 1e3),
            Self::Size => (&["B", "kB", "MB", "GB"], 1.0),
            Self::Count => return format!("{value:.0}"),
        };
        let mut scaled = value / base;
        let mut step = 0;
        while scaled.abs() >= 999.5 && step + 1 < steps.len() {
            scaled /= 1e3;
            step += 1;
        }
        format!("{} {}", three_digits(scaled), steps[step])
    }
}

/// A number with three digits that count.
pub(crate) fn three_digits(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// At least one value.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// What it is of.
    pub(crate) unit: Unit,
    /// In ascending order.
    sorted: Vec<f64>,
}

impl Sample {
    /// These values; none, if there are none.
    pub(crate) fn new(unit: Unit, mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let sorted = values;
        (!sorted.is_empty()).then_some(Self { unit, sorted })
    }

    /// These times; none, if there are none.
    pub(crate) fn of_times(times: &[Duration]) -> Option<Self> {
        let seconds = times.iter().map(Duration::as_secs_f64).collect();
        Self::new(Unit::Time, seconds)
    }

    /// How many there are.
    pub(crate) fn runs(&self) -> usize {
        self.sorted.len()
    }

    /// The value that `percent` of all do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted[rank - 1]
    }

    /// The middle one, or the mean of the two that are.
    pub(crate) fn median(&self) -> f64 {
        let (half, odd) = (self.sorted.len() / 2, self.sorted.len() % 2 == 1);
        if odd {
            self.sorted[half]
        } else {
            f64::midpoint(self.sorted[half - 1], self.sorted[half])
        }
    }

    /// The smallest and the largest.
    pub(crate) fn range(&self) -> (f64, f64) {
        (self.sorted[0], self.sorted[self.sorted.len() - 1])
    }
}

/// A number of bytes per second.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64()
}

/// A number of bytes or things.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn amount(number: u64) -> f64 {
    number as f64
}
