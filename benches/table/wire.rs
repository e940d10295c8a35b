//! A long line between two network namespaces: what it carries comes late, and some of it never.
//!
//! That is what `tc netem` is for. Where the kernel has it not, this process carries the packets itself, between two TUN devices:
//!
//! ```text
//!   tun0 in one namespace ──▶ loss ──▶ rate, queue ──▶ delay ──▶ tun0 in the other      a thread for each direction
//! ```

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::delay::{Delay, Quality};
use crate::netns::Netns;
use crate::sys;

/// Name of its ends.
const DEVICE: &str = "wire0";

/// Packets that an end holds until they are read, however busy the machine is.
const BACKLOG: usize = 8192;

/// Longest packet.
const MTU: usize = 1500;

/// How long the end of a wire may go unnoticed.
const NOTICE: Duration = Duration::from_millis(100);

/// A wire, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Wire {
    carriers: Option<Carriers>,
}

impl Wire {
    /// Lays one between two namespaces. Each end has the address that is given with its namespace; TCP has this congestion
    /// control there.
    pub(crate) fn lay(
        ends: [(&Netns, Ipv4Addr); 2],
        quality: Quality,
        control: &str,
    ) -> Result<Self> {
        let carriers = match netem([ends[0].0, ends[1].0], quality) {
            Ok(()) => None,
            Err(_) => Some(Carriers::start([ends[0].0, ends[1].0], quality)?),
        };
        for ((netns, address), (_, peer)) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            netns.ip(&format!("address add {address} dev {DEVICE}"))?;
            netns.ip(&format!("link set {DEVICE} up"))?;
            // A namespace as such may be forbidden to choose.
            netns.ip(&format!("route add {peer} dev {DEVICE} congctl {control}"))?;
            netns.ip(&format!("route add default via {peer}"))?;
        }
        Ok(Self { carriers })
    }

    /// What it is made of.
    pub(crate) fn made_of(&self) -> &'static str {
        match self.carriers {
            None => "tc netem",
            Some(_) => "a delay line in the benchmark's process, since the kernel has no netem",
        }
    }
}

/// A pair of devices whose queues do what there is to do.
fn netem(ends: [&Netns; 2], quality: Quality) -> Result<()> {
    let Quality {
        delay,
        loss,
        rate,
        queue,
    } = quality;
    let (delay, loss, bits) = (delay.as_millis(), loss * 100.0, rate * 8);
    // Its queue is also where what is being delayed waits.
    let limit = u128::from(rate) * (quality.delay + queue).as_millis() / 1000 / MTU as u128;
    let made = (|| {
        ends[0].ip(&format!(
            "link add {DEVICE} type veth peer name {DEVICE} netns {}",
            ends[1].path().display()
        ))?;
        for end in ends {
            // It is packets that get lost, and not segments of many.
            end.ip(&format!("link set {DEVICE} gso_max_segs 1"))?;
            end.program(
                "tc",
                &format!(
                    "qdisc add dev {DEVICE} root netem delay {delay}ms loss {loss}% rate {bits}bit limit {limit}"
                ),
            )?;
        }
        Ok(())
    })();
    if made.is_err() {
        // It may not have got that far.
        let _ = ends[0].ip(&format!("link delete {DEVICE}"));
    }
    made
}

/// The threads that carry packets.
#[derive(Debug)]
struct Carriers {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Carriers {
    fn start(ends: [&Netns; 2], quality: Quality) -> Result<Self> {
        let mut devices = Vec::new();
        for end in ends {
            let device = end.run(|| sys::tun(DEVICE).context("make a TUN device"))?;
            end.ip(&format!("link set {DEVICE} mtu {MTU} txqueuelen {BACKLOG}"))?;
            devices.push(device);
        }
        let ended = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (seed, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
            let (from, to) = (devices[from].try_clone()?, devices[to].try_clone()?);
            let (ended, delay) = (Arc::clone(&ended), Delay::new(quality, seed as u64));
            threads.push(thread::spawn(move || carry(from, to, delay, &ended)));
        }
        Ok(Self { ended, threads })
    }
}

impl Drop for Carriers {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What was measured meanwhile has failed if it has.
            let _ = thread.join();
        }
    }
}

/// Carries packets one way.
fn carry(mut from: File, mut to: File, mut delay: Delay, ended: &AtomicBool) -> io::Result<()> {
    // However busy the machine is: a line is late by what it is long, and not by more.
    sys::hurry()?;
    let mut packet = [0; MTU];
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        while let Some(packet) = delay.due(now) {
            // An end that is not up takes nothing.
            let _ = to.write(&packet);
        }
        let wait = delay.wait(now).map_or(NOTICE, |wait| wait.min(NOTICE));
        let mut readable = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        ppoll(&mut readable, Some(TimeSpec::from_duration(wait)), None)?;
        loop {
            match from.read(&mut packet) {
                Ok(length) => delay.take(&packet[..length], Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // It is not up yet.
                Err(_) => {
                    thread::sleep(NOTICE);
                    break;
                }
            }
        }
    }
    Ok(())
}
