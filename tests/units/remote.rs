//! Services on a server that is reached by ssh.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::desk::Desk;
use super::server::Server;

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
        unit.contains(&format!(
            r#"ExecStart="{program}" "--location=office" "run""#
        )),
        "{unit}"
    );
    // No key of this user has gone there.
    assert_eq!(server.desk.files().len(), 2, "{:?}", server.desk.files());
    desk.assert_empty();

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
    server.desk.assert_empty();
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
    server.desk.assert_empty();
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
        server.desk.assert_empty();
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
    server.desk.assert_empty();
    desk.program("ssh", &ssh);
    run().code(0);
}
