//! From the call to the first output of a container, by a program that has run some before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tfnz::image::Image;
use tfnz::progress::Silent;
use tfnz::protocol::container::Stdio;
use tfnz::sdk::Node;
use tokio::io::AsyncReadExt as _;

use crate::archive::Archive;
use crate::bench::{Bench, ECHO};
use crate::contest::{Contender, contest};
use crate::embedded::Embedded;
use crate::report::{Bar, Section};
use crate::rootfs::Rootfs;
use crate::runc::Runc;
use crate::sample::Unit;

/// Name of the row.
pub(crate) const NAME: &str = "spawn";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let rootfs = Rootfs::busybox()?;
    let archive = bench.archive(&Archive::new("tf-bench-spawn", rootfs.clone(), &ECHO))?;
    let home = bench.directory(NAME)?;
    let embedded = Embedded::start(home.path())?;
    let runtime = &embedded.runtime;
    let (node, image) = runtime.block_on(async {
        let image = embedded
            .location
            .resolve(&archive.to_string_lossy())
            .await?;
        embedded
            .location
            .ensure_image_uploaded(&image, &Silent)
            .await?;
        anyhow::Ok((embedded.location.node().await?, image))
    })?;
    let runc = bench
        .directory("runc")
        .and_then(|directory| Runc::new(directory, &rootfs, &ECHO));
    let lines = contest(
        bench.rounds(50),
        Unit::Time,
        vec![
            Contender::new("tfnz::sdk, spawn", || {
                let took = runtime.block_on(first_output(&node, &image))?;
                Ok(took.as_secs_f64())
            })
            .bar(Bar::AtMost(0.010)),
            Contender::with("runc run", runc, |mut runc| {
                Box::new(move || Ok(runc.first_output()?.as_secs_f64()))
            })
            .bar(Bar::AtMost(1.0 / 3.0)),
        ],
    );
    Ok(vec![Section {
        row: NAME,
        what: "from the call to the first output of a container, warm".to_owned(),
        lines,
        notes: vec![
            "tf's containers have a network and Docker's system call filter, runc's here neither"
                .to_owned(),
        ],
    }])
}

/// Runs a container that says something, and returns the time until it does.
pub(super) async fn first_output(node: &Node, image: &Image) -> Result<Duration> {
    let stdio = Stdio {
        output: true,
        ..Stdio::default()
    };
    let began = Instant::now();
    let container = node.spawn(image).uploaded().stdio(stdio).start().await?;
    let process = container.first_process();
    let mut output = process.take_stdout().context("its output is attached")?;
    let length = output.read(&mut [0]).await?;
    let took = began.elapsed();
    let exit = process.wait().await;
    ensure!(length == 1, "it said nothing and ended: {exit:?}");
    // It may be gone already, with its first process.
    let _ = container.destroy().await;
    Ok(took)
}
