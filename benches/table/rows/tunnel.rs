//! Tunnels: how much goes through one connection, and how long a few bytes take to and fro.

use anyhow::{Context as _, Result};

use crate::archive::Archive;
use crate::bench::Bench;
use crate::contest::{Contender, Rounds, contest};
use crate::far_end;
use crate::guarded::Guarded;
use crate::ports;
use crate::remote::Remote;
use crate::report::{Bar, Line, Section};
use crate::rootfs::Rootfs;
use crate::sample::{Sample, Unit, rate};
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
const NOTE: &str = "as with ssh, the location is a process of its own, and its node is in it; where tf is its own location, the links \
                    between client, location and node are in memory";

pub(super) fn measure_throughput(bench: &Bench) -> Result<Vec<Section>> {
    let size = bench.pick(SIZE, SIZE_QUICK);
    let read = |port| Ok(rate(size, far_end::read(ports::local(port), size)?));
    let lines = Ways::open(bench)?.contest(bench.rounds(10), Unit::Rate, Bar::AtLeast(2.0), read);
    Ok(vec![Section {
        row: THROUGHPUT,
        what: format!("out of the container, one connection, {size} bytes"),
        lines,
        notes: vec![NOTE.to_owned()],
    }])
}

pub(super) fn measure_latency(bench: &Bench) -> Result<Vec<Section>> {
    let trip = |port| {
        let trips = far_end::round_trips(ports::local(port), TRIPS)?;
        let sample = Sample::of_times(&trips).context("no round trips")?;
        Ok(sample.median())
    };
    let lines = Ways::open(bench)?.contest(bench.rounds(20), Unit::Time, Bar::AtMost(1.0), trip);
    Ok(vec![Section {
        row: LATENCY,
        what: format!("64 bytes to and fro, median of {TRIPS} in each run"),
        lines,
        notes: vec![NOTE.to_owned()],
    }])
}

/// The ways to the far end, all open for as long as this is there.
struct Ways {
    tf: Running,
    embedded: Running,
    ssh: Result<Forward>,
    bare: u16,
    _tf: [Tf; 2],
    _location: Remote,
    _far_end: Guarded,
}

impl Ways {
    fn open(bench: &Bench) -> Result<Self> {
        let archive = bench.archive(&image()?)?;
        let location = Remote::start(bench.directory("location")?)?;
        let tf = location.join(bench.directory(THROUGHPUT)?)?;
        let running = tf.far_end(&archive)?;
        let alone = Tf::new(bench.directory(THROUGHPUT)?);
        let embedded = alone.far_end(&archive)?;
        let bare = ports::free()?;
        let far_end = far_end::start(ports::local(bare), &bench.scratch().join("far-end.log"))?;
        let ssh = bench
            .directory("ssh")
            .and_then(|directory| Forward::to(bare, directory));
        Ok(Self {
            tf: running,
            embedded,
            ssh,
            bare,
            _tf: [tf, alone],
            _location: location,
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
            Contender::new("tf, its own location", || measure(self.embedded.port)),
        ];
        contest(rounds, unit, contenders)
    }
}

/// An image of the far end.
pub(super) fn image() -> Result<Archive> {
    let program = format!("/{}", far_end::PATH);
    let address = ports::local(far_end::PORT).to_string();
    let command = [program.as_str(), far_end::VERB, &address];
    let image = Archive::new("tf-bench-far-end", Rootfs::far_end()?, &command);
    Ok(image.exposing(far_end::PORT))
}
