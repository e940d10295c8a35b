//! Services of this machine.

use std::fs;
use std::process::Command;

use super::desk::Desk;
use crate::common::installed;

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
    desk.assert_empty();
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
        "journalctl -n 50 --user-unit tf-nginx.service",
    ]);
    desk.assert_empty();
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
    desk.assert_empty();
    let printed = desk.tf(&["service", "install", "--print", "hello"]).run();
    assert!(printed.code(0).no_stderr().stdout.contains("\nExecStart="));
    desk.assert_empty();
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
    desk.assert_empty();
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
