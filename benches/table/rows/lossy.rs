//! A tunnel over a line that is long and loses packets: how much of what TCP gets there is left.

use anyhow::{Result, anyhow};

use super::line::{FAR_END, LONG, Machines, Ways, has_control};
use crate::bench::Bench;
use crate::contest::{Contender, contest};
use crate::delay::Quality;
use crate::far_end::Source;
use crate::ports;
use crate::report::{Bar, Section};
use crate::sample::{Unit, rate};

/// Name of the row.
pub(crate) const NAME: &str = "lossy";

/// What part of all packets gets lost each way.
const LOSS: f64 = 0.01;

/// What part of plain TCP is aimed at.
const AIM: f64 = 0.8;

/// Congestion controls, and the bytes that they take some seconds over: BBR takes no notice of loss, and CUBIC takes each for a
/// sign of congestion.
const CONTROLS: [(&str, u64); 2] = [("bbr", 40_000_000), ("cubic", 1_000_000)];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for (control, size) in CONTROLS {
        if has_control(control)? {
            sections.push(measure_with(bench, control, bench.pick(size, size / 8))?);
        }
    }
    Ok(sections)
}

/// Measures with one congestion control at both ends.
fn measure_with(bench: &Bench, control: &str, size: u64) -> Result<Section> {
    let quality = Quality { loss: LOSS, ..LONG };
    let machines = Machines::new(quality, control)?;
    let ways = Ways::open(bench, &machines)?;
    let connect = |at| machines.laptop.run(|| Source::connect(at));
    let kept = |mut source: Source| move || Ok(rate(size, source.read(size)?));
    let anew = |at| Ok(rate(size, connect(at)?.read(size)?));
    let tf = ports::local(ways.tf.port);
    let ssh = ways.ssh.as_ref().map(|ssh| ports::local(ssh.port()));
    let ssh = ssh.map_err(|error| anyhow!("{error:#}")).and_then(connect);
    let contenders = vec![
        Contender::new("tf", kept(connect(tf)?)),
        Contender::new("plain TCP", kept(connect(FAR_END)?)).bar(Bar::AtLeast(AIM)),
        Contender::with("ssh -L", ssh, |ssh| Box::new(kept(ssh))),
        Contender::new("plain TCP, a new connection each", || anew(FAR_END)),
        Contender::new("tf, a new connection each", || anew(tf)),
    ];
    let lines = contest(bench.rounds(5), Unit::Rate, contenders);
    Ok(Section {
        row: NAME,
        what: format!(
            "out of the container, {size} bytes each time, TCP with {control}, {:?} and {}% loss each way",
            quality.delay,
            quality.loss * 100.0
        ),
        lines,
        notes: vec![
            machines.note(),
            "each keeps its connection for all runs, and with it what TCP has learned about the line; through tf and ssh -L, \
              new ones share one TCP connection anyway"
                .to_owned(),
        ],
    })
}
