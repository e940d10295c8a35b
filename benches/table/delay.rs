//! What a long line does to packets: it loses some, is only so fast, and takes its time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a line is like, in each of its two directions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    /// How long a packet is on its way.
    pub(crate) delay: Duration,
    /// How many of all packets get lost: 0.01 is one of a hundred.
    pub(crate) loss: f64,
    /// Bytes per second.
    pub(crate) rate: u64,
    /// How long a packet waits at most until the line takes it; one that would wait longer gets lost, too.
    pub(crate) queue: Duration,
}

/// The packets on their way in one direction. A plain value: the time is an argument.
#[derive(Debug)]
pub(crate) struct Delay {
    quality: Quality,
    random: u64,
    /// Until when the line takes what it has been given.
    taken: Option<Instant>,
    /// Packets, and when they arrive.
    packets: VecDeque<(Instant, Box<[u8]>)>,
}

impl Delay {
    /// A line with nothing on it. What gets lost depends on the seed alone.
    pub(crate) fn new(quality: Quality, seed: u64) -> Self {
        Self {
            quality,
            random: seed,
            taken: None,
            packets: VecDeque::new(),
        }
    }

    /// Takes a packet that comes at this time.
    pub(crate) fn take(&mut self, packet: &[u8], now: Instant) {
        let Quality {
            delay,
            loss,
            rate,
            queue,
        } = self.quality;
        let begins = self.taken.map_or(now, |taken| taken.max(now));
        if begins - now > queue || self.random() < loss {
            return;
        }
        let ends = begins + Duration::from_nanos(packet.len() as u64 * 1_000_000_000 / rate);
        self.taken = Some(ends);
        self.packets.push_back((ends + delay, packet.into()));
    }

    /// The next packet that has arrived by this time.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Box<[u8]>> {
        let (_, packet) = self.packets.pop_front_if(|(at, _)| *at <= now)?;
        Some(packet)
    }

    /// How long until the next packet arrives, if one is on its way.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let (at, _) = self.packets.front()?;
        Some(at.saturating_duration_since(now))
    }

    /// The next of the random numbers between 0 and 1 (SplitMix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
    }
}
