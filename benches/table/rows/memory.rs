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
use crate::memory::{peak, resident};
use crate::ports;
use crate::report::{Bar, Line, Section};
use crate::sample::{Sample, Unit, amount};
use crate::ssh::Forward;
use crate::tf::Tf;

/// Name of the row.
pub(crate) const NAME: &str = "memory";

/// Bytes that go through a tunnel before it is idle.
const TRAFFIC: u64 = 1 << 20;

/// How long something is left alone before it counts as idle.
const IDLE: Duration = Duration::from_millis(500);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    Ok(vec![idle(bench)?, sending(bench)?])
}

fn idle(bench: &Bench) -> Result<Section> {
    let archive = bench.archive(&tunnel::image()?)?;
    let tf = Tf::new(bench.directory(NAME)?);
    let bare = ports::free()?;
    let _far_end = far_end::start(bare, &bench.scratch().join("far-end.log"))?;
    let ssh = bench
        .directory("ssh")
        .and_then(|directory| Forward::to(bare, directory));
    let rounds = bench.rounds(5);
    let (mut shares, mut shims) = (Vec::new(), Vec::new());
    let mut lines = contest(
        rounds,
        Unit::Size,
        vec![
            Contender::new("tf, its location and node included", || {
                let running = tf.far_end(&archive)?;
                far_end::read(running.port, TRAFFIC)?;
                sleep(IDLE);
                let own = resident(running.id())?;
                shares.push(amount(own.share));
                shims.push(amount(resident(running.shim()?)?.share));
                running.end()?;
                Ok(amount(own.all))
            }),
            Contender::with("ssh -L", ssh, |ssh| {
                Box::new(move || {
                    far_end::read(ssh.port(), TRAFFIC)?;
                    sleep(IDLE);
                    Ok(amount(resident(ssh.client()?)?.all))
                })
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
        "its shim, the share",
        Sample::new(Unit::Size, shims),
    ));
    Ok(Section {
        row: NAME,
        what: "resident, idle with a tunnel that has been used".to_owned(),
        lines,
        notes: vec!["8 MB are aimed at for a tf whose location is elsewhere".to_owned()],
    })
}

fn sending(bench: &Bench) -> Result<Section> {
    let (archive, size) = bench.large()?;
    let copy = bench.scratch().join("copy");
    let lines = contest(
        bench.rounds(3),
        Unit::Size,
        vec![
            Contender::new("tf cache, its location included", || {
                // A new one each time, to which all has to be sent.
                let tf = Tf::new(bench.directory(NAME)?);
                let mut child = tf.command().args(["cache", "add"]).arg(archive).spawn()?;
                Ok(amount(peak(&mut child)?))
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
        ],
    );
    Ok(Section {
        row: NAME,
        what: format!("most at any time while sending an image of {size} bytes"),
        lines,
        notes: Vec::new(),
    })
}
