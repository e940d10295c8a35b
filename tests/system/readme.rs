//! The commands of the README, run as they stand there, at a terminal of a machine of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::docker::Daemon;
use crate::common::{PATIENCE, Program, eventually, installed, tf};
use crate::system::machine::{Machine, entered};
use crate::system::session::Session;
use crate::system::typist::Typist;

const README: &str = include_str!("../../README.md");
const CI: &str = include_str!("../../.ci/run");

/// A block of code of the README.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// The heading above it.
    heading: String,
    /// `sh`, `text` and so on.
    language: String,
    content: String,
}

/// All blocks of code, in their order.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut heading, mut open): (_, Option<Block>) = (String::new(), None);
    for line in README.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.content.extend([line, "\n"]),
            (None, Some(language)) => {
                open = Some(Block {
                    heading: heading.clone(),
                    language: language.to_owned(),
                    content: String::new(),
                });
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix('#') {
                    title
                        .trim_start_matches('#')
                        .trim()
                        .clone_into(&mut heading);
                }
            }
        }
    }
    blocks
}

/// The block of a language below a heading, of which there is one.
#[track_caller]
fn block(heading: &str, language: &str) -> String {
    let mut found = blocks();
    found.retain(|block| block.heading == heading && block.language == language);
    assert_eq!(found.len(), 1, "{language} below `{heading}`");
    found.remove(0).content
}

/// A user who has installed `tf` and Docker, and has images of both names that the README uses.
struct Desk {
    machine: Machine,
    daemon: Daemon,
    home: TempDir,
}

impl Desk {
    fn new() -> Option<Self> {
        let programs = ["setsid", "stty", "bash", "nginx", "nohup"];
        if !programs.into_iter().all(installed) {
            return None;
        }
        let machine = Machine::new()?;
        let daemon = Daemon::start(&[])?;
        daemon.docker(&["tag", daemon.nginx(), "nginx"]);
        let desk = Self {
            machine,
            daemon,
            home: TempDir::new().expect("temporary directory"),
        };
        let bin = desk.path("bin");
        fs::create_dir(&bin).expect("it is ours");
        for (name, program) in [
            ("tf", env!("CARGO_BIN_EXE_tf").into()),
            ("tfcache", env!("CARGO_BIN_EXE_tfcache").into()),
            ("docker", which("docker")),
        ] {
            symlink::<PathBuf, _>(program, bin.join(name)).expect("it is ours");
        }
        Some(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Types a block of commands, as one who has opened a terminal for it.
    fn types(&self, commands: &str) -> Typist {
        let home = self.home.path().display();
        let path = format!("{home}/bin:{}", std::env::var("PATH").expect("it is set"));
        let script = format!("cd {home}\n{commands}");
        let program: Program = self
            .machine
            .program("setsid")
            .args(["--ctty", "bash", "-c", &script])
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("TF_STATE", self.path("state"))
            .env("DOCKER_HOST", self.daemon.host())
            .env("DOCKER_BUILDKIT", "0");
        Typist::start((24, 80), program)
    }

    fn get(&self, url: &str) -> String {
        self.machine.shell(&format!("busybox wget -q -O - {url}"))
    }

    fn tidy(&self, before: &BTreeSet<String>) {
        self.machine.assert_as_before(before, "after the example");
    }
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("it is set");
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{program} is not installed"))
}

#[test]
fn the_first_command_shows_a_page_and_the_second_is_the_one_of_ci() {
    let first_screen: Vec<_> = blocks().into_iter().take(2).collect();
    let commands: Vec<_> = first_screen
        .iter()
        .map(|block| block.content.trim())
        .collect();
    let [run, test] = commands[..] else {
        panic!("{first_screen:?}")
    };
    let lines: Vec<_> = CI.lines().map(str::trim).collect();
    assert!(lines.contains(&test), "`.ci/run` does not run `{test}`");
    let arguments = run
        .strip_prefix("cargo run --release --bin tf -- ")
        .expect("a command that builds and runs tf");
    // Built by cargo already; run with the same words, on a machine whose port 8080 is free.
    let Some(machine) = Machine::new() else {
        return;
    };
    let before = machine.inventory();
    let program = machine.tf().args(arguments.split_whitespace());
    let mut session = Session::start(program);
    assert_eq!(session.port(80), 8080);
    let page = machine.shell("busybox wget -q -O - http://localhost:8080");
    assert!(page.contains("<html"), "{page}");
    kill(entered(&session), Signal::SIGINT).expect("it runs");
    session.end();
    machine.assert_as_before(&before, "after the first command");
}

#[test]
fn every_example_has_a_test() {
    let headings: Vec<_> = README
        .split("\n## ")
        .find_map(|section| section.strip_prefix("Examples\n"))
        .expect("there is a section of examples")
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    assert_eq!(
        headings,
        [
            "Run an image and look at it",
            "What was built last",
            "A shell in an image",
            "A service that stays when you leave",
            "Send an image ahead",
        ]
    );
}

#[test]
fn run_an_image_and_look_at_it() {
    let Some(desk) = Desk::new() else { return };
    let before = desk.machine.inventory();
    let mut typist = desk.types(&block("Run an image and look at it", "sh"));
    typist.sees(" -> 80/tcp (");
    let shown = typist.screen();
    let line = shown.lines().find(|line| line.contains(" -> 80/tcp"));
    // The README shows what is really said, but for the time.
    let expected = block("Run an image and look at it", "text");
    assert_eq!(line.map(timeless), Some(timeless(&expected)));
    assert_eq!(desk.get("http://localhost:8080"), "hello from nginx\n");
    typist.types("\x03");
    typist.end();
    desk.tidy(&before);
}

/// A line without its time.
fn timeless(line: &str) -> String {
    let without_digits = line
        .trim()
        .replace(|c: char| c.is_ascii_digit() || c == '.', "");
    without_digits.replace(" ms)", " s)")
}

#[test]
fn what_was_built_last() {
    let Some(desk) = Desk::new() else { return };
    fs::write(desk.path("page"), "built last\n").expect("it is ours");
    let dockerfile = "FROM nginx\nCOPY page /srv/index.html\n";
    fs::write(desk.path("Dockerfile"), dockerfile).expect("it is ours");
    fs::write(desk.path(".dockerignore"), "bin\nstate\n").expect("it is ours");
    let mut typist = desk.types(&block("What was built last", "sh"));
    typist.sees("http://localhost:8080 -> 80/tcp (");
    assert_eq!(desk.get("http://localhost:8080"), "built last\n");
    typist.types("\x03");
    typist.end();
    let last = tf()
        .env("DOCKER_HOST", desk.daemon.host())
        .args(["last-image"])
        .run();
    let id = last.code(0).stdout;
    assert!(
        typist.screen().contains(id.trim()),
        "{id}: {}",
        typist.screen()
    );
}

#[test]
fn a_shell_in_an_image() {
    let Some(desk) = Desk::new() else { return };
    let mut files = vec![which("bash"), which("busybox")];
    files.extend(libraries(Path::new("/bin/bash")));
    let files: Vec<_> = files
        .iter()
        .map(|path| (path.as_path(), path.to_str().expect("a plain path")))
        .collect();
    desk.daemon.build("debian", &files, "");
    let mut typist = desk.types(&block("A shell in an image", "sh"));
    typist.sees("# ");
    typist.types("echo $((40 + 2)) $$; busybox stty size; exit 3\n");
    typist.sees("42 1\r\n24 80\r\n");
    assert_eq!(typist.end().code(), Some(3));
}

/// Paths of the libraries that a program is loaded with, the loader included.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("run ldd");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[test]
fn a_service_that_stays_when_you_leave() {
    let Some(desk) = Desk::new() else { return };
    let before = desk.machine.inventory();
    // Who closes the terminal waits until it has begun.
    let commands = block("A service that stays when you leave", "sh");
    let mut typist = desk.types(&format!(
        "{commands}until [ -e web.json ]; do sleep 0.1; done"
    ));
    let state = desk.path("web.json");
    assert_eq!(typist.end().code(), Some(0));
    // The terminal has gone, and what it belonged to.
    drop(typist);
    let text = eventually(PATIENCE, || fs::read_to_string(&state).ok());
    let web: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(web["tunnels"]["80"], 8080);
    let page = "until busybox wget -q -O - http://localhost:8080 2>/dev/null; do :; done";
    assert_eq!(desk.machine.shell(page), "hello from nginx\n");
    desk.machine.shell("kill -TERM $(pgrep -f '^tf --offset')");
    eventually(PATIENCE, || (!state.exists()).then_some(()));
    desk.tidy(&before);
}

#[test]
fn send_an_image_ahead() {
    let Some(desk) = Desk::new() else { return };
    let before = desk.machine.inventory();
    let mut typist = desk.types(&block("Send an image ahead", "sh"));
    let status = typist.end();
    let screen = typist.screen();
    assert_eq!(status.code(), Some(0), "{screen}");
    let row = screen.lines().find(|line| line.starts_with("nginx:latest"));
    assert!(row.is_some_and(|row| row.contains("MiB")), "{screen}");
    assert!(screen.contains("removed nginx"), "{screen}");
    desk.tidy(&before);
    // And what is said below it.
    let commands = "tfcache nginx\ntf -v --offset 8000 nginx";
    let mut typist = desk.types(commands);
    typist.sees("all layers were at the location already");
    typist.sees(" -> 80/tcp");
    typist.types("\x03");
    typist.end();
}

#[test]
fn files_that_the_readme_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = README.split('`').skip(1).step_by(2);
    let paths = words.filter(|word| {
        let known = [
            "examples/",
            "man/",
            "completions/",
            "tests/",
            ".ci/",
            "src/",
        ];
        known.iter().any(|start| word.starts_with(start)) && !word.contains("VERSION")
    });
    for path in paths {
        assert!(root.join(path).exists(), "{path}");
    }
}
