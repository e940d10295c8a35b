//! What is measured.

mod busy;
mod line;
mod lossy;
mod memory;
mod sessions;
mod spawn;
mod starts;
mod tunnel;
mod update;
mod upload;
mod web;

use anyhow::{Result, bail};

use crate::bench::Bench;
use crate::report::Section;

/// One subject, which can be asked for by name.
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) what: &'static str,
    measure: fn(&Bench) -> Result<Vec<Section>>,
}

impl Row {
    /// Measures it. Where that is impossible, the result says why.
    pub(crate) fn run(&self, bench: &Bench) -> Vec<Section> {
        let measured = (self.measure)(bench);
        measured.unwrap_or_else(|why| vec![Section::missing(self.name, self.what, &why)])
    }
}

/// All of them, in the order in which they are shown.
pub(crate) const ALL: [Row; 11] = [
    Row {
        name: web::NAME,
        what: "from the command to a page on localhost",
        measure: web::measure,
    },
    Row {
        name: spawn::NAME,
        what: "from the call to the first output of a container",
        measure: spawn::measure,
    },
    Row {
        name: tunnel::THROUGHPUT,
        what: "one connection through a tunnel",
        measure: tunnel::measure_throughput,
    },
    Row {
        name: tunnel::LATENCY,
        what: "to and fro through a tunnel",
        measure: tunnel::measure_latency,
    },
    Row {
        name: lossy::NAME,
        what: "one connection through a tunnel, over a long line that loses packets",
        measure: lossy::measure,
    },
    Row {
        name: busy::NAME,
        what: "to and fro through a tunnel beside a download, over a long line",
        measure: busy::measure,
    },
    Row {
        name: memory::NAME,
        what: "memory of tf, idle and at work",
        measure: memory::measure,
    },
    Row {
        name: upload::NAME,
        what: "sending a large image, and sending it again",
        measure: upload::measure,
    },
    Row {
        name: update::NAME,
        what: "sending an image with one changed layer",
        measure: update::measure,
    },
    Row {
        name: sessions::NAME,
        what: "many clients at one location",
        measure: sessions::measure,
    },
    Row {
        name: starts::NAME,
        what: "a hundred containers, and what they leave",
        measure: starts::measure,
    },
];

/// Those that are named, or all.
pub(crate) fn choose(names: &[String]) -> Result<Vec<Row>> {
    for name in names {
        if !ALL.iter().any(|row| row.name == name) {
            let known = ALL.map(|row| row.name).join(", ");
            bail!("there is no row `{name}`: expected one of {known}");
        }
    }
    let chosen = |row: &Row| names.is_empty() || names.iter().any(|name| name == row.name);
    Ok(ALL.into_iter().filter(chosen).collect())
}
