//! `tf service`, with a `systemctl` that only writes down what it is told, and a real sshd.
#![allow(clippy::print_stderr, reason = "a test that skips says so")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::{PATIENCE, Program, Running, eventually, installed, tf};

/// Writes down what it is told, and fails at what the file `fails` names.
const SYSTEMCTL: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/told"
if [ -e "$here/fails" ] && echo "$@" | grep -q "$(cat "$here/fails")"; then
    echo "systemd says no" >&2
    exit 1
fi
case "$*" in *is-active*) echo active ;; esac
"#;

/// A user of a machine with systemd.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            directory: TempDir::new().expect("a directory for temporary files"),
        };
        for name in ["bin", "home"] {
            fs::create_dir(desk.path(name)).expect("it is ours");
        }
        desk.program("systemctl", SYSTEMCTL);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a script on the path, in front of all else.
    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, script).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    fn search_path(&self) -> String {
        let path = std::env::var("PATH").expect("it is set");
        format!("{}:{path}", self.path("bin").display())
    }

    fn tf(&self, words: &[&str]) -> Program {
        let mut program = tf()
            .args(words)
            .env("HOME", self.path("home"))
            .env("TF_HOME", self.path("home/.20ft"))
            .env("TF_STATE", self.path("home/state"))
            .env("PATH", self.search_path());
        program.command().current_dir(self.path("home"));
        program
    }

    fn unit(&self, name: &str) -> Option<String> {
        let name = format!("home/.config/systemd/user/tf-{name}.service");
        fs::read_to_string(self.path(&name)).ok()
    }

    /// What systemctl was told since the last time.
    fn told(&self) -> Vec<String> {
        let path = self.path("bin/told");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }

    /// Makes systemctl fail at commands with this text in them.
    fn fails_at(&self, text: &str) {
        fs::write(self.path("bin/fails"), text).expect("it is ours");
    }

    /// All files in the user's home.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.path("home"), &mut files);
        files
    }
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("it is ours") {
        let path = entry.expect("it is ours").path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn a_service_is_installed_listed_and_removed() {
    let desk = Desk::new();
    let words = [
        "service",
        "install",
        "--offset",
        "8000",
        "nginx",
        "-g",
        "daemon off;",
    ];
    desk.tf(&words)
        .run()
        .code(0)
        .no_stdout()
        .says(&["the service nginx runs"]);
    let unit = desk.unit("nginx").expect("it has been written");
    let program = env!("CARGO_BIN_EXE_tf");
    let command =
        format!(r#"ExecStart="{program}" "run" "--offset=8000" "--" "nginx" "-g" "daemon off;""#);
    let home = desk.path("home");
    let home = home.display();
    for line in [
        command,
        format!(r#"Environment="TF_HOME={home}/.20ft""#),
        format!(r#"Environment="TF_STATE={home}/state""#),
        format!("WorkingDirectory={home}"),
        "Type=notify".to_owned(),
        "Restart=always".to_owned(),
    ] {
        assert!(unit.lines().any(|it| it == line), "no `{line}` in {unit}");
    }
    let told = desk.told();
    let expected = [
        "--user show --property=Version",
        "--user daemon-reload",
        "--user enable tf-nginx.service",
        "--user restart tf-nginx.service",
    ];
    assert_eq!(told, expected);

    let listed = desk
        .tf(&["service", "ls", "--json"])
        .run()
        .code(0)
        .no_stderr();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let row = &listed[0];
    assert_eq!(
        [
            &row["name"],
            &row["role"],
            &row["image"],
            &row["scope"],
            &row["state"]
        ],
        ["nginx", "image", "nginx", "user", "active"]
    );
    let listed = desk.tf(&["service", "ls"]).run().code(0);
    assert!(
        listed
            .stdout
            .contains("nginx    image  nginx  user  active"),
        "{listed:?}"
    );

    desk.told();
    desk.tf(&["service", "rm", "nginx"])
        .run()
        .code(0)
        .no_stdout()
        .says(&["removed nginx"]);
    assert_eq!(desk.told()[1], "--user disable --now tf-nginx.service");
    assert!(desk.files().is_empty(), "{:?}", desk.files());
    desk.tf(&["service", "rm", "nginx"])
        .run()
        .code(1)
        .says(&["no service `nginx`"]);
}

#[test]
fn a_name_is_taken_once() {
    let desk = Desk::new();
    let install = |words: &[&str]| desk.tf(&[&["service", "install"], words].concat()).run();
    install(&["nginx:1"]).code(0);
    install(&["nginx:2"])
        .code(1)
        .says(&["already", "--replace"]);
    install(&["--name", "second", "nginx:2"]).code(0);
    install(&["--replace", "nginx:2"]).code(0);
    let unit = desk.unit("nginx").expect("it is there");
    assert!(
        unit.contains("nginx:2") && !unit.contains("nginx:1"),
        "{unit}"
    );
    let foreign = desk.path("home/.config/systemd/user/tf-theirs.service");
    fs::write(&foreign, "[Service]\nExecStart=/bin/true\n").expect("it is ours");
    install(&["--replace", "theirs"])
        .code(1)
        .says(&["not written by tf"]);
    desk.tf(&["service", "rm", "theirs"]).run().code(1);
    assert!(foreign.exists());
}

#[test]
fn a_service_that_does_not_start_is_not_there() {
    let desk = Desk::new();
    desk.fails_at("restart");
    let done = desk.tf(&["service", "install", "nginx"]).run().code(1);
    done.says(&[
        "systemd says no",
        "journalctl --user -n 50 -u tf-nginx.service",
    ]);
    assert!(desk.files().is_empty(), "{:?}", desk.files());
    // One that was there before is there again.
    fs::remove_file(desk.path("bin/fails")).expect("it is ours");
    desk.tf(&["service", "install", "nginx:1"]).run().code(0);
    desk.fails_at("restart");
    let done = desk
        .tf(&["service", "install", "--replace", "nginx:2"])
        .run();
    done.code(1);
    assert!(desk.unit("nginx").expect("it is there").contains("nginx:1"));
}

#[test]
fn without_systemd_it_says_what_to_do() {
    let desk = Desk::new();
    desk.fails_at("show");
    for (words, hint) in [
        (&[][..], "enable-linger"),
        (&["--system"], "any supervisor"),
    ] {
        let words = [&["service", "install"], words, &["hello"]].concat();
        let done = desk.tf(&words).run().code(1).no_stdout();
        done.says(&[
            "cannot reach the systemd",
            "systemd says no",
            "--print",
            hint,
        ]);
    }
    assert!(desk.files().is_empty(), "{:?}", desk.files());
    let printed = desk.tf(&["service", "install", "--print", "hello"]).run();
    assert!(printed.code(0).no_stderr().stdout.contains("\nExecStart="));
    assert!(desk.files().is_empty(), "{:?}", desk.files());
}

#[test]
fn what_cannot_be_a_service_is_refused() {
    let desk = Desk::new();
    for (words, said) in [
        (&["-t", "debian"][..], "terminal"),
        (&["-p", "x", "debian"], "expected [ADDR:]LOCAL:REMOTE"),
        (&["--name", "a/b", "debian"], "not a name"),
        (&["."], "--name NAME"),
        (&["debian", "a\nExecStart=/bin/evil"], "line breaks"),
        (&["--with-account", "debian"], "--host"),
        (&["--identity", "f", "debian"], "--host"),
        (&["--host=-oProxyCommand=id", "debian"], "not a server"),
        (&["--host", "a", "--print", "debian"], "--print"),
    ] {
        let words = [&["service", "install"], words].concat();
        desk.tf(&words)
            .run()
            .code(2)
            .no_stdout()
            .says(&["error: ", said]);
    }
    assert!(desk.files().is_empty(), "{:?}", desk.files());
    assert!(desk.told().is_empty());
}

#[test]
fn systemd_takes_the_units() {
    if !installed("systemd-analyze") {
        return;
    }
    let desk = Desk::new();
    let mut paths = Vec::new();
    for (name, words) in [
        (
            "image",
            &[
                "--offset=8000",
                "-e",
                "A=%h $b \"c\" \\",
                "nginx",
                "echo $x; ls",
            ][..],
        ),
        ("location", &["location"]),
        ("alone", &["location", "--no-node"]),
        ("node", &["node"]),
    ] {
        // That of the image is that of an account elsewhere, which is confined.
        let words = [
            &[
                "--location",
                "home",
                "service",
                "install",
                "--system",
                "--print",
            ],
            words,
        ]
        .concat();
        let unit = desk.tf(&words).run().code(0).no_stderr().stdout;
        let path = desk.path(&format!("tf-{name}.service"));
        fs::write(&path, unit).expect("it is ours");
        paths.push(path);
    }
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(&paths)
        .output();
    let output = output.expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    // It speaks of units of this machine, too.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tf-")).collect();
    assert!(output.status.success() && ours.is_empty(), "{output:?}");
}

/// A server that is reached by ssh: another home on this machine.
struct Server {
    desk: Desk,
    host: String,
    key: String,
    _sshd: Running,
}

impl Server {
    /// None where there can be none, having said why.
    fn new(client: &Desk) -> Option<Self> {
        let programs = ["sshd", "ssh", "ssh-keygen"];
        if !nix::unistd::geteuid().is_root() || !programs.into_iter().all(installed) {
            assert!(std::env::var_os("CI").is_none(), "an sshd needs root");
            eprintln!("skipped: an sshd needs root");
            return None;
        }
        let desk = Desk::new();
        for key in ["host", "user"] {
            let keygen = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(desk.path(key))
                .status();
            assert!(keygen.expect("it is installed").success());
        }
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = unused.local_addr().expect("it is bound").port();
        drop(unused);
        // Where Debian's sshd insists on a directory.
        let _ = fs::create_dir("/run/sshd");
        let directory = desk.directory.path().display();
        let configuration = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\n\
             PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n\
             SetEnv HOME={directory}/home PATH={}\n",
            desk.search_path()
        );
        fs::write(desk.path("sshd_config"), configuration).expect("it is ours");
        let sshd = which("sshd");
        let mut sshd = Program::new(sshd).args([
            "-D".as_ref(),
            "-f".as_ref(),
            desk.path("sshd_config").as_os_str(),
        ]);
        sshd.command().stderr(Stdio::null());
        let sshd = sshd.spawn();
        // Looked up rather than tried: where nobody listens yet, a connection may be one with itself, and take the port.
        let listens = format!("0100007F:{port:04X} 00000000:0000 0A");
        eventually(PATIENCE, || {
            let sockets = fs::read_to_string("/proc/net/tcp").expect("it is there");
            sockets.contains(&listens).then_some(())
        });
        // The user's settings, which are the machine's otherwise: the server's key is known.
        let public = fs::read_to_string(desk.path("host.pub")).expect("it was made");
        fs::write(client.path("known"), format!("[127.0.0.1]:{port} {public}"))
            .expect("it is ours");
        let script = format!(
            "#!/bin/sh\n[ -z \"$FEED\" ] || exec < \"$FEED\"\n\
             exec {} -F none -o UserKnownHostsFile={} -o GlobalKnownHostsFile=none \"$@\"\n",
            which("ssh").display(),
            client.path("known").display()
        );
        client.program("ssh", &script);
        Some(Self {
            host: format!("ssh://root@127.0.0.1:{port}"),
            key: desk.path("user").display().to_string(),
            desk,
            _sshd: sshd,
        })
    }

    /// Words in front of a verb of `tf service`.
    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let place = ["service", "--host", &self.host, "--identity", &self.key];
        [&place[..], words].concat()
    }

    /// The programs that were copied there.
    fn programs(&self) -> Vec<PathBuf> {
        let mut files = self.desk.files();
        files.retain(|path| path.to_string_lossy().contains("/.local/lib/20ft/"));
        files
    }
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("it is set");
    let mut paths = std::env::split_paths(&path).map(|directory| directory.join(program));
    paths.find(|path| path.is_file()).expect("it is installed")
}

#[test]
fn a_service_on_a_server() {
    let desk = Desk::new();
    let Some(server) = Server::new(&desk) else {
        return;
    };
    let run = |words: &[&str]| desk.tf(&server.words(words)).run();
    run(&["ls"]).code(1).says(&["no service was installed"]);

    let argument = "it's $HOME \\ \"x\" `id`";
    let done = run(&["install", "-p", "0:80", "nginx", argument])
        .code(0)
        .no_stdout();
    done.says(&["the service nginx runs"]);
    let unit = server.desk.unit("nginx").expect("it is there");
    assert!(unit.contains(r#""it's $$HOME \\ \"x\" `id`""#), "{unit}");
    let programs = server.programs();
    assert_eq!(programs.len(), 1, "{programs:?}");
    let program = programs[0].display().to_string();
    assert!(
        unit.contains(&format!(r#"ExecStart="{program}" "run""#)),
        "{unit}"
    );
    // No key of this user has gone there.
    assert_eq!(server.desk.files().len(), 2, "{:?}", server.desk.files());
    assert!(desk.files().is_empty(), "{:?}", desk.files());

    let before = fs::metadata(&program).expect("it is there").ino();
    run(&["install", "--name", "second", "nginx"]).code(0);
    let after = fs::metadata(&program).expect("it is there").ino();
    assert_eq!(before, after, "what is there is not copied again");

    let listed = run(&["ls", "--json"]).code(0).no_stderr();
    assert_eq!(
        listed.stdout.matches("\"role\": \"image\"").count(),
        2,
        "{listed:?}"
    );
    run(&["rm", "nginx"]).code(0).says(&["removed nginx"]);
    assert_eq!(server.programs().len(), 1);
    run(&["rm", "second"]).code(0);
    assert!(server.desk.files().is_empty(), "{:?}", server.desk.files());
}

#[test]
fn an_account_goes_to_a_server_only_if_it_is_asked_for() {
    let desk = Desk::new();
    let Some(server) = Server::new(&desk) else {
        return;
    };
    let keys = desk.path("home/.20ft");
    fs::create_dir(&keys).expect("it is ours");
    let secret = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    for (name, content) in [
        ("office", secret),
        (
            "office.spub",
            "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
        ),
        ("office.addr", "office.example:5555"),
        ("default_location", "office"),
    ] {
        fs::write(keys.join(name), content).expect("it is ours");
    }
    let run = |words: &[&str]| desk.tf(&server.words(words)).run();
    run(&["install", "--with-account", "nginx"]).code(0);
    let account = server.desk.path("home/.local/share/20ft/services/nginx");
    let copied = fs::read_to_string(account.join("office")).expect("it was copied");
    assert_eq!(copied.trim(), secret);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    assert_eq!(
        (mode(&account), mode(&account.join("office"))),
        (0o700, 0o600)
    );
    let unit = server.desk.unit("nginx").expect("it is there");
    let line = format!(r#"Environment="TF_HOME={}""#, account.display());
    assert!(unit.contains(&line) && !unit.contains(secret), "{unit}");
    run(&["install", "--replace", "--with-account", "nginx"]).code(0);

    // One that does not start leaves no key behind either.
    server.desk.fails_at("restart");
    run(&["install", "--with-account", "--name", "other", "nginx"]).code(1);
    assert!(!account.with_file_name("other").exists());
    run(&["rm", "nginx"]).code(0);
    assert!(server.desk.files().is_empty(), "{:?}", server.desk.files());
}

#[test]
fn a_server_that_is_not_the_known_one_gets_nothing() {
    let desk = Desk::new();
    let Some(server) = Server::new(&desk) else {
        return;
    };
    let run = || desk.tf(&server.words(&["install", "nginx"])).run();
    for known in [
        // Unknown, and another one.
        String::new(),
        fs::read_to_string(desk.path("known"))
            .expect("it is ours")
            .replace(
                &fs::read_to_string(server.desk.path("host.pub")).expect("it was made"),
                &fs::read_to_string(server.desk.path("user.pub")).expect("it was made"),
            ),
    ] {
        fs::write(desk.path("known"), known).expect("it is ours");
        run().code(1).says(&["cannot reach", "hint: "]);
        assert!(server.desk.files().is_empty(), "{:?}", server.desk.files());
    }
}

#[test]
fn half_a_program_is_not_put_in_place() {
    let desk = Desk::new();
    let Some(server) = Server::new(&desk) else {
        return;
    };
    // The connection breaks while the program is being sent.
    let ssh = fs::read_to_string(desk.path("bin/ssh")).expect("it is ours");
    let broken = ssh.replace(
        "#!/bin/sh\n",
        "#!/bin/sh\ncase \"$*\" in *mktemp*) head -c 100000 > \"$0.part\"; FEED=\"$0.part\" ;; esac\n",
    );
    desk.program("ssh", &broken);
    let run = || desk.tf(&server.words(&["install", "nginx"])).run();
    run().code(1).says(&["copy tf there"]);
    assert!(server.desk.files().is_empty(), "{:?}", server.desk.files());
    desk.program("ssh", &ssh);
    run().code(0);
}
