//! The image that a program makes of itself, run from nothing but its own files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tfnz::image::hello;

use crate::common::PATIENCE;
use crate::common::docker::{in_path, needs};
use crate::common::images::read_whole;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs the program as the first process of namespaces of its own, with a directory as its root.
const RUN: &str = r#"ip link set lo up && hostname tf-hello-test && exec chroot "$@""#;

/// The image's own program is the test program here, and this test its verb.
#[tokio::test]
async fn the_program_serves_its_page_as_first_process_and_ends_when_asked() {
    const CHILD: &str = "TF_TEST_HELLO";
    if std::env::var_os(CHILD).is_some() {
        return hello::serve().expect("serve");
    }
    for program in ["unshare", "nsenter", "chroot", "ip", "busybox"] {
        if !needs(in_path(program), &format!("the program {program}")) {
            return;
        }
    }
    if !needs(nix::unistd::geteuid().is_root(), "root") {
        return;
    }
    let root = tempfile::tempdir().expect("temporary directory");
    let image = hello::image(None).await.expect("image");
    unpack(&image, root.path()).await;

    let spawned = UNIX_EPOCH
        .elapsed()
        .expect("after the epoch")
        .as_micros()
        .to_string();
    let mut child = Command::new("unshare")
        .args([
            "--net",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            RUN,
            "sh",
        ])
        .arg(root.path())
        .args([hello::PROGRAM, "--exact", "--nocapture"])
        .arg("system::hello::the_program_serves_its_page_as_first_process_and_ends_when_asked")
        .env(CHILD, "1")
        .env(hello::SPAWNED_AT, spawned)
        .envs(
            image
                .description
                .config
                .env
                .iter()
                .filter_map(|variable| variable.split_once('=')),
        )
        .stdout(Stdio::piped())
        .spawn()
        .expect("run unshare");

    let deadline = Instant::now() + PATIENCE;
    let page = loop {
        let answer = first_process(child.id()).map(|process| ask(process, "/"));
        match answer {
            Some(answer) if answer.status.success() => break answer.stdout,
            _ => assert!(
                Instant::now() < deadline && child.try_wait().is_ok_and(|status| status.is_none())
            ),
        }
        std::thread::sleep(PAUSE);
    };
    let page = String::from_utf8(page).expect("text");
    for part in ["tf-hello-test", "Started in", env!("CARGO_PKG_VERSION")] {
        assert!(page.contains(part), "{page}");
    }
    let process = first_process(child.id()).expect("it runs");
    assert_eq!(ask(process, "/healthz").stdout, b"ok\n");
    assert!(!ask(process, "/nothing").status.success());

    let asked = Instant::now();
    let process = nix::unistd::Pid::from_raw(i32::try_from(process).expect("small"));
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM).expect("send signal");
    let output = child.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(asked.elapsed() < PATIENCE);
}

async fn unpack(image: &tfnz::image::Image, root: &Path) {
    let collected = read_whole(image).await;
    let content = collected.content(&image.description.layers[0].digest);
    tar::Archive::new(&content[..])
        .unpack(root)
        .expect("unpack");
}

/// The process that `unshare` has started.
fn first_process(unshare: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Fetches a page from inside the network namespace of a process.
fn ask(process: u32, path: &str) -> Output {
    Command::new("nsenter")
        .args([
            &format!("--net=/proc/{process}/ns/net"),
            "busybox",
            "wget",
            "-qO-",
        ])
        .arg(format!("http://127.0.0.1{path}"))
        .stderr(Stdio::null())
        .output()
        .expect("run nsenter")
}
