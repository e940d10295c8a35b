//! Programs that serve: started in the background, with their log kept.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::Signal;

use super::{PATIENCE, Program, Running, eventually, tf};

/// A program that runs, and what it says on standard error.
pub(crate) struct Logged {
    running: Running,
    log: Arc<Mutex<String>>,
}

impl Logged {
    /// Starts a program. Its standard output goes nowhere, unless it was set.
    pub(crate) fn start(mut program: Program) -> Self {
        program.command().stderr(Stdio::piped());
        let mut running = program.spawn();
        let stderr = running.child().stderr.take().expect("it is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { running, log }
    }

    /// All that it has said.
    pub(crate) fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until it has said this, and returns all that it has said. Panics if it ends before.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> String {
        eventually(PATIENCE, || {
            let ended = self.running.child().try_wait().expect("it is a child");
            let log = self.log();
            assert!(
                ended.is_none() || log.contains(text),
                "it has ended ({ended:?}) without `{text}`:\n{log}"
            );
            log.contains(text).then_some(log)
        })
    }

    /// Waits for its end, which is to be with this status.
    #[track_caller]
    pub(crate) fn ends_with(&mut self, status: i32) {
        let ended = self.running.ended();
        assert_eq!(ended.code(), Some(status), "{}", self.log());
    }

    /// Asks it to end, which it is to do in good order.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.running.signal(Signal::SIGTERM);
        self.ends_with(0);
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.running.signal(Signal::SIGKILL);
        self.running.ended();
    }

    /// The program.
    pub(crate) fn running(&mut self) -> &mut Running {
        &mut self.running
    }
}

/// `tf location serve` on a state directory, with these further arguments, and the address that it listens on.
#[track_caller]
pub(crate) fn location(state: &Path, arguments: &[&str]) -> (Logged, SocketAddr) {
    let program = tf()
        .args(["location", "serve"])
        .args(arguments)
        .env("TF_STATE", state);
    let mut server = Logged::start(program);
    let log = server.says(" listens on ");
    let address = log
        .split_whitespace()
        .skip_while(|word| *word != "on")
        .nth(1)
        .and_then(|address| address.parse().ok());
    (server, address.expect("an address"))
}
