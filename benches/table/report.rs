//! What was found, as the table that is printed.

use std::fmt;

use crate::sample::{Sample, three_digits};

/// Names of the columns.
pub(crate) fn header() -> String {
    let (runs, median, range, ratio, aim) = ("runs", "median", "min .. max", "tf / this", "aim");
    let nobody = "";
    format!("  {nobody:36}  {runs:>4}  {median:>10}  {range:24}  {ratio:>9}  {aim}")
}

/// What is aimed at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bar {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bar) => value <= bar,
            Self::AtLeast(bar) => value >= bar,
        }
    }

    fn show(self, value: f64, shown: impl Fn(f64) -> String) -> String {
        let met = if self.met(value) { "met" } else { "missed" };
        match self {
            Self::AtMost(bar) => format!("≤ {}: {met}", shown(bar)),
            Self::AtLeast(bar) => format!("≥ {}: {met}", shown(bar)),
        }
    }
}

/// What was found about a contender.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// Values.
    Sample(Sample),
    /// None, for this reason.
    Missing(String),
}

/// One contender.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// What ran.
    pub(crate) who: String,
    /// Whether it is a further value of `tf`, with which there is nothing to compare.
    pub(crate) further: bool,
    /// What is aimed at.
    pub(crate) bar: Option<Bar>,
    /// What was found.
    pub(crate) found: Found,
}

impl Line {
    /// A further value of `tf`.
    pub(crate) fn further(who: impl Into<String>, sample: Option<Sample>) -> Self {
        let none = || Found::Missing("it was not measured".to_owned());
        Self {
            who: who.into(),
            further: true,
            bar: None,
            found: sample.map_or_else(none, Found::Sample),
        }
    }

    /// What is aimed at.
    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    /// Its values.
    pub(crate) fn sample(&self) -> Option<&Sample> {
        match &self.found {
            Found::Sample(sample) => Some(sample),
            Found::Missing(_) => None,
        }
    }
}

/// One quantity: that of `tf` first, which the others are compared with.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    /// Name of the row that it is a part of.
    pub(crate) row: &'static str,
    /// What is measured.
    pub(crate) what: String,
    /// Who took part.
    pub(crate) lines: Vec<Line>,
    /// What one has to know to read it.
    pub(crate) notes: Vec<String>,
}

impl Section {
    /// A quantity that nobody has been measured by.
    pub(crate) fn missing(row: &'static str, what: &str, why: &anyhow::Error) -> Self {
        Self {
            row,
            what: what.to_owned(),
            lines: vec![Line {
                who: "tf".to_owned(),
                further: false,
                bar: None,
                found: Found::Missing(format!("{why:#}")),
            }],
            notes: Vec::new(),
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.row, self.what)?;
        let first = self.lines.first().and_then(Line::sample);
        for (index, line) in self.lines.iter().enumerate() {
            let who = &line.who;
            let sample = match &line.found {
                Found::Missing(why) => {
                    let why = why.lines().next().unwrap_or_default();
                    write!(out, "\n  {who:36}  not here: {why}")?;
                    continue;
                }
                Found::Sample(sample) => sample,
            };
            let (median, (least, most)) = (sample.median(), sample.range());
            let show = |value| sample.unit.show(value);
            let range = match sample.runs() {
                1 => String::new(),
                _ => format!("{} .. {}", show(least), show(most)),
            };
            let ratio = first
                .filter(|_| index > 0 && !line.further && median != 0.0)
                .map(|first| first.median() / median);
            let aim = match (line.bar, ratio) {
                (Some(bar), Some(ratio)) => bar.show(ratio, three_digits),
                (Some(bar), None) if index == 0 || line.further => bar.show(median, show),
                // Nothing is aimed at, or there is nothing to compare it with.
                _ => String::new(),
            };
            let (runs, median) = (sample.runs(), show(median));
            let ratio = ratio.map(three_digits).unwrap_or_default();
            let text =
                format!("  {who:36}  {runs:>4}  {median:>10}  {range:24}  {ratio:>9}  {aim}");
            write!(out, "\n{}", text.trim_end())?;
        }
        for note in &self.notes {
            write!(out, "\n  ({note})")?;
        }
        Ok(())
    }
}
