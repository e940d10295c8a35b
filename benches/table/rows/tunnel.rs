//! Tunnels: how much goes through one connection, and how long a few bytes take to and fro.

use anyhow::Result;

use crate::archive::Archive;
use crate::bench::Bench;
use crate::contest::{Contender, Rounds, contest};
use crate::far_end;
use crate::guarded::Guarded;
use crate::ports;
use crate::report::{Bar, Line, Section};
use crate::rootfs::Rootfs;
use crate::sample::{Unit, rate};
use crate::ssh::Forward;
use crate::tf::{Running, Tf};

/// Names of the rows.
pub(crate) const THROUGHPUT: &str = "tunnel";
pub(crate) const LATENCY: &str = "latency";

/// Bytes of one transfer.
const SIZE: u64 = 1 << 30;

/// The same with `--quick`.
const SIZE_QUICK: u64 = 1 << 27;

/// Round trips of one run.
const TRIPS: u32 = 2000;

/// What there is to say about `tf` in both rows.
const NOTE: &str = "tf's location and node are in the process of tf for now, so the link between them is in memory; \
                    ssh's server is a process of its own";

pub(super) fn measure_throughput(bench: &Bench) -> Result<Vec<Section>> {
    let size = bench.pick(SIZE, SIZE_QUICK);
    let read = |port| Ok(rate(size, far_end::read(port, size)?));
    let lines = Ways::open(bench)?.contest(bench.rounds(10), Unit::Rate, Bar::AtLeast(2.0), read);
    Ok(vec![Section {
        row: THROUGHPUT,
        what: format!("out of the container, one connection, {size} bytes"),
        lines,
        notes: vec![NOTE.to_owned()],
    }])
}

pub(super) fn measure_latency(bench: &Bench) -> Result<Vec<Section>> {
    let trip = |port| Ok(far_end::round_trip(port, TRIPS)?.as_secs_f64());
    let lines = Ways::open(bench)?.contest(bench.rounds(20), Unit::Time, Bar::AtMost(1.0), trip);
    Ok(vec![Section {
        row: LATENCY,
        what: format!("64 bytes to and fro, mean of {TRIPS} in each run"),
        lines,
        notes: vec![NOTE.to_owned()],
    }])
}

/// The ways to the far end, all open for as long as this is there.
struct Ways {
    tf: Running,
    _tf: Tf,
    ssh: Result<Forward>,
    bare: u16,
    _far_end: Guarded,
}

impl Ways {
    fn open(bench: &Bench) -> Result<Self> {
        let archive = bench.archive(&image()?)?;
        let tf = Tf::new(bench.directory(THROUGHPUT)?);
        let running = tf.far_end(&archive)?;
        let bare = ports::free()?;
        let far_end = far_end::start(bare, &bench.scratch().join("far-end.log"))?;
        let ssh = bench
            .directory("ssh")
            .and_then(|directory| Forward::to(bare, directory));
        Ok(Self {
            tf: running,
            _tf: tf,
            ssh,
            bare,
            _far_end: far_end,
        })
    }

    /// Measures the same on all of them.
    fn contest(
        self,
        rounds: Rounds,
        unit: Unit,
        bar: Bar,
        measure: impl Fn(u16) -> Result<f64>,
    ) -> Vec<Line> {
        let measure = &measure;
        let contenders = vec![
            Contender::new("tf", || measure(self.tf.port)),
            Contender::with("ssh -L", self.ssh, |ssh| {
                Box::new(move || measure(ssh.port()))
            })
            .bar(bar),
            Contender::new("no tunnel (TCP on loopback)", || measure(self.bare)),
        ];
        contest(rounds, unit, contenders)
    }
}

/// An image of the far end.
pub(super) fn image() -> Result<Archive> {
    let program = format!("/{}", far_end::PATH);
    let port = far_end::PORT.to_string();
    let command = [program.as_str(), far_end::VERB, &port];
    let image = Archive::new("tf-bench-far-end", Rootfs::far_end()?, &command);
    Ok(image.exposing(far_end::PORT))
}
