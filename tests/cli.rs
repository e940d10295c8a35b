//! What each verb prints and how it ends, as far as that needs neither root, nor Docker, nor a network.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

use crate::common::{PATIENCE, Program, eventually, tf, tfcache};

#[test]
fn without_arguments_there_is_help() {
    for (program, first) in [
        (
            tf(),
            "Run a container image somewhere else as if it were here\n",
        ),
        (tfcache(), "Make images available to the location\n"),
        (
            tf().args(["cache"]),
            "Make images available to the location",
        ),
    ] {
        let done = program.run().code(0).no_stderr();
        assert!(done.stdout.starts_with(first), "{}", done.stdout);
        assert!(done.stdout.contains("Usage: tf"), "{}", done.stdout);
    }
}

#[test]
fn help_is_for_the_verb_that_is_named() {
    for (arguments, part) in [
        (&["--help"][..], "tf [OPTIONS] VERB ..."),
        (&["help"], "tf [OPTIONS] VERB ..."),
        (&["run", "-h"], "--offset"),
        (&["--offset", "1", "--help"], "--offset"),
        (&["help", "run"], "--offset"),
        (&["cache", "ls", "--help"], "--json"),
    ] {
        let done = tf().args(arguments).run().code(0).no_stderr();
        assert!(done.stdout.contains(part), "{arguments:?}: {}", done.stdout);
    }
}

#[test]
fn the_version_is_that_of_the_crate() {
    let version = env!("CARGO_PKG_VERSION");
    for arguments in [&["--version"][..], &["-V"], &["-v", "--version"]] {
        let done = tf().args(arguments).run().code(0).no_stderr();
        assert_eq!(done.stdout, format!("tf {version}\n"));
    }
    let done = tfcache().args(["-V"]).run().code(0);
    assert_eq!(done.stdout, format!("tfcache {version}\n"));
}

#[test]
fn wrong_arguments_of_a_verb_are_2() {
    for arguments in [
        &["describe"][..],
        &["describe", "a", "b"],
        &["last-image", "--offset", "1"],
        &["cache", "rm"],
        &["cache", "ls", "--jsn"],
        &["-v"],
        &["describe", "-q", "-v", "a"],
    ] {
        let done = tf().args(arguments).run().code(2).no_stdout();
        done.says(&["error: ", "--help"]);
    }
    tfcache().args(["rm"]).run().code(2).no_stdout();
}

#[test]
fn wrong_arguments_of_run_are_125_as_1_and_2_are_the_programs() {
    for (arguments, said) in [
        (&["run"][..], "IMAGE"),
        (&["--ofset", "1", "x"], "'--offset'"),
        (&["--offset", "x", "x"], "expected a number from 0 to 65534"),
        (
            &["--offset", "-x", "x"],
            "expected a number from 0 to 65534",
        ),
        (&["--offset"], "--offset"),
        (&["--pids", "0", "x"], "expected a number of processes"),
        (&["--pids", "-1", "x"], "expected a number of processes"),
        (&["--path", "/p", "x"], "--browser"),
        (&["--offset", "-1", "x"], "from 0 to 65534"),
        (&["--offset", "65536", "x"], "from 0 to 65534"),
        (
            &["-p", "80", "x"],
            "hint: for a free local port, use -p 0:80",
        ),
        (&["--publish=-1:80", "x"], "expected [ADDR:]LOCAL:REMOTE"),
        (&["-p", "1:2", "-p", "1:3", "x"], "-p LOCAL:3"),
        (&["-e", "=1", "x"], "expected VAR=value"),
        (&["-e", "A=1", "-e", "A=2", "x"], "given twice"),
        (&["-f", "nothing", "x"], "expected SRC:DEST"),
        (&["-f", "/no/such/file:/etc/", "x"], "/no/such/file"),
        (&["--memory", "lots", "x"], "512m"),
        (&["--memory", "-1g", "x"], "512m"),
        (&["--linger", "-1h", "x"], "as in 90s"),
        (
            &["--location-ip", "x:y", "--location", "z", "x"],
            "HOST:PORT",
        ),
        (&["--cpus", "0", "x"], "as in 1.5"),
        (&["--cpus", "-1", "x"], "as in 1.5"),
        (&["-w", "here", "x"], "absolute path"),
        (&["-it", "x"], "hint: leave -t out"),
        (
            &["--browser", "--domain", "host.invalid", "x"],
            "/etc/hosts",
        ),
    ] {
        let done = tf().args(arguments).run().code(125).no_stdout();
        done.says(&["error: ", said]);
    }
}

#[test]
fn wrong_arguments_of_servers_and_services_are_2() {
    for (arguments, said) in [
        (&["location", "serve", "--listen", "a:b"][..], "ADDR:PORT"),
        (&["location", "serve", "--listen", ""], "ADDR:PORT"),
        (&["location", "serve", "--max-linger", "-1h"], "as in 90s"),
        (&["location", "serve", "--max-cache", "-1"], "512m"),
        (
            &["location", "serve", "--no-node", "--name", "a/b"],
            "expected letters",
        ),
        (
            &["location", "invite", "a", "--expires", "-1h"],
            "as in 90s",
        ),
        (&["location", "invite", "a", "--address", ""], "HOST:PORT"),
        (
            &["location", "invite", "a", "--address", "a:b"],
            "HOST:PORT",
        ),
        (&["location", "limits", "--sessions", "-1"], "`none`"),
        (&["node", "serve", "--join", "@"], "@FILE"),
        (&["node", "serve", "--location-ip", "a b"], "HOST:PORT"),
        (
            &["service", "install", "--print", "--memory", "lots", "x"],
            "512m",
        ),
        (
            &[
                "service",
                "install",
                "--print",
                "location",
                "--no-node",
                "--listen",
                "a:b",
            ],
            "ADDR:PORT",
        ),
        (
            &[
                "service",
                "install",
                "--print",
                "location",
                "--no-node",
                "--max-cache",
                "a",
            ],
            "512m",
        ),
    ] {
        let done = tf().args(arguments).run().code(2).no_stdout();
        done.says(&["error: ", said]);
    }
}

#[test]
fn the_help_that_is_pointed_to_is_that_of_the_verb() {
    for (arguments, help) in [
        (&["--ofset", "1", "x"][..], "'tf run --help'"),
        (&["run", "--ofset", "1", "x"], "'tf run --help'"),
        (&["cache", "rm"], "'tf cache rm --help'"),
        (
            &["location", "--location", "rm", "limit"],
            "'tf location --help'",
        ),
        (&["help", "x"], "'tf --help'"),
        (&["-v"], "'tf --help'"),
    ] {
        let done = tf().args(arguments).run().no_stdout();
        done.says(&[&format!("try {help}")]);
    }
    let done = tfcache().args(["rm"]).run().code(2);
    done.says(&["try 'tfcache rm --help'"]);
}

#[cfg(unix)]
#[test]
fn directories_that_cannot_be_used_are_named_with_their_variable() {
    for (variable, arguments, code) in [
        ("TF_HOME", &["describe", "hello"][..], 1),
        ("TF_HOME", &["hello"], 125),
        ("TF_HOME", &["locations"], 1),
        ("TF_STATE", &["describe", "hello"], 1),
        ("TF_STATE", &["location", "serve", "--no-node"], 1),
    ] {
        let done = tf().args(arguments).env(variable, "/dev/null");
        let done = done.run().code(code).no_stdout();
        done.says(&["/dev/null", "hint: ", variable]);
    }
    // What can be made again is done without.
    let done = tf()
        .args(["describe", "hello"])
        .env("TF_CACHE", "/dev/null");
    done.run().code(0);
}

#[test]
fn a_state_file_that_exists_is_refused_and_left_alone() {
    let program = tf();
    let path = program.file("state.json", "theirs");
    let shown = path.display().to_string();
    let program = program.args(["--json", &shown, "x"]);
    let (home, done) = run_and_keep_home(program);
    done.code(125)
        .no_stdout()
        .says(&["exists already", &shown, "hint: "]);
    let kept = fs::read_to_string(home.path().join("state.json")).expect("it is there");
    assert_eq!(kept, "theirs");
}

#[test]
fn a_location_without_an_account_is_refused() {
    for (arguments, code) in [
        (&["--location", "nowhere", "x"][..], 125),
        (&["--location", "nowhere", "describe", "x"], 1),
        (&["cache", "ls", "--location", "nowhere"], 1),
    ] {
        let done = tf().args(arguments).run().code(code).no_stdout();
        done.says(&["error: ", "`nowhere`"]);
    }
    let done = tf().args(["cache", "ls"]).env("TF_LOCATION", "nowhere");
    done.run().code(1).says(&["`nowhere`"]);
    let done = tf().args(["--location-ip", "192.0.2.1", "x"]);
    done.run()
        .code(125)
        .says(&["hint: name it with --location"]);
}

#[test]
fn quiet_is_silent_but_for_errors() {
    let done = tf().args(["-q", "--location", "nowhere", "describe", "x"]);
    let done = done.run().code(1).no_stdout();
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
}

#[test]
fn completions_are_offered_without_a_daemon() {
    let done = tf().args(["__complete", "images", "he"]).run();
    assert_eq!(done.code(0).no_stderr().stdout, "hello\n");
    let done = tf().args(["__complete", "images", "--", "--"]).run();
    assert_eq!(done.code(0).no_stderr().stdout, "");
}

#[test]
fn nobody_who_reads_standard_output_is_no_error() {
    for arguments in [&["--help"][..], &["__complete", "images"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut program = tf().args(arguments);
        let command = program.command();
        command.stdout(writer).stderr(Stdio::piped());
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_an_error() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let mut program = tf().args(["__complete", "images"]);
    let output = program.command().stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot write to standard output"), "{said}");
}

#[cfg(unix)]
#[test]
fn colour_is_for_terminals_that_want_it() {
    let colours = |variables: &[(&str, &str)]| {
        let mut program = tf().args(["--location", "nowhere", "describe", "x"]);
        for (name, value) in variables {
            program = program.env(name, value);
        }
        on_a_terminal(program).contains("\x1b[")
    };
    assert!(colours(&[("TERM", "xterm")]));
    assert!(colours(&[("TERM", "xterm"), ("NO_COLOR", "")]));
    assert!(!colours(&[("TERM", "xterm"), ("NO_COLOR", "1")]));
    assert!(!colours(&[("TERM", "dumb")]));
    let done = tf().args(["--location", "nowhere", "describe", "x"]);
    assert!(!done.env("TERM", "xterm").run().stderr.contains('\x1b'));
}

#[test]
fn a_description_is_json() {
    let done = tf().args(["describe", "hello"]).run().code(0).no_stderr();
    let value: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(value["config"]["exposed_ports"][0], "80/tcp", "{value:#}");
}

#[test]
fn without_a_daemon_there_is_no_last_image() {
    let done = tf().args(["last-image"]).run().code(1).no_stdout();
    done.says(&["error: ", "no-docker.sock"]);
    let done = tf().args(["describe", "."]).run().code(1).no_stdout();
    done.says(&["error: ", "no-docker.sock"]);
}

/// A registry that takes connections and never says a word.
fn silent_registry() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener
        .set_nonblocking(true)
        .expect("a listener can be asked without waiting");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, format!("127.0.0.1:{port}/image"))
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_by_that_signal() {
    use std::os::unix::process::ExitStatusExt as _;

    use nix::sys::signal::Signal;

    use std::io::Read as _;

    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    let options = [&[][..], &["-v"]];
    for (signal, options) in signals.iter().flat_map(|s| options.map(|o| (*s, o))) {
        let (registry, image) = silent_registry();
        let mut program = tf().args(options).args(["describe", &image]);
        program.command().stderr(Stdio::piped());
        let mut running = program.spawn();
        // It has begun to work when it connects.
        let _connection = eventually(PATIENCE, || registry.accept().ok());
        running.signal(signal);
        let status = running.ended();
        assert_eq!(status.signal(), Some(signal as i32), "{status:?}");
        // Who has sent it knows; a log is read by others.
        let mut said = String::new();
        let stderr = running.child().stderr.as_mut().expect("it is piped");
        stderr.read_to_string(&mut said).expect("it is text");
        if options.is_empty() {
            assert_eq!(said, "");
        } else {
            let line = format!("ended, as {signal} asks for\n");
            assert!(said.ends_with(&line), "{said}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_hang_up_is_ignored_under_nohup() {
    use std::os::unix::process::ExitStatusExt as _;

    use nix::sys::signal::Signal;

    let (registry, image) = silent_registry();
    let mut program = Program::new("nohup").args([env!("CARGO_BIN_EXE_tf"), "describe", &image]);
    program.command().stdin(Stdio::null()).stdout(Stdio::null());
    let mut running = program.spawn();
    let _connection = eventually(PATIENCE, || registry.accept().ok());
    let status = format!("/proc/{}/status", running.child().id());
    let status = fs::read_to_string(status).expect("it runs");
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .expect("Linux says which signals are ignored");
    // Bit 0 is signal 1.
    assert_eq!(ignored & 1, 1, "{status}");
    running.signal(Signal::SIGHUP);
    running.signal(Signal::SIGTERM);
    let ended = running.ended();
    assert_eq!(ended.signal(), Some(Signal::SIGTERM as i32), "{ended:?}");
}

/// Runs a program and gives its home back, which is gone otherwise.
fn run_and_keep_home(mut program: Program) -> (tempfile::TempDir, crate::common::Done) {
    let home = program.take_home();
    (home, program.run())
}

/// Runs a program whose standard error is a terminal, and returns what it wrote there.
#[cfg(unix)]
fn on_a_terminal(mut program: Program) -> String {
    use std::io::Read as _;

    let pty = nix::pty::openpty(None, None).expect("a terminal");
    let mut child = program
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(pty.slave)
        .spawn()
        .expect("it runs");
    // The program holds the terminal open as long as it runs; the command object here does, too.
    drop(program);
    let mut text = Vec::new();
    // Linux reports the end of a terminal as an error.
    let _ = fs::File::from(pty.master).read_to_end(&mut text);
    child.wait().expect("it can be waited for");
    String::from_utf8_lossy(&text).into_owned()
}
