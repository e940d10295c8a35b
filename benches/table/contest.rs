//! Measuring several things in turns, so that whatever else the machine does at the time falls on all of them.

use anyhow::Result;

use crate::report::{Bar, Found, Line};
use crate::sample::{Sample, Unit};

/// How often everybody has a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    /// Turns that do not count.
    pub(crate) warm_up: u32,
    /// Turns that do.
    pub(crate) counted: u32,
}

/// One turn of a contender, and what it came to.
type Turn<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// Somebody who takes part.
pub(crate) struct Contender<'a> {
    who: String,
    bar: Option<Bar>,
    turn: Result<Turn<'a>>,
}

impl<'a> Contender<'a> {
    /// Takes part with `turn`.
    pub(crate) fn new(who: impl Into<String>, turn: impl FnMut() -> Result<f64> + 'a) -> Self {
        let turn: Turn<'a> = Box::new(turn);
        Self {
            who: who.into(),
            bar: None,
            turn: Ok(turn),
        }
    }

    /// Takes part with what is made of `peer`, if there is one.
    pub(crate) fn with<P>(
        who: impl Into<String>,
        peer: Result<P>,
        turns: impl FnOnce(P) -> Turn<'a>,
    ) -> Self {
        Self {
            who: who.into(),
            bar: None,
            turn: peer.map(turns),
        }
    }

    /// What is aimed at: by the value of the first contender, by the ratio to any other.
    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }
}

/// Lets everybody have their turns. Who fails once has no further turn and no result.
pub(crate) fn contest(rounds: Rounds, unit: Unit, contenders: Vec<Contender<'_>>) -> Vec<Line> {
    let mut standing: Vec<(Contender<'_>, Vec<f64>)> = contenders
        .into_iter()
        .map(|contender| (contender, Vec::new()))
        .collect();
    for round in 0..rounds.warm_up + rounds.counted {
        for (contender, values) in &mut standing {
            let Ok(turn) = &mut contender.turn else {
                continue;
            };
            match turn() {
                Ok(value) if round >= rounds.warm_up => values.push(value),
                Ok(_) => {}
                Err(error) => contender.turn = Err(error),
            }
        }
    }
    standing
        .into_iter()
        .map(|(contender, values)| Line {
            who: contender.who,
            further: false,
            bar: contender.bar,
            found: match (contender.turn, Sample::new(unit, values)) {
                (Err(error), _) => Found::Missing(format!("{error:#}")),
                (Ok(_), Some(sample)) => Found::Sample(sample),
                (Ok(_), None) => Found::Missing("no run was counted".to_owned()),
            },
        })
        .collect()
}
