//! From the command to a page on localhost: the main job, as a whole.

use std::time::{Duration, Instant};

use anyhow::Result;

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
    let place = match &docker {
        Ok(_) => "the same Docker daemon",
        Err(_) => "an archive",
    };
    let mut phases = String::new();
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
                phases = running.timing()?;
                running.end()?;
                Ok(took.as_secs_f64())
            }),
            Contender::with("docker run -p", docker, |docker| {
                Box::new(|| Ok(with_docker(docker)?.as_secs_f64()))
            })
            .bar(Bar::AtMost(0.2)),
        ],
    );
    let mut notes = vec![format!(
        "the image is of this machine's nginx, and found in {place}"
    )];
    if !phases.is_empty() {
        notes.push(format!("the last run of tf: {phases}"));
    }
    Ok(vec![Section {
        row: NAME,
        what: "from the command to HTTP 200 on localhost, layers cached".to_owned(),
        lines,
        notes,
    }])
}

/// Runs the image detached, and asks for the page when the container has started. Docker opens the port before the container
/// has a network, and who asks then, as one does with `tf`, waits for the kernel to look for the container's address again:
/// a whole second.
fn with_docker(docker: &Docker) -> Result<Duration> {
    docker.in_its_network(|| {
        let port = ports::free()?;
        let publish = format!("127.0.0.1:{port}:{PORT}");
        let began = Instant::now();
        docker.run(&[
            "run",
            "--rm",
            "--detach",
            "--name",
            IMAGE,
            "--publish",
            &publish,
            IMAGE,
        ])?;
        let answered = until(|| Ok(()), || http::get(port));
        let took = began.elapsed();
        docker.run(&["kill", IMAGE])?;
        answered?;
        docker.wait_removed(IMAGE)?;
        Ok(took)
    })
}
