//! Nothing is left, however `tf` ends: on a machine of its own, whatever is there afterwards and was not before is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use nix::sys::signal::{Signal, kill};

use crate::common::{PATIENCE, Program, eventually};
use crate::system::fixture::{Fixture, busybox};
use crate::system::machine::{Machine, entered};
use crate::system::session::Session;

/// A container's program that has children, of which one ignores what it can, and goes on for ever.
const STUBBORN: &str = "trap '' TERM INT HUP; sleep 100000 & (trap '' TERM INT HUP; while :; do sleep 1; done) & \
                        echo x >/made; echo up; while :; do sleep 1; done";

/// What there is in a directory, however deep.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&path));
        }
        found.insert(path.display().to_string());
    }
    found
}

/// A machine that `tf` has been used on before, so that what it keeps is there; and what was there then.
struct Used {
    machine: Machine,
    state: tempfile::TempDir,
    inventory: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Used {
    fn new() -> Option<Self> {
        let machine = Machine::new()?;
        let state = tempfile::tempdir().expect("temporary directory");
        let before = machine.inventory();
        let mut used = Self {
            machine,
            state,
            inventory: before,
            files: BTreeSet::new(),
        };
        for image in [busybox(), "hello"] {
            used.tf().args(["cache", image]).run().code(0);
        }
        used.tf().args([busybox(), "true"]).run().code(0);
        used.assert_clean("the first run");
        used.files = used.state_files();
        Some(used)
    }

    fn tf(&self) -> Program {
        self.machine.tf().env("TF_STATE", self.state.path())
    }

    fn counted_tf(&self) -> Program {
        let state = self.state.path();
        self.machine.counted_tf().env("TF_STATE", state)
    }

    fn stubborn(&self) -> Session {
        let arguments = ["-p", "8080:80", busybox(), "sh", "-c", STUBBORN];
        let mut session = Session::start(self.tf().args(arguments)).beside_others();
        session.prints("up");
        session
    }

    /// Layers are unpacked when they are first used, and databases have their journals.
    fn state_files(&self) -> BTreeSet<String> {
        let mut files = files(self.state.path());
        files.retain(|path| !path.contains("location.db"));
        files
    }

    /// That what is looked for afterwards is found as long as it is there.
    #[track_caller]
    fn assert_in_use(&self) {
        let now = self.machine.inventory();
        let added: Vec<_> = now.difference(&self.inventory).collect();
        for kind in [
            "process ",
            "link tfnz-",
            "filter ",
            "cgroup ",
            "file /run/20ft/",
        ] {
            let found = added.iter().any(|line| line.starts_with(kind));
            assert!(found, "no `{kind}` in {added:#?}");
        }
    }

    /// Waits until no process is left.
    #[track_caller]
    fn assert_no_process(&self) {
        eventually(PATIENCE, || {
            let now = self.machine.inventory();
            let mut left = now.difference(&self.inventory);
            (!left.any(|line| line.starts_with("process "))).then_some(())
        });
    }

    #[track_caller]
    fn assert_clean(&self, what: &str) {
        self.machine
            .assert_as_before(&self.inventory, &format!("after {what}"));
        if !self.files.is_empty() {
            let files = self.state_files();
            let left: Vec<_> = files.difference(&self.files).collect();
            assert!(left.is_empty(), "left after {what}: {left:#?}");
        }
    }
}

#[test]
fn nothing_is_left_after_a_signal_or_the_containers_end() {
    let Some(used) = Used::new() else { return };
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let session = used.stubborn();
        used.assert_in_use();
        kill(entered(&session), signal).expect("it runs");
        let ended = session.end().content();
        assert_eq!(ended.status.signal(), Some(signal as i32), "{ended:?}");
        used.assert_clean(signal.as_str());
    }
    used.tf()
        .args([busybox(), "sh", "-c", "sleep 1000 & exit 4"])
        .run()
        .code(4);
    used.assert_clean("its own end");
    used.tf()
        .args([busybox(), "/no/such/program"])
        .run()
        .code(127);
    used.assert_clean("a start that failed");
}

#[test]
fn after_kill_9_no_process_is_left_and_the_rest_goes_with_the_next_start() {
    let Some(used) = Used::new() else { return };
    for _ in 0..3 {
        let session = used.stubborn();
        kill(entered(&session), Signal::SIGKILL).expect("it runs");
        session.end();
        used.assert_no_process();
    }
    used.tf().args([busybox(), "true"]).run().code(0);
    used.assert_clean("kill -9 and another start");
}

#[test]
fn kill_9_of_the_helper_ends_the_container_and_leaves_nothing() {
    let Some(used) = Used::new() else { return };
    let mut session = used.stubborn();
    // What makes containers is the only child of tf; the whole container goes with it.
    let tf = entered(&session);
    let helper = eventually(PATIENCE, || {
        let threads = fs::read_dir(format!("/proc/{tf}/task")).ok()?;
        threads.flatten().find_map(|thread| {
            let children = fs::read_to_string(thread.path().join("children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        })
    });
    kill(nix::unistd::Pid::from_raw(helper), Signal::SIGKILL).expect("it runs");
    session.says("error: ");
    session.end().code(125);
    used.assert_clean("kill -9 of the helper");
}

#[test]
fn a_hundred_starts_leave_nothing() {
    let Some(used) = Used::new() else { return };
    let mut before = None;
    // Ten at a time: what they share is shared by others, too.
    for round in 0..11 {
        let sessions: Vec<_> = (0..10)
            .map(|number| {
                let word = format!("{round}.{number}");
                let arguments = ["-p", "0:80", busybox(), "echo", &word];
                let program = used.counted_tf().args(arguments);
                (word, Session::start(program).beside_others())
            })
            .collect();
        for (word, session) in sessions {
            let ended = session.end().code(0).content();
            ended.printed(&format!("{word}\n"));
        }
        // What the kernel sets up once is there after the first ones.
        before.get_or_insert_with(|| used.machine.memory());
    }
    used.assert_clean("a hundred starts");
    // Less than a few pages for each: what the kernel keeps for others to come, not what anybody forgot.
    let before = before.expect("there were many rounds");
    let most = before + (100 << 15);
    eventually(PATIENCE, || (used.machine.memory() < most).then_some(()));
}

#[test]
fn a_place_whose_interface_is_still_there_is_passed_over() {
    let Some(used) = Used::new() else { return };
    // As the kernel shows it for a moment after an end.
    used.machine
        .shell("ip link add tfnz-0 type veth peer name other-end");
    let done = used.tf().args([busybox(), "echo", "works"]).run();
    assert_eq!(done.code(0).stdout, "works\n");
    used.machine.shell("ip link del tfnz-0");
    used.assert_clean("passing over a place");
}

#[test]
fn ten_containers_at_once_all_work() {
    let Some(used) = Used::new() else { return };
    let image = Fixture::busybox()
        .file("srv/page", 0o644, b"a page\n")
        .save();
    let mut sessions: Vec<_> = (0..10)
        .map(|number| {
            let port = format!("{}:80", 8000 + number);
            let arguments = [
                "-p",
                &port,
                image.path(),
                "httpd",
                "-f",
                "-p",
                "80",
                "-h",
                "/srv",
            ];
            Session::start(used.tf().args(arguments)).beside_others()
        })
        .collect();
    for session in &mut sessions {
        session.port(80);
    }
    for number in 0..10 {
        let url = format!("http://127.0.0.1:{}/page", 8000 + number);
        let page = used.machine.shell(&format!("busybox wget -q -O - {url}"));
        assert_eq!(page, "a page\n");
    }
    for session in sessions {
        kill(entered(&session), Signal::SIGINT).expect("it runs");
        session.end();
    }
    used.machine
        .assert_as_before(&used.inventory, "after ten at once");
}

#[test]
fn a_signal_at_any_moment_of_the_start_leaves_nothing() {
    let Some(used) = Used::new() else { return };
    for milliseconds in (0..100).step_by(5).chain((100..300).step_by(20)) {
        let arguments = ["-p", "8080:80", busybox(), "sh", "-c", STUBBORN];
        let mut session = Session::start(used.tf().args(arguments)).beside_others();
        let tf = entered(&session);
        // Not to wait for anything, but to be at another moment each time.
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        if !session.is_over() {
            kill(tf, Signal::SIGINT).expect("it runs");
        }
        session.end().content();
        used.assert_clean(&format!("a signal after {milliseconds} ms"));
    }
}

#[test]
fn nohup_survives_the_end_of_the_terminal() {
    let Some(used) = Used::new() else { return };
    let log = used.state.path().join("log");
    // The shell ends at once, as does a terminal that is closed.
    let script = "cd \"$0\"; nohup \"$1\" --offset 8000 --json web.json hello >log 2>&1 & echo $!";
    let state = used.state.path().to_str().expect("a plain path");
    let arguments = ["-c", script, state, env!("CARGO_BIN_EXE_tf")];
    let program = used
        .machine
        .program("sh")
        .env("TF_STATE", state)
        .args(arguments);
    let id = program.run().code(0).stdout;
    let id = id.trim();
    eventually(PATIENCE, || {
        fs::read_to_string(&log)
            .ok()?
            .contains("-> 80/tcp")
            .then_some(())
    });
    let page = || {
        used.machine
            .shell("busybox wget -q -O - http://127.0.0.1:8080/")
    };
    assert!(page().contains("<html"));
    used.machine.shell(&format!("kill -HUP {id}"));
    // It would be gone by the time that it has answered a few times.
    for _ in 0..20 {
        assert!(page().contains("<html"));
    }
    let web = fs::read_to_string(used.state.path().join("web.json")).expect("it is there");
    let web: serde_json::Value = serde_json::from_str(&web).expect("JSON");
    assert_eq!(web["tunnels"]["80"], 8080);
    used.machine.shell(&format!("kill -TERM {id}"));
    eventually(PATIENCE, || {
        (!used.state.path().join("web.json").exists()).then_some(())
    });
    used.machine
        .assert_as_before(&used.inventory, "after nohup");
}

#[test]
fn a_second_signal_does_not_wait() {
    let Some(used) = Used::new() else { return };
    let session = used.stubborn();
    let tf = entered(&session);
    // A cleanup that takes for ever: who would have to do it stands still.
    let processes = || {
        used.machine.shell("for p in /proc/[0-9]*; do grep -q _[_]shim $p/cmdline && echo ${p#/proc/} || :; done 2>/dev/null")
    };
    let stopped: Vec<String> = processes().lines().map(str::to_owned).collect();
    assert!(
        !stopped.is_empty(),
        "there is no process that makes containers"
    );
    used.machine
        .shell(&format!("kill -STOP {}", stopped.join(" ")));
    kill(tf, Signal::SIGINT).expect("it runs");
    // Signals that come while one is being delivered are one, so it is said again.
    eventually(PATIENCE, || kill(tf, Signal::SIGINT).is_err().then_some(()));
    session.end();
    // A start while the last process is about to go would leave the rest to the one after it.
    used.assert_no_process();
    used.tf().args([busybox(), "true"]).run().code(0);
    used.assert_clean("leaving at once and another start");
}
