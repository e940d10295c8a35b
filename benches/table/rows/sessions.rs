//! Many clients at one location: what each costs it, and how long one waits beside the others.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tfnz::config::Config;
use tfnz::progress::Silent;
use tfnz::sdk::{Container, Location, Tunnel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::tunnel;
use crate::bench::Bench;
use crate::far_end;
use crate::memory::resident;
use crate::ports;
use crate::remote::Remote;
use crate::report::{Found, Line, Section};
use crate::sample::{Sample, Unit, amount};
use crate::tf::Tf;

/// Name of the row.
pub(crate) const NAME: &str = "sessions";

/// Clients, and how many of them have a tunnel.
const CLIENTS: (usize, usize) = (1000, 200);

/// The same with `--quick`.
const CLIENTS_QUICK: (usize, usize) = (50, 10);

/// Users whose clients they are.
const USERS: usize = 20;

/// Files that this process may have open: links, tunnels and connections through them.
const FILES: u64 = 16 * 1024;

/// Pause between two round trips of a tunnel that is in use.
const PAUSE: Duration = Duration::from_millis(100);

/// How long clients are left alone before they count as idle.
const IDLE: Duration = Duration::from_secs(8);

/// Round trips that are measured.
const TRIPS: u32 = 5000;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, FILES.min(most), most)
        .context("open more files than usual")?;
    let (clients, used) = bench.pick(CLIENTS, CLIENTS_QUICK);
    let archive = bench.archive(&tunnel::image()?)?;
    let location = Remote::start(bench.directory("location")?)?;
    let users = (0..USERS.min(used))
        .map(|_| location.join(bench.directory("user")?))
        .collect::<Result<Vec<_>>>()?;
    let runtime = Runtime::new()?;
    let server = location.id()?;

    let before = settled(server)?;
    let sessions = runtime.block_on(connect(&users, clients))?;
    let idle = settled(server)?;
    let tunnels = runtime.block_on(tunnels(&sessions, users.len(), used, &archive))?;
    let measured = tunnels.first().context("no tunnel")?.1.local_addr().port();
    let mut others = JoinSet::new();
    for (_, tunnel) in &tunnels[1..] {
        let address = tunnel.local_addr();
        others.spawn_on(
            async move { use_tunnel(address.port()).await },
            runtime.handle(),
        );
    }
    let trips = far_end::round_trips(ports::local(measured), TRIPS)?;
    let in_use = resident(server)?.all;
    let broken = others.try_join_next();
    runtime.block_on(others.shutdown());
    drop(tunnels);
    runtime.block_on(async {
        for session in sessions {
            session.disconnect().await;
        }
    });
    anyhow::ensure!(broken.is_none(), "a tunnel broke: {broken:?}");

    let size = |bytes: f64| Sample::new(Unit::Size, vec![bytes]);
    let each = (amount(idle) - amount(before)) / amount(clients as u64);
    let trips = Sample::of_times(&trips).context("no round trips")?;
    let late = Sample::new(Unit::Time, vec![trips.percentile(99)]);
    let memory = Section {
        row: NAME,
        what: format!(
            "memory of a location for each of {clients} clients that are connected and idle"
        ),
        lines: vec![
            first("location", size(each)),
            Line::further("all of it, before", size(amount(before))),
            Line::further("with all clients", size(amount(idle))),
            Line::further(
                format!("with {used} containers and tunnels"),
                size(amount(in_use)),
            ),
        ],
        notes: vec![
            "of one process, its node included; the shims of containers are others".to_owned(),
        ],
    };
    let trip = Section {
        row: NAME,
        what: format!(
            "64 bytes to and fro through one of {used} tunnels, with {clients} clients connected"
        ),
        lines: vec![
            first("tf", Some(trips)),
            Line::further("99 of 100 are within", late),
        ],
        notes: vec![format!(
            "each of the others sends 64 bytes to and fro, too, and pauses for {PAUSE:?}; all clients are one process"
        )],
    };
    Ok(vec![memory, trip])
}

fn first(who: &str, sample: Option<Sample>) -> Line {
    let mut line = Line::further(who, sample);
    line.further = false;
    if let Found::Missing(why) = &mut line.found {
        "no value".clone_into(why);
    }
    line
}

/// What a process has in memory when it has been left alone for a while, in bytes.
fn settled(process: u32) -> Result<u64> {
    std::thread::sleep(IDLE);
    Ok(resident(process)?.all)
}

async fn connect(users: &[Tf], clients: usize) -> Result<Vec<Location>> {
    let mut sessions = Vec::new();
    for user in users.iter().cycle().take(clients) {
        let config = Config {
            home: user.home(),
            state: user.home().join("none"),
            cache: user.home().join("cache"),
            location: None,
            address: None,
            max_cache: None,
        };
        let connected = Location::connect(tfnz::dialler(&config).await?).await;
        let number = sessions.len();
        sessions.push(connected.with_context(|| format!("connect client {number}"))?);
    }
    Ok(sessions)
}

/// Starts a container of each of the first sessions, and a tunnel to it. The first session of each user sends the image.
async fn tunnels(
    sessions: &[Location],
    users: usize,
    count: usize,
    archive: &std::path::Path,
) -> Result<Vec<(Container, Tunnel)>> {
    let image = sessions[0].resolve(&archive.to_string_lossy()).await?;
    let mut tunnels = Vec::new();
    for (number, session) in sessions[..count].iter().enumerate() {
        if number < users {
            session.ensure_image_uploaded(&image, &Silent).await?;
        }
        let node = session.node().await?;
        let container = node.spawn(&image).uploaded().start().await;
        let container = container.with_context(|| format!("start container {number}"))?;
        container.wait_tcp(far_end::PORT, IDLE).await?;
        let tunnel = container.attach_tunnel(far_end::PORT, Some(0)).await?;
        tunnels.push((container, tunnel));
    }
    sleep(PAUSE).await;
    Ok(tunnels)
}

/// Sends a few bytes to and fro, again and again.
async fn use_tunnel(port: u16) -> Result<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.set_nodelay(true)?;
    connection.write_all(&[far_end::ECHO]).await?;
    let mut ping = [0; far_end::PING];
    let mut pauses = interval(PAUSE);
    loop {
        pauses.tick().await;
        connection.write_all(&ping).await?;
        connection.read_exact(&mut ping).await?;
    }
}
