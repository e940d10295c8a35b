//! From the command to a page on localhost: the main job, as a whole.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::archive::Archive;
use crate::bench::Bench;
use crate::contest::{Contender, contest};
use crate::docker::Docker;
use crate::patience::until;
use crate::report::{Bar, Section};
use crate::rootfs::Rootfs;
use crate::sample::Unit;
use crate::tf::Tf;
use crate::{http, ports};

/// Name of the row.
pub(crate) const NAME: &str = "web";

/// Name of the image.
const IMAGE: &str = "tf-bench-web";

/// Port that it serves on.
const PORT: u16 = 80;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let command = ["/usr/sbin/nginx", "-c", "/etc/nginx.conf"];
    let image = Archive::new(IMAGE, Rootfs::nginx()?, &command).exposing(PORT);
    let archive = bench.archive(&image)?;
    let docker = bench.docker().and_then(|docker| {
        docker.run(&["load", "--input", &archive.to_string_lossy()])?;
        Ok(docker)
    });
    let tf = Tf::new(bench.directory(NAME)?);
    let (tf, name) = match &docker {
        Ok(docker) => (tf.with_docker(docker.host()), IMAGE.into()),
        Err(_) => (tf, archive),
    };
    let lines = contest(
        bench.rounds(20),
        Unit::Time,
        vec![
            Contender::new("tf IMAGE", || {
                let began = Instant::now();
                let mut running = tf.publish(&name, PORT)?;
                let port = running.port;
                running.until(|| http::get(port))?;
                let took = began.elapsed();
                running.end()?;
                Ok(took.as_secs_f64())
            }),
            Contender::with("docker run -p", docker, |docker| {
                Box::new(|| Ok(with_docker(docker, bench.scratch())?.as_secs_f64()))
            })
            .bar(Bar::AtMost(0.2)),
        ],
    );
    Ok(vec![Section {
        row: NAME,
        what: "from the command to HTTP 200 on localhost, layers cached".to_owned(),
        lines,
        notes: vec![
            "both run the same image of this machine's nginx, found in the same Docker daemon"
                .to_owned(),
        ],
    }])
}

fn with_docker(docker: &Docker, scratch: &Path) -> Result<Duration> {
    docker.in_its_network(|| {
        let port = ports::free()?;
        let log = scratch.join("docker-run.log");
        let publish = format!("127.0.0.1:{port}:{PORT}");
        let began = Instant::now();
        let mut child = docker
            .command(&["run", "--rm", "--name", IMAGE, "--publish", &publish, IMAGE])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("run docker")?;
        let answered = until(&mut child, &log, || http::get(port));
        let took = began.elapsed();
        answered?;
        docker.run(&["kill", IMAGE])?;
        child.wait()?;
        Ok(took)
    })
}
