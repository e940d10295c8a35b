//! Services under a real systemd, by the words of the README.

use serde_json::Value;

use crate::common::{PATIENCE, Program, eventually, installed};
use crate::system::booted::Booted;
use crate::system::fixture::Fixture;

/// A user, and a server that she and root can reach by ssh. What she has started stays when she leaves.
const ANN: &str = r#"
useradd --create-home --shell /bin/sh ann
loginctl enable-linger ann
mkdir -m 700 /root/.ssh /home/ann/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/host
echo "localhost $(cat /etc/ssh/host.pub)" >/root/.ssh/known_hosts
for home in /root /home/ann; do cp /root/.ssh/id_ed25519.pub $home/.ssh/authorized_keys; done
chown -R ann /home/ann/.ssh
mkdir -p /run/sshd
printf 'Port 22\nHostKey /etc/ssh/host\nUsePAM yes\n' >/etc/ssh/test
systemd-run --quiet --service-type=notify --unit=sshd "$(command -v sshd)" -D -f /etc/ssh/test
"#;

#[test]
fn an_image_is_a_service_of_the_machine() {
    let Some(mut machine) = Booted::new() else {
        return;
    };
    let before = machine.inventory();
    let install = machine.tf("service install --system --offset 8000 hello");
    let install = install.code(0).no_stdout();
    install.says(&["the service hello runs"]);
    assert!(machine.page(8080).is_some());
    let property = |name| machine.property("tf-hello", name);
    assert_eq!(property("ActiveState"), "active");
    assert_eq!(property("Type"), "notify");
    assert_eq!(property("UnitFileState"), "enabled");
    let row = ["hello", "image", "hello", "system", "active"];
    assert_eq!(services(&machine, "service ls"), [row]);

    machine.kill("tf-hello");
    assert!(machine.page(8080).is_some());

    machine.power_cycle();
    eventually(PATIENCE, || machine.page(8080));

    machine.shell("systemctl stop tf-hello");
    assert_eq!(machine.property("tf-hello", "Result"), "success");
    let unit = [
        "file /etc/systemd/system/multi-user.target.wants/tf-hello.service",
        "file /etc/systemd/system/tf-hello.service",
    ];
    machine.assert_as_before(&before, &unit);

    machine.shell("systemctl start tf-hello");
    assert!(machine.page(8080).is_some());
    let rm = machine.tf("service rm --system hello").code(0);
    rm.says(&["removed hello"]);
    machine.assert_as_before(&before, &[]);
    assert_eq!(machine.property("tf-hello", "LoadState"), "not-found");

    // One is active when it answers, and not before.
    let image = Fixture::busybox().expose(&["80/tcp"]).save();
    let image = std::fs::read(image.path()).expect("it was written");
    let copy = machine.root(&["sh", "-c", "cat >image.tar"]);
    copy.input(&image).run().code(0);
    let install = |command: &str| {
        let install = line(
            &machine,
            "service install --system --name web --offset 8000",
        );
        install.args(["image.tar", "sh", "-c", command]).run()
    };
    // What never was leaves nothing but what it has said.
    let says = ["failed", "journalctl -n 50 -u tf-web.service"];
    install("echo it cannot; exit 3").code(1).says(&says);
    assert!(machine.journal().contains(": it cannot\n"));
    assert_eq!(machine.property("tf-web", "LoadState"), "not-found");

    install("sleep 1; cd /tmp; echo late >index.html; exec httpd -f").code(0);
    assert_eq!(machine.page(8080).as_deref(), Some("late\n"));
}

#[test]
fn a_location_and_its_node_are_services() {
    let (Some(server), Some(rack)) = (Booted::new(), Booted::new()) else {
        return;
    };
    server.connect(&rack, ["198.51.100.1", "198.51.100.2"]);
    let before = [server.inventory(), rack.inventory()];
    let install = server.tf("service install --system location --name home");
    install.code(0).says(&["the service location runs"]);
    let invitation = invite(&server, "--node rack1 --address 198.51.100.1");
    let install = line(&rack, "service install --system node --join -");
    let install = install.input(invitation.as_bytes()).run().code(0);
    install.says(&["this machine is a node of home", "the service node runs"]);
    let invitation = invite(&server, "ann --address 198.51.100.1");
    join(line(&rack, "account join"), &invitation);
    // A node that is connected has yet to say what it is.
    eventually(PATIENCE, || {
        (list(&rack, "resources").len() == 2).then_some(())
    });

    // The same container all the time, on whichever of the two it is.
    let install = rack.tf("service install --system --offset 8000 hello");
    install.code(0);
    let container = list(&rack, "ps")[0]["id"].clone();
    for (machine, unit) in [(&server, "tf-location"), (&rack, "tf-node")] {
        machine.kill(unit);
        eventually(PATIENCE, || rack.page(8080));
        assert_eq!(list(&rack, "ps")[0]["id"], container, "{unit}");
    }
    assert_eq!(rack.property("tf-hello", "NRestarts"), "0");

    // An end in good order, and a new beginning: meanwhile the service that needs the location is not active.
    server.shell("systemctl stop tf-location");
    assert_eq!(server.property("tf-location", "Result"), "success");
    let is = |state| {
        eventually(PATIENCE, || {
            (rack.property("tf-hello", "ActiveState") == state).then_some(())
        });
    };
    is("activating");
    assert!(rack.page(8080).is_none());
    server.shell("systemctl start tf-location");
    is("active");
    assert!(rack.page(8080).is_some());

    rack.shell("systemctl stop tf-node");
    assert_eq!(rack.property("tf-node", "Result"), "success");
    rack.tf("service rm --system hello node").code(0);
    server.tf("service rm --system location").code(0);
    server.assert_as_before(&before[0], &[]);
    rack.assert_as_before(&before[1], &[]);

    // What runs no containers can do nearly nothing, but what it is for.
    let install = server.tf("service install --system location --name home --no-node");
    install.code(0);
    assert_eq!(server.property("tf-location", "ProtectSystem"), "strict");
    invite(&server, "bob");
    assert!(list(&rack, "resources").is_empty());
    server.tf("service rm --system location").code(0);
}

#[test]
fn a_user_has_services_of_their_own() {
    let Some(machine) = Booted::new() else {
        return;
    };
    if !["ssh", "sshd", "ssh-keygen"].into_iter().all(installed) {
        return;
    }
    machine.shell(ANN);
    let ann = |words: &str| {
        let who = [
            "runuser",
            "-u",
            "ann",
            "--",
            "env",
            "-C",
            "/home/ann",
            "HOME=/home/ann",
            "tf",
        ];
        machine.root(&who).args(words.split(' '))
    };
    let install = ann("service install --offset 8000 hello").run().code(1);
    install.says(&["running containers needs root", "tf account join"]);
    assert_eq!(machine.shell("find /home/ann -name '*.service'"), "");

    machine
        .tf("service install --system location --name home")
        .code(0);
    join(
        ann("account join"),
        &invite(&machine, "ann --address localhost"),
    );
    let root = line(&machine, "account join");
    join(root, &invite(&machine, "root --address localhost"));

    let install = machine.tf("service install --host ann@localhost --offset 8000 hello");
    install.code(0).says(&["the service hello runs"]);
    assert!(machine.page(8080).is_some());
    let row = ["hello", "image", "hello", "user", "active"];
    let rows = services(&machine, "service --host ann@localhost ls");
    assert_eq!(rows[0], row);
    // All that is hers ends and begins, as when the machine does.
    machine.shell("systemctl restart user@$(id -u ann)");
    eventually(PATIENCE, || machine.page(8080));
    machine.tf("service --host ann@localhost rm hello").code(0);
    assert!(machine.page(8080).is_none());
    assert_eq!(
        machine.shell("cd /home/ann; find .config .local -type f"),
        ""
    );

    let install = "service install --host root@localhost --system --with-account --public hello";
    machine.tf(install).code(0);
    assert!(machine.page(80).is_some());
    let rm = machine.tf("service --host root@localhost --system rm hello");
    rm.code(0);
    machine.shell("! ls -d /usr/local/lib/20ft /var/lib/20ft/services");

    // In a directory that is not root's.
    let install = "tf service install --system --offset 8000 --json web.json hello";
    machine.shell(&format!("cd /home/ann; {install}; grep 8080 web.json"));
    machine.tf("service rm --system hello").code(0);
}

/// `tf` with the words of a line.
fn line(machine: &Booted, words: &str) -> Program {
    machine.root(&["tf"]).args(words.split(' '))
}

fn invite(machine: &Booted, words: &str) -> String {
    machine
        .tf(&format!("location invite {words}"))
        .code(0)
        .stdout
}

fn join(account_join: Program, invitation: &str) {
    account_join.input(invitation.as_bytes()).run().code(0);
}

/// What a verb prints with `--json`.
fn list(machine: &Booted, verb: &str) -> Vec<Value> {
    let listed = machine.tf(&format!("{verb} --json")).code(0);
    serde_json::from_str(&listed.stdout).expect("JSON")
}

/// The rows of a table of services.
fn services(machine: &Booted, words: &str) -> Vec<Vec<String>> {
    let listed = machine.tf(words).code(0).no_stderr();
    let rows = listed.stdout.lines().skip(1);
    rows.map(|row| row.split_whitespace().map(str::to_owned).collect())
        .collect()
}
