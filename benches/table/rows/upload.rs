//! Sending images: a large one to a location that has nothing, and the same again.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tfnz::progress::Silent;

use super::spawn::first_output;
use crate::archive::Archive;
use crate::bench::{Bench, ECHO};
use crate::contest::{Contender, contest};
use crate::docker::Docker;
use crate::embedded::Embedded;
use crate::report::{Bar, Section};
use crate::rootfs::Rootfs;
use crate::sample::{Unit, amount, rate};
use crate::tf::Tf;

/// Name of the row.
pub(crate) const NAME: &str = "upload";

/// Bytes that may be sent for an image that is there.
const AGAIN: f64 = 10e3;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    Ok(vec![send(bench)?, first_run(bench)?, again(bench)?])
}

fn send(bench: &Bench) -> Result<Section> {
    let (archive, size) = bench.large()?;
    let lines = contest(
        bench.rounds(5),
        Unit::Rate,
        vec![
            Contender::new("tf cache", || {
                let tf = Tf::new(bench.directory(NAME)?);
                let began = Instant::now();
                let status = tf
                    .command()
                    .args(["cache", "add"])
                    .arg(archive)
                    .status()
                    .context("run tf")?;
                ensure!(status.success(), "tf cache failed: {status}");
                Ok(rate(size, began.elapsed()))
            }),
            Contender::with("docker load", bench.docker(), |docker| {
                Box::new(move || {
                    let began = Instant::now();
                    load(docker, archive)?;
                    let took = began.elapsed();
                    docker.run(&["rmi", "large"])?;
                    Ok(rate(size, took))
                })
            }),
            Contender::new("a copy, and on disk", || {
                Ok(rate(size, copy(archive, &bench.scratch().join("copy"))?))
            }),
        ],
    );
    Ok(Section {
        row: NAME,
        what: format!("an image of {size} bytes, new to the location"),
        lines,
        notes: vec!["docker load verifies and unpacks, and does not wait for the disk".to_owned()],
    })
}

fn first_run(bench: &Bench) -> Result<Section> {
    let (archive, size) = bench.large()?;
    let lines = contest(
        bench.rounds(3),
        Unit::Time,
        vec![
            Contender::new("tf IMAGE", || {
                let tf = Tf::new(bench.directory(NAME)?);
                let mut command = tf.command();
                command.arg(archive);
                Ok(first_byte(command, Instant::now())?.as_secs_f64())
            }),
            Contender::with("docker load, docker run", bench.docker(), |docker| {
                Box::new(move || {
                    let began = Instant::now();
                    load(docker, archive)?;
                    let run = docker.command(&["run", "--rm", "large"]);
                    let took = first_byte(run, began)?;
                    docker.run(&["rmi", "large"])?;
                    Ok(took.as_secs_f64())
                })
            }),
        ],
    );
    Ok(Section {
        row: NAME,
        what: format!("first run of an image of {size} bytes, to its first output"),
        lines,
        notes: Vec::new(),
    })
}

fn again(bench: &Bench) -> Result<Section> {
    let image = Archive::new("tf-bench-again", Rootfs::busybox()?, &ECHO);
    let archive = bench.archive(&image)?;
    let home = bench.directory(NAME)?;
    let lines = contest(
        bench.rounds(5),
        Unit::Size,
        vec![
            Contender::new("second run", || {
                sent(home.path(), &archive)?;
                sent(home.path(), &archive)
            })
            .bar(Bar::AtMost(AGAIN)),
            Contender::new("first run", || {
                sent(bench.directory(NAME)?.path(), &archive)
            }),
        ],
    );
    Ok(Section {
        row: NAME,
        what: "bytes sent to the location by a whole session that runs an image".to_owned(),
        lines,
        notes: vec!["the image is one of busybox".to_owned()],
    })
}

/// Bytes that a session sends which runs an image once.
fn sent(home: &Path, archive: &Path) -> Result<f64> {
    let embedded = Embedded::start(home)?;
    embedded.runtime.block_on(async {
        let location = &embedded.location;
        let image = location.resolve(&archive.to_string_lossy()).await?;
        location.ensure_image_uploaded(&image, &Silent).await?;
        first_output(&location.node().await?, &image).await
    })?;
    Ok(amount(embedded.sent()))
}

fn load(docker: &Docker, archive: &Path) -> Result<()> {
    docker.run(&["load", "--quiet", "--input", &archive.to_string_lossy()])
}

/// Copies a file and waits until it is on disk.
fn copy(from: &Path, to: &Path) -> Result<Duration> {
    let began = Instant::now();
    fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    let took = began.elapsed();
    fs::remove_file(to)?;
    Ok(took)
}

/// Runs a command, and returns the time from `began` to its first output.
fn first_byte(mut command: Command, began: Instant) -> Result<Duration> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let read = child.stdout.as_mut().map(|out| out.read(&mut [0]));
    let took = began.elapsed();
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success() && matches!(read, Some(Ok(1))),
        "{}: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(took)
}
