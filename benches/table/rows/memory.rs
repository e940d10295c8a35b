//! Memory: of a `tf` that holds a tunnel open, and of one that sends a large image.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::tunnel;
use crate::bench::Bench;
use crate::contest::{Contender, contest};
use crate::far_end;
use crate::memory::{most_so_far, peak, resident};
use crate::ports;
use crate::remote::Remote;
use crate::report::{Bar, Line, Section};
use crate::rootfs::Rootfs;
use crate::sample::{Sample, Unit, amount};
use crate::ssh::Forward;
use crate::tf::Tf;

/// Name of the row.
pub(crate) const NAME: &str = "memory";

/// Bytes that go through a tunnel before it is idle.
const TRAFFIC: u64 = 1 << 20;

/// How long something is left alone before it counts as idle.
const IDLE: Duration = Duration::from_secs(10);

/// Bytes of an image that is sent before a `tf` is idle.
const AFTER: u64 = 500_000_000;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    Ok(vec![idle(bench)?, sending(bench)?, after_sending(bench)?])
}

fn idle(bench: &Bench) -> Result<Section> {
    let archive = bench.archive(&tunnel::image()?)?;
    let location = Remote::start(bench.directory("location")?)?;
    let tf = location.join(bench.directory(NAME)?)?;
    let alone = Tf::new(bench.directory(NAME)?);
    let bare = ports::free()?;
    let _far_end = far_end::start(ports::local(bare), &bench.scratch().join("far-end.log"))?;
    let ssh = bench
        .directory("ssh")
        .and_then(|directory| Forward::to(bare, directory));
    let rounds = bench.rounds(5);
    let (mut shares, mut shims) = (Vec::new(), Vec::new());
    let used = |tf: &Tf| {
        let running = tf.far_end(&archive)?;
        far_end::read(ports::local(running.port), TRAFFIC)?;
        sleep(IDLE);
        anyhow::Ok(running)
    };
    let mut lines = contest(
        rounds,
        Unit::Size,
        vec![
            Contender::new("tf", || {
                let running = used(&tf)?;
                let own = resident(running.id())?;
                shares.push(amount(own.share));
                running.end()?;
                Ok(amount(own.all))
            })
            .bar(Bar::AtMost(8e6)),
            Contender::with("ssh -L", ssh, |ssh| {
                Box::new(move || {
                    far_end::read(ports::local(ssh.port()), TRAFFIC)?;
                    sleep(IDLE);
                    Ok(amount(resident(ssh.client()?)?.all))
                })
            }),
            Contender::new("tf, its own location", || {
                let running = used(&alone)?;
                let own = resident(running.id())?;
                shims.push(amount(resident(running.shim()?)?.share));
                running.end()?;
                Ok(amount(own.all))
            }),
        ],
    );
    for values in [&mut shares, &mut shims] {
        values.drain(..values.len().min(rounds.warm_up as usize));
    }
    lines.push(Line::further(
        "tf, its share of shared pages",
        Sample::new(Unit::Size, shares),
    ));
    lines.push(Line::further(
        "the shim of a container, the share",
        Sample::new(Unit::Size, shims),
    ));
    Ok(Section {
        row: NAME,
        what: "resident, idle with a tunnel that has been used".to_owned(),
        lines,
        notes: vec!["the location is a process of its own, unless it is said".to_owned()],
    })
}

fn sending(bench: &Bench) -> Result<Section> {
    let (archive, size) = bench.large()?;
    let copy = bench.scratch().join("copy");
    let mut locations = Vec::new();
    let rounds = bench.rounds(3);
    let mut lines = contest(
        rounds,
        Unit::Size,
        vec![
            Contender::new("tf cache", || {
                // A new one each time, to which all has to be sent.
                let location = Remote::start(bench.directory("location")?)?;
                let tf = location.join(bench.directory(NAME)?)?;
                let mut child = tf.command().args(["cache", "add"]).arg(archive).spawn()?;
                let most = peak(&mut child)?;
                locations.push(amount(most_so_far(location.id()?)?));
                Ok(amount(most))
            })
            .bar(Bar::AtMost(32e6)),
            Contender::new("cat", || {
                let mut child = Command::new("cat")
                    .arg(archive)
                    .stdin(Stdio::null())
                    .stdout(File::create(&copy)?)
                    .spawn()
                    .context("run cat")?;
                Ok(amount(peak(&mut child)?))
            }),
            Contender::new("tf cache, its own location", || {
                let tf = Tf::new(bench.directory(NAME)?);
                let mut child = tf.command().args(["cache", "add"]).arg(archive).spawn()?;
                Ok(amount(peak(&mut child)?))
            }),
        ],
    );
    locations.drain(..locations.len().min(rounds.warm_up as usize));
    lines.push(Line::further(
        "the location, meanwhile",
        Sample::new(Unit::Size, locations),
    ));
    Ok(Section {
        row: NAME,
        what: format!("most at any time while sending an image of {size} bytes"),
        lines,
        notes: Vec::new(),
    })
}

/// Memory of a `tf` that has sent a large image and is idle now.
fn after_sending(bench: &Bench) -> Result<Section> {
    let size = bench.pick(AFTER, AFTER / 10);
    let mut image = tunnel::image()?.layer(Rootfs::default().noise("large", size));
    "tf-bench-after".clone_into(&mut image.name);
    let archive = bench.archive(&image)?;
    let lines = contest(
        bench.rounds(3),
        Unit::Size,
        vec![
            Contender::new("tf", || {
                let location = Remote::start(bench.directory("location")?)?;
                let tf = location.join(bench.directory(NAME)?)?;
                let running = tf.far_end(&archive)?;
                sleep(IDLE);
                let own = resident(running.id())?;
                running.end()?;
                Ok(amount(own.all))
            })
            .bar(Bar::AtMost(8e6)),
        ],
    );
    Ok(Section {
        row: NAME,
        what: format!("resident, idle after an image of {size} bytes was sent"),
        lines,
        notes: Vec::new(),
    })
}
