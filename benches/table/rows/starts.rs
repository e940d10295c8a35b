//! A hundred containers one after the other, and what is left of them.

use anyhow::Result;
use tfnz::progress::Silent;

use super::spawn::first_output;
use crate::archive::Archive;
use crate::bench::{Bench, ECHO};
use crate::embedded::Embedded;
use crate::leftovers::Leftovers;
use crate::memory::{available, resident};
use crate::report::{Bar, Found, Line, Section};
use crate::rootfs::Rootfs;
use crate::sample::{Sample, Unit, amount};

/// Name of the row.
pub(crate) const NAME: &str = "starts";

/// Containers.
const STARTS: u32 = 100;

/// The same with `--quick`.
const STARTS_QUICK: u32 = 10;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let starts = bench.pick(STARTS, STARTS_QUICK);
    let image = Archive::new("tf-bench-starts", Rootfs::busybox()?, &ECHO);
    let archive = bench.archive(&image)?;
    let home = bench.directory(NAME)?;
    let before = Leftovers::now(home.path());
    let free_before = available()?;

    let embedded = Embedded::start(home.path())?;
    let own = std::process::id();
    let (times, first, last) = embedded.runtime.block_on(async {
        let location = &embedded.location;
        let image = location.resolve(&archive.to_string_lossy()).await?;
        location.ensure_image_uploaded(&image, &Silent).await?;
        let node = location.node().await?;
        first_output(&node, &image).await?;
        let first = resident(own)?.all;
        let mut times = Vec::new();
        for _ in 0..starts {
            times.push(first_output(&node, &image).await?.as_secs_f64());
        }
        anyhow::Ok((times, first, resident(own)?.all))
    })?;
    drop(embedded);

    let free_after = available()?;
    let sample = Sample::new(Unit::Time, times);
    let late = sample.as_ref().map(|sample| sample.percentile(95));
    let late = late.and_then(|late| Sample::new(Unit::Time, vec![late]));
    let mut lines = vec![Line {
        who: "tfnz::sdk, spawn".to_owned(),
        further: false,
        bar: None,
        found: sample.map_or(Found::Missing("no runs".to_owned()), Found::Sample),
    }];
    lines.push(Line::further("95 of 100 are within", late));
    let mut notes =
        vec!["what others have started meanwhile on this machine counts as left, too".to_owned()];
    for (what, things) in before.remaining(home.path()) {
        let count = Sample::new(Unit::Count, vec![amount(things.len() as u64)]);
        lines.push(Line::further(format!("{what} left"), count).bar(Bar::AtMost(0.0)));
        notes.extend(things.iter().map(|thing| format!("left: {thing}")));
    }
    let size =
        |before: u64, after: u64| Sample::new(Unit::Size, vec![amount(after) - amount(before)]);
    lines.push(Line::further(
        "more memory in this process",
        size(first, last),
    ));
    lines.push(Line::further(
        "less memory free on the machine",
        size(free_after, free_before),
    ));
    Ok(vec![Section {
        row: NAME,
        what: format!("{starts} containers one after the other, to first output"),
        lines,
        notes,
    }])
}
