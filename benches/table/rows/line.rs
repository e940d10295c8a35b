//! A laptop and a server, a long line between them, and the ways from one to the other.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::Result;

use super::tunnel;
use crate::bench::Bench;
use crate::delay::Quality;
use crate::far_end;
use crate::guarded::Guarded;
use crate::netns::Netns;
use crate::remote::Remote;
use crate::ssh::{Forward, Server};
use crate::tf::{Running, Tf};
use crate::wire::Wire;

/// What the line is like each way if it loses nothing: a round trip takes twice the delay.
pub(super) const LONG: Quality = Quality {
    delay: Duration::from_millis(100),
    loss: 0.0,
    rate: 100_000_000 / 8,
    queue: Duration::from_millis(100),
};

/// Addresses of the two machines.
const LAPTOP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Ports of the server.
const LOCATION: SocketAddrV4 = SocketAddrV4::new(SERVER, 5555);
const SSHD: SocketAddrV4 = SocketAddrV4::new(SERVER, 22);
pub(super) const FAR_END: SocketAddrV4 = SocketAddrV4::new(SERVER, 7);

/// What congestion controls there are.
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

/// Whether the kernel has this congestion control.
pub(super) fn has_control(name: &str) -> Result<bool> {
    let available = fs::read_to_string(AVAILABLE)?;
    Ok(available.split_whitespace().any(|known| known == name))
}

/// A laptop and a server far away from it.
pub(super) struct Machines {
    wire: Wire,
    quality: Quality,
    pub(super) laptop: Netns,
    server: Netns,
}

impl Machines {
    /// With a line of this quality, where TCP has this congestion control.
    pub(super) fn new(quality: Quality, control: &str) -> Result<Self> {
        let (laptop, server) = (Netns::new()?, Netns::new()?);
        let ends = [(&laptop, LAPTOP), (&server, SERVER)];
        let wire = Wire::lay(ends, quality, control)?;
        Ok(Self {
            wire,
            quality,
            laptop,
            server,
        })
    }

    /// What the line is made of, and like.
    pub(super) fn note(&self) -> String {
        let Quality {
            delay, rate, queue, ..
        } = self.quality;
        format!(
            "two network namespaces, and between them {}: a round trip takes {:?}, {} Mbit/s, a queue of {queue:?}",
            self.wire.made_of(),
            2 * delay,
            rate * 8 / 1_000_000
        )
    }
}

/// The ways from the laptop to the far end, all open for as long as this is there.
pub(super) struct Ways {
    pub(super) tf: Running,
    pub(super) ssh: Result<Forward>,
    _tf: Tf,
    _location: Remote,
    _far_end: Guarded,
}

impl Ways {
    pub(super) fn open(bench: &Bench, machines: &Machines) -> Result<Self> {
        let Machines { laptop, server, .. } = machines;
        let archive = bench.archive(&tunnel::image()?)?;
        let log = bench.scratch().join("far-end.log");
        let far_end = server.run(|| far_end::start(FAR_END, &log))?;
        let home = bench.directory("location")?;
        let location = server.run(|| Remote::at(LOCATION, home))?;
        let home = bench.directory("laptop")?;
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
