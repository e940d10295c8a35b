//! Sending an image of which one layer has changed, as after each change of a program.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::archive::Archive;
use crate::bench::{Bench, ECHO};
use crate::contest::{Contender, contest};
use crate::docker::Docker;
use crate::registry::Registry;
use crate::remote::Remote;
use crate::report::Section;
use crate::rootfs::Rootfs;
use crate::sample::Unit;
use crate::ssh;
use crate::tf::Tf;

/// Name of the row.
pub(crate) const NAME: &str = "update";

/// Bytes of the layer that stays as it is, and of the one that changes.
const BYTES: (u64, u64) = (300_000_000, 10_000_000);

/// The same with `--quick`.
const BYTES_QUICK: (u64, u64) = (30_000_000, 1_000_000);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let docker = bench.docker()?;
    let (constant, changing) = bench.pick(BYTES, BYTES_QUICK);
    let versions = Versions::new(bench, docker);

    let location = Remote::start(bench.directory("location")?)?;
    let tf = location
        .join(bench.directory(NAME)?)?
        .with_docker(docker.host());
    let server = Docker::start(&bench.scratch().join("server"), "server").and_then(|server| {
        let ssh = ssh::Server::start(bench.directory("ssh")?)?;
        Ok((server, ssh))
    });
    let registry = bench
        .directory("registry")
        .and_then(|directory| Registry::start(docker, directory));
    let [mut ours, mut piped, mut pushed, mut saved] = [0; 4];
    let lines = contest(
        bench.rounds(5),
        Unit::Time,
        vec![
            Contender::new("tfcache", || {
                let image = versions.next(&mut ours)?;
                Ok(send(&tf, &image)?.as_secs_f64())
            }),
            Contender::with("docker save | ssh docker load", server, |(server, ssh)| {
                let versions = &versions;
                Box::new(move || {
                    let image = versions.next(&mut piped)?;
                    Ok(pipe(docker, &ssh, &server, &image)?.as_secs_f64())
                })
            }),
            Contender::with("docker push", registry, |registry| {
                let versions = &versions;
                Box::new(move || {
                    let image = versions.next(&mut pushed)?;
                    Ok(push(docker, &registry, &image)?.as_secs_f64())
                })
            }),
            Contender::new("docker save, and nothing else", || {
                let image = versions.next(&mut saved)?;
                Ok(save(docker, &image)?.as_secs_f64())
            }),
        ],
    );
    Ok(vec![Section {
        row: NAME,
        what: format!(
            "an image of {constant} bytes that are there already and {changing} that are new"
        ),
        lines,
        notes: vec![
            "the location, the other Docker daemon and the registry are on loopback, where bytes that need not be sent cost little"
                .to_owned(),
        ],
    }])
}

/// The versions of an image, each of which the Docker daemon has once it was asked for.
struct Versions<'a> {
    bench: &'a Bench,
    docker: &'a Docker,
    loaded: RefCell<BTreeSet<String>>,
}

impl<'a> Versions<'a> {
    fn new(bench: &'a Bench, docker: &'a Docker) -> Self {
        let loaded = RefCell::default();
        Self {
            bench,
            docker,
            loaded,
        }
    }

    /// Name of the version after `last`.
    fn next(&self, last: &mut u64) -> Result<String> {
        *last += 1;
        let name = format!("tf-bench-update-{last}");
        if !self.loaded.borrow().contains(&name) {
            let (constant, changing) = self.bench.pick(BYTES, BYTES_QUICK);
            let base = Rootfs::busybox()?.noise("usr/lib/constant", constant);
            let program = Rootfs::default().seeded_noise("usr/bin/program", changing, *last);
            let image = Archive::new(&name, base, &ECHO).layer(program);
            let archive = self.bench.archive(&image)?;
            let input = archive.to_string_lossy();
            self.docker.run(&["load", "--quiet", "--input", &input])?;
            std::fs::remove_file(&archive)?;
            self.loaded.borrow_mut().insert(name.clone());
        }
        Ok(name)
    }
}

fn send(tf: &Tf, image: &str) -> Result<Duration> {
    let began = Instant::now();
    let status = tf.command().args(["cache", "add", image]).status();
    let status = status.context("run tf")?;
    ensure!(status.success(), "tf cache failed: {status}");
    Ok(began.elapsed())
}

fn pipe(docker: &Docker, ssh: &ssh::Server, server: &Docker, image: &str) -> Result<Duration> {
    let began = Instant::now();
    let mut save = docker
        .command(&["save", image])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("run docker save")?;
    let saved = save.stdout.take().context("the output of docker save")?;
    let host = format!("DOCKER_HOST={}", server.host());
    let words = ssh.words(&[], &["env", &host, "docker", "load", "--quiet"]);
    let output = Command::new(&words[0])
        .args(&words[1..])
        .stdin(saved)
        .output()
        .context("run ssh")?;
    let took = began.elapsed();
    let saved = save.wait()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        saved.success() && output.status.success(),
        "docker save: {saved}, docker load: {}",
        said.trim()
    );
    Ok(took)
}

/// What whoever wants a layer of an image from a Docker daemon has to wait for: it has no other way to hand one out.
fn save(docker: &Docker, image: &str) -> Result<Duration> {
    let began = Instant::now();
    let saved = docker
        .command(&["save", image])
        .stdout(Stdio::null())
        .status();
    ensure!(
        saved.context("run docker save")?.success(),
        "docker save failed"
    );
    Ok(began.elapsed())
}

fn push(docker: &Docker, registry: &Registry, image: &str) -> Result<Duration> {
    let name = registry.name(image);
    // A name of its own for each version, of one repository: what this has already is not sent again.
    let name = name.replace("-update-", "-update:");
    let began = Instant::now();
    docker.run(&["tag", image, &name])?;
    docker.run(&["push", "--quiet", &name])?;
    Ok(began.elapsed())
}
