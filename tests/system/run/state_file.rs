//! `--json FILE`.

use std::fs;
use std::net::Ipv4Addr;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::{PATIENCE, eventually, tf};
use crate::system::fixture::{Fixture, busybox, can_run};
use crate::system::session::{Session, run};

#[test]
fn the_state_file_is_there_as_long_as_the_container() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("state.json");
    let shown = path.to_str().expect("a plain path");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut session = Session::start(tf().args(["--json", shown, "-p", "0:80", "hello"]));
        // It appears whole: whoever finds it can read it.
        let text = eventually(PATIENCE, || fs::read_to_string(&path).ok());
        let state: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(state["image"], "hello");
        assert_eq!(state["pid"], session.id().as_raw());
        assert_eq!(state["tunnels"]["80"], session.port(80));
        let ip = state["ip"].as_str().expect("text");
        ip.parse::<Ipv4Addr>().expect("an address");
        for id in ["container", "node"] {
            assert!(
                state[id].as_str().is_some_and(|id| !id.is_empty()),
                "{text}"
            );
        }
        session.end_by(signal);
        let left = fs::read_dir(directory.path()).expect("it is there").count();
        assert_eq!(left, 0, "after {signal}");
    }
}

#[test]
fn the_state_file_goes_with_the_containers_own_end() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("state.json");
    let shown = path.to_str().expect("a plain path");
    let mut session = Session::start(tf().args(["-i", "--json", shown, busybox(), "cat"]));
    eventually(PATIENCE, || path.exists().then_some(()));
    session.close_stdin();
    session.end().code(0);
    assert!(!path.exists());
}

#[test]
fn there_is_no_state_file_of_a_container_that_did_not_start() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("state.json");
    let shown = path.to_str().expect("a plain path");
    let image = Fixture::busybox().save();
    run(tf().args(["--json", shown, "-u", "nobody-here", image.path()])).code(125);
    let left = fs::read_dir(directory.path()).expect("it is there").count();
    assert_eq!(left, 0);
}
