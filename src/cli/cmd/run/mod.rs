//! `tf run IMAGE`: the main job.
//!
//! ```text
//! options ─▶ Prepared ─▶ connect ─▶ resolve ─▶ bind ports ─▶ upload ─▶ start ─▶ attach ─▶ until its end
//! ```
//!
//! Whatever can fail without a container fails before there is one. Everything that happens beside the container's program
//! (copying, announcing, waiting for the browser) happens in the one task that waits for its end, and so ends with it.

mod prepared;
mod ready;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::io::{stderr, stdout};

use self::prepared::Prepared;
use super::with_location;
use crate::cli::Context;
use crate::cli::args::Run;
use crate::cli::bars::Bars;
use crate::cli::bind::{Bound, bind};
use crate::cli::browser::Page;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::link_status;
use crate::cli::publish::Plan;
use crate::cli::state_file::{Reserved, State, StateFile};
use crate::cli::streams::{feed, pass_on};
use crate::cli::terminal::{self, RawMode, Resizes};
use crate::cli::timing::Timing;
use crate::embedded::Purpose;
use crate::protocol::container::{Exit, Stdio};
use crate::sdk::{Container, Location, Process, Tunnel, describe};
use crate::serve::notify::{READY, notify};

/// A local port that leads into the container.
struct Door {
    tunnel: Tunnel,
    /// What a person types to get there.
    address: String,
}

/// Runs a container until its end.
pub(super) async fn run(context: &Context, options: Run) -> Result<Ending, Failure> {
    let prepared = tokio::select! {
        prepared = Prepared::new(&options) => prepared?,
        signal = context.shutdown.requested() => return Ok(Ending::Interrupted(signal)),
    };
    for name in &prepared.unset {
        context.printer.warning(format_args!(
            "`-e {name}` has no effect: {name} is not set here"
        ));
    }
    let mut timing = Timing::new(context.began, "connect");
    let ended = with_location(context, Purpose::Run, async |location| {
        let ended = session(context, &options, prepared, location, &mut timing);
        let status = async {
            link_status::follow(&context.printer, location.status()).await;
            std::future::pending().await
        };
        tokio::select! {
            ended = ended => ended,
            ended = status => ended,
        }
    })
    .await;
    say_timing(context, &options, &mut timing);
    ended
}

/// Says where the time went, as far as it got, if that is asked for and has not been said yet.
fn say_timing(context: &Context, options: &Run, timing: &mut Timing) {
    if options.timing
        && let Some(table) = timing.tell()
    {
        context.printer.note(table);
    }
}

async fn session(
    context: &Context,
    options: &Run,
    prepared: Prepared,
    location: &Location,
    timing: &mut Timing,
) -> Result<Ending, Failure> {
    let printer = &context.printer;
    timing.begin("resolve");

    let image = location.resolve(&options.image).await?;
    let plan = prepared
        .ports
        .plan(&image.description.config.exposed_ports)?;
    let bound = bind(&plan.mappings).await?;
    say_skipped(context, &plan);
    timing.begin("upload");

    let bars = Arc::new(Bars::new(printer));
    let uploaded = location.ensure_image_uploaded(&image, &*bars).await;
    bars.clear();
    uploaded?;
    timing.begin("start");

    let node = location.node().await?;
    let stdio = prepared.spec.stdio;
    let starting = node
        .spawn(&image)
        .spec(prepared.spec)
        .uploaded()
        .progress(bars.clone());
    let started = starting.start().await;
    bars.clear();
    let container = started?;
    timing.take_out("unpack", container.started().unpack);
    // Nothing listens in a container that sleeps.
    if options.sleep || bound.is_empty() {
        timing.done();
        say_timing(context, options, timing);
    } else {
        timing.begin("ready");
    }
    printer.info(format_args!(
        "container {} runs on node {}",
        container.id(),
        container.node()
    ));

    let doors = open_doors(&container, bound);
    let state_file = prepared
        .state_file
        .map(|reserved| write_state(reserved, options, &container, &doors))
        .transpose()?;
    let raw = enter_raw(stdio)?;
    let process = container.first_process();
    let exit = tokio::select! {
        exit = until_end(process) => exit,
        failure = beside(context, options, prepared.page.as_ref(), &container, &doors, timing) => Err(failure),
    };
    // The terminal is for reading again before anything more is said on it.
    drop(raw);
    drop(state_file);
    let exit = exit?;
    say_end(context, options, &exit);
    Ok(Ending::of_program(&exit))
}

fn say_skipped(context: &Context, plan: &Plan) {
    for port in &plan.skipped {
        context.printer.note(format_args!(
            "port {port} is skipped: only TCP ports can be reached"
        ));
    }
}

fn open_doors(container: &Container, bound: Vec<Bound>) -> Vec<Door> {
    bound
        .into_iter()
        .map(|bound| Door {
            address: bound.address(),
            tunnel: container.attach(bound.listener, bound.mapping.remote),
        })
        .collect()
}

fn write_state(
    reserved: Reserved,
    options: &Run,
    container: &Container,
    doors: &[Door],
) -> Result<StateFile, Failure> {
    let mut tunnels = BTreeMap::new();
    for Door { tunnel, .. } in doors {
        tunnels
            .entry(tunnel.port())
            .or_insert(tunnel.local_addr().port());
    }
    reserved.write(&State {
        container: container.id().to_string(),
        image: options.image.clone(),
        node: container.node().to_string(),
        ip: container.ip().into(),
        tunnels,
        pid: std::process::id(),
    })
}

/// Raw mode, if what is typed goes to a terminal of the container.
fn enter_raw(stdio: Stdio) -> Result<Option<RawMode>, Failure> {
    if !stdio.stdin || stdio.terminal.is_none() {
        return Ok(None);
    }
    RawMode::enter()
        .map(Some)
        .map_err(|error| Failure::operation(format!("cannot use this terminal: {error}")))
}

/// Copies the output of the program until both it and the program have ended.
async fn until_end(process: &Process) -> Result<Exit, Failure> {
    let out = async {
        match process.take_stdout() {
            Some(from) => pass_on(from, stdout()).await,
            None => Ok(()),
        }
    };
    let err = async {
        match process.take_stderr() {
            Some(from) => pass_on(from, stderr()).await,
            None => Ok(()),
        }
    };
    let unwritable = |error: io::Error| {
        Failure::operation(format!("cannot pass on the container's output: {error}"))
    };
    let copied = async { tokio::try_join!(out, err).map_err(unwritable) };
    let (_, exit) = tokio::try_join!(copied, async { Ok(process.wait().await) })?;
    Ok(exit)
}

/// All that goes on while the program runs. Returns only for a reason to end it.
async fn beside(
    context: &Context,
    options: &Run,
    page: Option<&Page>,
    container: &Container,
    doors: &[Door],
    timing: &mut Timing,
) -> Failure {
    let process = container.first_process();
    let typing = async {
        if let Some(stdin) = process.take_stdin() {
            feed(stdin).await;
        }
    };
    let sizes = follow_size(process, options.streams.tty);
    let ready = async {
        // Nothing listens in a container that sleeps.
        if options.sleep {
            notify(READY);
        } else {
            ready::announce(&context.printer, container, doors, timing, options.timing).await;
        }
    };
    let browser = async {
        if let Some(page) = page {
            let tunnels: Vec<&Tunnel> = doors.iter().map(|door| &door.tunnel).collect();
            if let Err(failure) = page.open(container, &tunnels).await {
                context.printer.warning(failure);
            }
        }
    };
    let ((), (), (), ()) = tokio::join!(typing, sizes, ready, browser);
    std::future::pending().await
}

/// Gives the container's terminal the size of the caller's, whenever that changes.
async fn follow_size(process: &Process, terminal: bool) {
    if !terminal {
        return;
    }
    let Ok(mut resizes) = Resizes::new() else {
        tracing::warn!("changes of the terminal's size cannot be followed");
        return;
    };
    // It may have changed since the container was asked for.
    let mut size = terminal::size();
    loop {
        if let Err(error) = process.resize(size).await {
            tracing::debug!("the terminal keeps its size: {error}");
        }
        size = resizes.next().await;
    }
}

/// Says how the program ended, where its exit status alone would leave one guessing.
fn say_end(context: &Context, options: &Run, exit: &Exit) {
    match exit {
        Exit::Code(_) | Exit::Signal(_) => {
            context
                .printer
                .info(format_args!("ended: {}", describe(exit)));
        }
        Exit::OutOfMemory => {
            let limit = options.memory.as_deref().unwrap_or("its node's");
            context.printer.error(
                Failure::operation(format!("{} ({limit})", describe(exit)))
                    .hint("give it more with --memory"),
            );
        }
        Exit::NotFound(_) | Exit::NotExecutable(_) => context.printer.error(describe(exit)),
        Exit::Lost(why) => {
            let text = format_args!("the container is lost: {why}");
            context.printer.error(text);
        }
    }
}
