//! Typing beside a download, over a long line: how long what is typed waits for what is bulky.

use std::net::SocketAddrV4;
use std::thread;

use anyhow::{Context as _, Result};

use super::line::{FAR_END, LONG, Machines, Ways, has_control};
use crate::bench::Bench;
use crate::contest::{Contender, contest};
use crate::far_end::{self, Source};
use crate::ports;
use crate::report::{Bar, Section};
use crate::sample::{Sample, Unit};

/// Name of the row.
pub(crate) const NAME: &str = "busy";

/// Congestion controls that are measured with.
const CONTROLS: [&str; 2] = ["bbr", "cubic"];

/// Bytes that have come before the download counts as being at full speed.
const BEGINNING: u64 = 30_000_000;

/// Bytes of the whole download: more than comes while it lasts.
const ALL: u64 = 1 << 40;

/// Round trips of one run.
const TRIPS: u32 = 20;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for control in CONTROLS {
        if has_control(control)? {
            sections.push(measure_with(bench, control)?);
        }
    }
    Ok(sections)
}

/// Measures with one congestion control at both ends.
fn measure_with(bench: &Bench, control: &str) -> Result<Section> {
    let machines = Machines::new(LONG, control)?;
    let ways = Ways::open(bench, &machines)?;
    let beside = |at| machines.laptop.run(|| beside_a_download(at));
    let tf = ports::local(ways.tf.port);
    let contenders = vec![
        Contender::new("tf", || beside(tf)),
        Contender::with("ssh -L", ways.ssh, |ssh| {
            Box::new(move || beside(ports::local(ssh.port())))
        })
        .bar(Bar::AtMost(1.0)),
        Contender::new("plain TCP, two connections", || beside(FAR_END)),
    ];
    let lines = contest(bench.rounds(5), Unit::Time, contenders);
    Ok(Section {
        row: NAME,
        what: format!(
            "{} bytes to and fro beside a download, median of {TRIPS} in each run, TCP with {control}",
            far_end::PING
        ),
        lines,
        notes: vec![
            machines.note(),
            "ssh has 2 MiB of a connection under way at most, with which its download leaves a part of such a line unused, and \
              the queue in it empty"
                .to_owned(),
        ],
    })
}

/// Median time of round trips while something large is being read from the same place, in seconds.
fn beside_a_download(at: SocketAddrV4) -> Result<f64> {
    let mut download = Source::connect(at)?;
    download.read(BEGINNING)?;
    let rest = download.try_clone()?;
    let reader = thread::spawn(move || download.read(ALL));
    let trips = far_end::round_trips(at, TRIPS);
    rest.end()?;
    // How it ended is no news.
    let _ = reader.join();
    let sample = Sample::of_times(&trips?).context("no round trips")?;
    Ok(sample.median())
}
