//! Tests that run in a process of their own: to be killed, or because they count what a process has.

use std::path::PathBuf;
use std::process::{Child, Command};

use super::lab::{Netns, has_what_it_takes};
use crate::common::only;

/// Set for a test that is run again as a process of its own.
const ROLE: &str = "TF_TEST_NETWORK_ROLE";

/// Whether this process is there for one test.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Runs a test as a process of its own, in the network namespace of the calling thread. `module` is what `module_path!` says.
pub(crate) fn alone(module: &str, test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(only(module, test)).env(ROLE, "1");
    command
}

/// Runs a test as a process of its own, unless this is that process. Whether there is nothing left to do.
pub(crate) fn has_run_alone(module: &str, test: &str) -> bool {
    if is_alone() {
        return false;
    }
    if !has_what_it_takes() {
        return true;
    }
    let output = alone(module, test).output().expect("run this test");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stdout.contains(" 1 passed"),
        "{stdout}{stderr}"
    );
    true
}

/// A process that owns something. Dropping this kills it.
pub(crate) struct Owner(pub(crate) Child);

impl Owner {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("start a process"))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.kill().expect("kill a process");
        self.0.wait().expect("wait for a process");
    }
}

/// The threads that networks started in a process, as directories of `/proc`, and their names.
pub(crate) fn threads(process: &str) -> Vec<(PathBuf, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("list the threads");
    tasks
        .map(|entry| entry.expect("an entry").path())
        // A thread that has just ended has no name any more.
        .filter_map(|path| {
            Some((
                path.clone(),
                std::fs::read_to_string(path.join("comm")).ok()?,
            ))
        })
        .filter(|(_, name)| name.starts_with("tf-"))
        .collect()
}

/// The node's namespace of the only network of a process.
pub(crate) fn node_netns(process: &str) -> Netns {
    let threads = threads(process);
    let inside = threads.iter().find(|(_, name)| name == "tf-netns\n");
    let (path, _) = inside.expect("the thread that is in the node's namespace");
    Netns::open(&path.join("ns/net"))
}
