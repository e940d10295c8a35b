//! A location and its users as programs of their own, as far as that needs no root: no containers run here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tfnz::config::Config;
use tfnz::invitation::Invitation;
use tfnz::keys::SecretKey;
use tfnz::link::CloseReason;
use tfnz::sdk::Location;
use tokio::time::timeout;

use crate::common::server::{Logged, location};
use crate::common::{Done, PATIENCE, Program, eventually, tf};

/// A location without a node, on a free port of this machine.
struct Office {
    state: TempDir,
    _server: Logged,
}

impl Office {
    #[track_caller]
    fn open() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let server = serve(state.path());
        Self {
            state,
            _server: server,
        }
    }

    /// `tf location VERB ...` at this location.
    #[track_caller]
    fn administer(&self, arguments: &[&str]) -> Done {
        administer(self.state.path(), arguments)
    }

    #[track_caller]
    fn invite(&self, name: &str) -> String {
        let invited = self.administer(&["invite", name]).code(0);
        assert_eq!(invited.stdout.lines().count(), 1, "{}", invited.stdout);
        invited.stdout
    }

    /// A user who has joined.
    #[track_caller]
    fn user(&self, name: &str) -> User {
        let user = User::new();
        user.tf(&["account", "join", &self.invite(name)])
            .run()
            .code(0);
        user
    }
}

#[track_caller]
fn serve(state: &Path) -> Logged {
    location(
        state,
        &["--no-node", "--listen", "127.0.0.1:0", "--name", "office"],
    )
    .0
}

#[track_caller]
fn administer(state: &Path, arguments: &[&str]) -> Done {
    tf().args(["location"])
        .args(arguments)
        .env("TF_STATE", state)
        .run()
}

/// Somebody with a home.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { home }
    }

    fn tf(&self, arguments: &[&str]) -> Program {
        tf().args(arguments).env("TF_HOME", self.home.path())
    }

    /// A session of the user's, in this process.
    async fn connect(&self) -> Result<Location, tfnz::sdk::Error> {
        let config = Config {
            home: self.home.path().to_owned(),
            state: self.home.path().join("state"),
            cache: self.home.path().join("cache"),
            location: None,
            max_cache: None,
            address: None,
        };
        Location::connect(tfnz::dialler(&config).await?).await
    }

    /// Names of the files in the home, in order.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.path()).expect("it is there");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names
            .map(|name| name.into_string().expect("text"))
            .collect();
        names.sort();
        names
    }
}

fn parsed(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).expect("JSON")
}

#[test]
fn a_location_serves_until_it_is_asked_to_stop() {
    let state = tempfile::tempdir().expect("a directory");
    let socket = state.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("it can be");
    let told = || {
        let mut buffer = [0; 100];
        let length = manager.recv(&mut buffer).expect("it is told");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    // As most shells and service managers start programs: few files at first, and more for the asking.
    let script = "ulimit -Sn 256 && exec \"$0\" location serve --no-node --listen 127.0.0.1:0";
    let program = Program::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_tf")])
        .env("TF_STATE", state.path())
        .env("NOTIFY_SOCKET", &socket);
    let mut server = Logged::start(program);
    assert_eq!(told(), "READY=1");

    let second = administer(
        state.path(),
        &["serve", "--no-node", "--listen", "127.0.0.1:0"],
    );
    second.code(1).says(&["another process serves"]);

    #[cfg(target_os = "linux")]
    {
        let path = format!("/proc/{}/limits", server.running().child().id());
        let limits = fs::read_to_string(path).expect("it runs");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let words: Vec<&str> = line.expect("a line").split_whitespace().collect();
        assert_eq!(
            words[3], words[4],
            "the soft limit is as high as the hard one"
        );
    }

    server.running().signal(Signal::SIGTERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(server.running().ended().code(), Some(0));
    for file in ["location", "location/key"] {
        let path = state.path().join(file);
        let mode = fs::metadata(path).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o077, 0, "{file}");
    }
    assert!(!state.path().join("location/admin").exists());
}

#[test]
fn administrators_need_no_server() {
    let state = tempfile::tempdir().expect("a directory");
    let none = administer(state.path(), &["users"]);
    none.code(1)
        .no_stdout()
        .says(&["there is no location", "hint: "]);
    let mut server = serve(state.path());
    server.running().signal(Signal::SIGTERM);
    server.running().ended();

    let invitation = administer(state.path(), &["invite", "ann@example"]).code(0);
    let users = administer(state.path(), &["users", "--json"]).code(0);
    assert_eq!(parsed(&users), serde_json::json!([]));
    // The port is another one now, so the invitation's address is of no use.
    let (_server, address) = location(state.path(), &["--no-node", "--listen", "127.0.0.1:0"]);
    let ann = User::new();
    let address = address.to_string();
    let join = [
        "--location-ip",
        &address,
        "account",
        "join",
        &invitation.stdout,
    ];
    ann.tf(&join).run().code(0).says(&["joined office"]);
    let users = administer(state.path(), &["users", "--json"]).code(0);
    assert_eq!(parsed(&users)[0]["name"], "ann@example");
}

#[test]
fn an_invitation_works_once() {
    let office = Office::open();
    let invitation = office.invite("ann@example");
    let (ann, bob) = (User::new(), User::new());
    let join = ["account", "join", &invitation];
    ann.tf(&join).run().code(0).no_stdout();
    let expected = [
        "default_location",
        "office",
        "office.addr",
        "office.pub",
        "office.spub",
    ];
    assert_eq!(ann.files(), expected);
    ann.tf(&["cache", "ls"]).run().code(0);

    let refused = bob.tf(&join).run().code(1);
    refused.says(&["does not accept the invitation", "hint: "]);
    assert_eq!(bob.files(), [""; 0]);
    ann.tf(&join).run().code(1).says(&["already"]);

    // Another location that has the same name.
    let other = Office::open();
    let join = ["account", "join", &other.invite("ann@example")];
    let taken = ann.tf(&join).run().code(1);
    taken.says(&["already", "hint: ", "--location NAME"]);
    let named = ["--location", "other", "account", "join", join[2]];
    ann.tf(&named).run().code(0).says(&["joined other"]);
    ann.tf(&["--location", "other", "ps"]).run().code(0);
}

#[test]
fn an_invitation_need_not_be_in_the_command_line() {
    let office = Office::open();
    for (name, given) in [("a", &["-"][..]), ("b", &[]), ("c", &["@invitation"])] {
        let (user, invitation) = (User::new(), office.invite(name));
        let mut join = user.tf(&["account", "join"]).args(given);
        join.file("invitation", &invitation);
        let home = join.home().to_owned();
        join.command().current_dir(home);
        let joined = join.input(invitation.as_bytes()).run().code(0);
        joined.no_stdout().says(&["joined office"]);
    }
    let user = User::new();
    let none = user.tf(&["account", "join", "@nothing"]).run().code(1);
    none.says(&["cannot read the invitation from nothing"]);
    user.tf(&["account", "join"])
        .run()
        .code(2)
        .says(&["not an invitation"]);
    let node = tf().args(["node", "serve", "--join", "-"]);
    let node = node.input(office.invite("d").as_bytes()).run().code(1);
    node.says(&["for a user"]);
}

#[test]
fn an_invitation_ends() {
    let office = Office::open();
    let late = office.administer(&["invite", "ann@example", "--expires", "1s"]);
    let void = office.invite("bob@example");
    let (ann, bob) = (User::new(), User::new());
    let revoked = office.administer(&["revoke", "bob@example"]);
    revoked
        .code(0)
        .says(&["bob@example had not joined: the invitation is void"]);
    let again = office.administer(&["revoke", "bob@example"]);
    again.code(1).says(&["nobody has joined or been invited"]);
    let join = |user: &User, invitation: &str| user.tf(&["account", "join", invitation]).run();
    join(&bob, &void).code(1).says(&["does not accept"]);
    // A second's invitation has ended once the clock shows the next but one.
    let invited = std::time::Instant::now();
    eventually(PATIENCE, || {
        (invited.elapsed().as_millis() > 2000).then_some(())
    });
    join(&ann, &late.stdout).code(1).says(&["does not accept"]);
    let odd = office.administer(&["invite", "ann@example", "--expires", "soon"]);
    odd.code(2).says(&["as in 90s, 30m, 24h or 7d"]);
}

#[test]
fn a_location_with_another_key_learns_nothing() {
    let office = Office::open();
    let text = office.invite("ann@example");
    let invitation: Invitation = text.parse().expect("an invitation");
    let forged = Invitation {
        location: SecretKey::generate().public(),
        ..invitation.clone()
    };
    let ann = User::new();
    let join = |text: &str| ann.tf(&["account", "join", text]).run();
    join(&forged.to_string())
        .code(1)
        .says(&["has another key", "hint: "]);
    assert_eq!(ann.files(), [""; 0]);
    let node = Invitation {
        node: true,
        ..invitation
    };
    join(&node.to_string()).code(1).says(&["tf node serve"]);
    join("20ft-nonsense").code(2).says(&["not an invitation"]);
    // None of this has used it up.
    join(&text).code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_goes_at_once_and_stays_out() {
    let office = Office::open();
    let (ann, bob) = (office.user("ann@example"), office.user("bob@example"));
    let (anns, bobs) = (
        ann.connect().await.expect("she has joined"),
        bob.connect().await.expect("he has joined"),
    );
    let sessions = parsed(&office.administer(&["sessions", "--json"]));
    let sessions = sessions.as_array().expect("a list").iter();
    let mut names: Vec<_> = sessions.map(|session| session["name"].as_str()).collect();
    names.sort();
    assert_eq!(names, [Some("ann@example"), Some("bob@example")]);
    office.administer(&["revoke", "ann@example"]).code(0);
    let reason = timeout(PATIENCE, anns.ended()).await.expect("it ends");
    assert_eq!(reason, CloseReason::Clean);
    assert!(ann.connect().await.is_err());
    bobs.cached_images().await.expect("he is still there");
    let users = parsed(&office.administer(&["users", "--json"]));
    assert_eq!(users.as_array().map(Vec::len), Some(1), "{users:#}");
    assert_eq!(users[0]["name"], "bob@example");
}

#[test]
fn the_location_bounds_how_long_it_waits_for_a_client() {
    let state = tempfile::tempdir().expect("a directory");
    let serve = [
        "--no-node",
        "--listen",
        "127.0.0.1:0",
        "--max-linger",
        "30s",
    ];
    let (_server, address) = location(state.path(), &serve);
    let invitation = administer(state.path(), &["invite", "ann@example"]).code(0);
    let (ann, address) = (User::new(), address.to_string());
    let join = ["--location-ip", &address, "account", "join"];
    ann.tf(&join).args([&invitation.stdout]).run().code(0);
    for (asked, warned) in [("10m", true), ("31s", true), ("30s", false), ("0", false)] {
        let listed = ann.tf(&["--linger", asked, "ps"]).run().code(0);
        let warning = "keeps a session for 30 s without a connection";
        assert_eq!(listed.stderr.contains(warning), warned, "{listed:#?}");
    }
    let odd = ann.tf(&["--linger", "soon", "ps"]).run().code(2);
    odd.says(&["`--linger soon` is not a duration"]);
    let odd = administer(state.path(), &["serve", "--max-linger", "1w"]);
    odd.code(2).says(&["`--max-linger 1w` is not a duration"]);
    let odd = administer(state.path(), &["serve", "--max-cache", "much"]);
    odd.code(2).says(&["`--max-cache much` is not a size"]);
    let odd = tf().args(["cache", "ls"]).env("TF_MAX_CACHE", "much").run();
    odd.code(1).says(&["TF_MAX_CACHE=much is not a size"]);
}

#[test]
fn limits_are_set_while_the_location_serves() {
    let office = Office::open();
    let (ann, bob) = (office.user("ann@example"), office.user("bob@example"));
    let limits = |arguments: &[&str]| office.administer(&[&["limits"], arguments].concat());
    limits(&["--containers", "5", "--stored", "1k"])
        .code(0)
        .no_stdout();
    let own = ["--stored", "1g", "--containers", "none"];
    limits(&[&["bob@example"][..], &own].concat()).code(0);
    let table = limits(&[]).code(0).stdout;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = table.lines().map(words).collect();
    assert_eq!(lines[0], "USER ID CONTAINERS MEMORY STORED SESSIONS");
    assert_eq!(lines[1], "(default) - 5 none 1.00 KiB none");
    assert_eq!(lines.len(), 4, "{table}");

    ann.tf(&["cache", "hello"])
        .run()
        .code(1)
        .says(&["of 1.00 KiB are taken", "`tf location limits`"]);
    bob.tf(&["cache", "hello"]).run().code(0);
    let listed = parsed(&limits(&["bob@example", "--json"]).code(0));
    assert_eq!(listed[0]["stored"]["limit"], 1 << 30);
    assert!(
        listed[0]["stored"]["used"].as_u64() > Some(1000),
        "{listed:#}"
    );
    let own = |what: &str| {
        (
            listed[0][what]["own"] == true,
            listed[0][what]["limit"].is_null(),
        )
    };
    assert_eq!(own("containers"), (true, true));
    assert_eq!(own("memory"), (false, true));

    limits(&["eve@example", "--containers", "1"])
        .code(1)
        .says(&["no user `eve@example`", "hint: "]);
    limits(&["--sessions", "many"])
        .code(2)
        .says(&["not a limit"]);
    limits(&["--sessions", "default"]).code(2);
    limits(&["--sessions", "0"]).code(0);
    let refused = ann.tf(&["ps"]).run().code(1);
    refused.says(&[
        "limit of sessions is reached, 0 of 0",
        "`tf location limits`",
    ]);
}

#[test]
fn users_do_not_see_each_others_images() {
    let office = Office::open();
    let (ann, bob) = (office.user("ann@example"), office.user("bob@example"));
    ann.tf(&["cache", "hello"]).run().code(0);
    let kept = parsed(&ann.tf(&["cache", "ls", "--json"]).run().code(0));
    let id = kept[0]["description"]["id"].as_str().expect("an id");
    ann.tf(&["describe", id]).run().code(0);

    let seen = parsed(&bob.tf(&["cache", "ls", "--json"]).run().code(0));
    assert_eq!(seen, serde_json::json!([]));
    bob.tf(&["describe", id]).run().code(1).no_stdout();
    bob.tf(&["cache", "rm", id]).run().code(1);
    let again = parsed(&ann.tf(&["cache", "ls", "--json"]).run().code(0));
    assert_eq!(again[0]["description"]["id"], id);
    for arguments in [&["ps", "--json"][..], &["resources", "--json"]] {
        let seen = bob.tf(arguments).run().code(0);
        assert_eq!(parsed(&seen), serde_json::json!([]), "{arguments:?}");
    }
    let stopped = bob.tf(&["stop", "nothing"]).run().code(1);
    stopped.says(&["there is no container `nothing`"]);
}

#[test]
fn an_account_moves_by_its_backup() {
    let office = Office::open();
    let ann = office.user("ann@example");
    let script = ann.tf(&["account", "backup"]).run().code(0).no_stderr();
    let restored = User::new();
    let restore = || {
        Program::new("sh")
            .env("TF_HOME", restored.home.path().join("keys"))
            .input(script.stdout.as_bytes())
            .run()
    };
    restore().code(0).no_stderr().no_stdout();
    let keys = restored.home.path().join("keys");
    let mode = |path: &Path| {
        let metadata = fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&keys), 0o700);
    assert_eq!(mode(&keys.join("office")), 0o600);
    let listed = tf().args(["cache", "ls"]).env("TF_HOME", &keys);
    listed.run().code(0);
    restore().code(1).says(&["already"]);
}

#[test]
fn one_location_is_the_default() {
    let user = User::new();
    let none = user.tf(&["locations"]).run().code(0);
    none.says(&["no location is configured"]);
    user.tf(&["account", "backup"]).run().code(1);
    user.tf(&["ps"])
        .run()
        .code(1)
        .says(&["no location is configured", "hint: "]);

    let offices = [Office::open(), Office::open()];
    for (office, name) in offices.iter().zip(["akl.example", "syd.example"]) {
        let mut invitation: Invitation = office.invite("ann").parse().expect("an invitation");
        name.clone_into(&mut invitation.name);
        let join = ["account", "join", &invitation.to_string()];
        user.tf(&join).run().code(0);
    }
    let default = || {
        let listed = parsed(&user.tf(&["locations", "ls", "--json"]).run().code(0));
        let listed = listed.as_array().expect("an array").clone();
        assert_eq!(listed.len(), 2);
        let default = listed.iter().find(|entry| entry["default"] == true);
        default.expect("a default one")["name"].clone()
    };
    assert_eq!(default(), "akl.example");
    user.tf(&["locations", "select", "s"]).run().code(0);
    assert_eq!(default(), "syd.example");
    let unknown = user.tf(&["locations", "select", "x"]).run().code(1);
    unknown.says(&["no account at a location `x`"]);
    let table = user.tf(&["locations"]).run().code(0).stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn a_node_needs_an_invitation_of_its_own() {
    let state = tempfile::tempdir().expect("a directory");
    let node = |arguments: &[&str]| {
        tf().args(["node", "serve"])
            .args(arguments)
            .env("TF_STATE", state.path())
            .run()
    };
    node(&[])
        .code(1)
        .says(&["has not joined a location", "--join"]);
    let office = Office::open();
    let users = office.invite("ann@example");
    node(&["--join", &users]).code(1).says(&["tf account join"]);
    node(&["--join", "x"]).code(2).says(&["not an invitation"]);

    // Where it is looked for is said, and a name is made up for a machine that has none.
    let invited = office.administer(&["invite", "--node", "--address", "127.0.0.1:1"]);
    let invitation = invited.code(0).says(&["for node-"]).stdout;
    let nowhere = node(&["--join", &invitation]).code(1);
    nowhere.says(&["127.0.0.1:1 cannot be reached"]);
    office.administer(&["invite"]).code(2).says(&["NAME"]);
}
