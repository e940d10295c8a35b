//! A tunnel over a line that is long and loses packets: how much of what TCP gets there is left.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::tunnel;
use crate::bench::Bench;
use crate::contest::{Contender, contest};
use crate::delay::Quality;
use crate::far_end::{self, Source};
use crate::guarded::Guarded;
use crate::netns::Netns;
use crate::ports;
use crate::remote::Remote;
use crate::report::{Bar, Section};
use crate::sample::{Unit, rate};
use crate::ssh::{Forward, Server};
use crate::tf::{Running, Tf};
use crate::wire::Wire;

/// Name of the row.
pub(crate) const NAME: &str = "lossy";

/// What the line is like each way: a round trip takes twice the delay.
const QUALITY: Quality = Quality {
    delay: Duration::from_millis(100),
    loss: 0.01,
    rate: 100_000_000 / 8,
    queue: Duration::from_millis(100),
};

/// Addresses of the two machines.
const LAPTOP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Ports of the server.
const LOCATION: SocketAddrV4 = SocketAddrV4::new(SERVER, 5555);
const SSHD: SocketAddrV4 = SocketAddrV4::new(SERVER, 22);
const FAR_END: SocketAddrV4 = SocketAddrV4::new(SERVER, 7);

/// What part of plain TCP is aimed at.
const AIM: f64 = 0.8;

/// Congestion controls, and the bytes that they take some seconds over: BBR takes no notice of loss, and CUBIC takes each for a
/// sign of congestion.
const CONTROLS: [(&str, u64); 2] = [("bbr", 40_000_000), ("cubic", 1_000_000)];

/// What those that there are can be read from.
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let available = fs::read_to_string(AVAILABLE)?;
    let is_available = |name: &str| available.split_whitespace().any(|known| known == name);
    CONTROLS
        .into_iter()
        .filter(|(name, _)| is_available(name))
        .map(|(name, size)| measure_with(bench, name, bench.pick(size, size / 8)))
        .collect()
}

/// Measures with one congestion control at both ends.
fn measure_with(bench: &Bench, control: &str, size: u64) -> Result<Section> {
    let machines = Machines::new(control)?;
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
    let Quality {
        delay,
        loss,
        rate,
        queue,
    } = QUALITY;
    Ok(Section {
        row: NAME,
        what: format!(
            "out of the container, {size} bytes each time, TCP with {control}, {delay:?} and {}% loss each way",
            loss * 100.0
        ),
        lines,
        notes: vec![
            format!(
                "two network namespaces, and between them {}: a round trip takes {:?}, {} Mbit/s, a queue of {queue:?}",
                machines.wire.made_of(),
                2 * delay,
                rate * 8 / 1_000_000
            ),
            "each keeps its connection for all runs, and with it what TCP has learned about the line; through tf and ssh -L, \
              new ones share one TCP connection anyway"
                .to_owned(),
        ],
    })
}

/// A laptop and a server far away from it.
struct Machines {
    wire: Wire,
    laptop: Netns,
    server: Netns,
}

impl Machines {
    fn new(control: &str) -> Result<Self> {
        let (laptop, server) = (Netns::new()?, Netns::new()?);
        let ends = [(&laptop, LAPTOP), (&server, SERVER)];
        let wire = Wire::lay(ends, QUALITY, control)?;
        Ok(Self {
            wire,
            laptop,
            server,
        })
    }
}

/// The ways from the laptop to the far end, all open for as long as this is there.
struct Ways {
    tf: Running,
    ssh: Result<Forward>,
    _tf: Tf,
    _location: Remote,
    _far_end: Guarded,
}

impl Ways {
    fn open(bench: &Bench, machines: &Machines) -> Result<Self> {
        let Machines { laptop, server, .. } = machines;
        let archive = bench.archive(&tunnel::image()?)?;
        let log = bench.scratch().join("far-end.log");
        let far_end = server.run(|| far_end::start(FAR_END, &log))?;
        let home = bench.directory("location")?;
        let location = server.run(|| Remote::at(LOCATION, home))?;
        let home = bench.directory(NAME)?;
        let tf = laptop.run(|| location.join(home))?;
        // The way there would take minutes.
        server.run(|| tf.cache(&archive))?;
        let running = laptop.run(|| tf.far_end(&archive))?;
        let ssh = bench.directory("ssh").and_then(|directory| {
            let sshd = server.run(|| Server::at(SSHD, directory))?;
            laptop.run(|| Forward::through(sshd, FAR_END))
        });
        Ok(Self {
            tf: running,
            ssh,
            _tf: tf,
            _location: location,
            _far_end: far_end,
        })
    }
}
