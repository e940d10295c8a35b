//! Images of a real Docker daemon.
#![allow(clippy::print_stdout, reason = "a measured figure is worth showing")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tfnz::ids::Digest;
use tfnz::image::docker::{Daemon as Client, DockerError, Settings};
use tfnz::image::resolve::NoneKnown;
use tfnz::image::{self, Image, Options, Platform, Port, ResolveError};

use crate::common::docker::{Daemon, daemon, in_path, needs};
use crate::common::images::{
    Collected, Compression, Entries, all_missing, layer, layers, length_of_whole, missing,
    peak_memory, platform, read_whole, saved,
};
use crate::common::{free_port, only};

const BUSYBOX: &str = "/usr/bin/busybox";

fn settings(host: &str) -> Settings {
    let mut settings = Settings::default();
    settings.host = Some(host.to_owned());
    settings
}

fn client(daemon: &Daemon) -> Client {
    Client::new(&settings(&daemon.host())).expect("the socket is there")
}

fn options(daemon: &Daemon) -> Options {
    let mut options = Options::default();
    options.docker = settings(&daemon.host());
    options
}

async fn image(daemon: &Daemon, name: &str) -> Image {
    client(daemon)
        .image(name, &Platform::host())
        .await
        .expect("the daemon has it")
}

/// How often images have been exported so far.
fn exports(daemon: &Daemon) -> usize {
    let now = format!(
        "{}",
        std::time::UNIX_EPOCH
            .elapsed()
            .expect("after the epoch")
            .as_secs()
            + 1
    );
    let args = [
        "events",
        "--since",
        "0",
        "--until",
        &now,
        "--filter",
        "event=save",
        "--format",
        "{{.ID}}",
    ];
    daemon.docker(&args).lines().count()
}

#[tokio::test]
async fn an_image_is_described_as_the_daemon_does() {
    let Some(daemon) = daemon() else { return };
    let files = [(Path::new(BUSYBOX), "/bin/sh")];
    let rest = "ENV A=b\nEXPOSE 80 53/udp\nWORKDIR /srv\nUSER 1:2\nLABEL l=m\nSTOPSIGNAL SIGQUIT\nVOLUME /data\n\
                ENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo hi\"]\n";
    let id = daemon.build("described:1", &files, rest);
    let found = image(daemon, "described:1").await;
    let description = found.description;
    assert_eq!(description.id.to_string(), id);
    assert_eq!(found.names, ["docker.io/library/described:1"]);
    let layers = daemon.docker(&[
        "inspect",
        "--format",
        "{{join .RootFS.Layers \" \"}}",
        "described:1",
    ]);
    let own: Vec<_> = description
        .layers
        .iter()
        .map(|layer| layer.digest.to_string())
        .collect();
    assert_eq!(own.join(" "), layers);
    let config = description.config;
    assert!(config.env.contains(&"A=b".to_owned()));
    assert_eq!(config.entrypoint, ["/bin/sh", "-c"]);
    assert_eq!(config.cmd, ["echo hi"]);
    assert_eq!(
        (config.working_dir.as_str(), config.user.as_str()),
        ("/srv", "1:2")
    );
    assert_eq!(config.stop_signal, "SIGQUIT");
    assert!(config.exposed_ports.contains(&Port::tcp(80)) && config.exposed_ports.len() == 2);
    assert!(config.volumes.contains("/data"));
    assert_eq!(config.labels["l"], "m");
}

#[tokio::test]
async fn layers_are_read_whole_in_part_and_from_an_offset() {
    let Some(daemon) = Daemon::start(&[]) else {
        return;
    };
    let host = Platform::host().to_string();
    let entries = saved(&layers(), Compression::Plain, &host, "layers:1");
    daemon.docker_with_input(&["load"], &entries.to_tar());
    let image = image(&daemon, "layers:1").await;
    let source = image.source.expect("layers");
    let all = all_missing(&image.description);
    assert!(
        all.len() < image.description.layers.len(),
        "one layer comes twice"
    );

    let collected = Collected::default();
    source.read(&all, &collected).await.expect("read all");
    collected.assert_complete(&image.description);
    assert_eq!(
        exports(&daemon),
        1,
        "an export takes the daemon long: one is enough"
    );

    for wanted in &all {
        let digest = wanted.layer.digest;
        let whole = collected.content(&digest);
        for offset in [0, 1000] {
            let single = Collected::default();
            source
                .read(&[missing(digest, offset as u64)], &single)
                .await
                .expect("read one");
            assert!(single.content(&digest) == whole[offset..]);
        }
    }
    assert_eq!(exports(&daemon), 1 + 2 * all.len());
    let none = Collected::default();
    source.read(&[], &none).await.expect("nothing wanted");
    assert_eq!(
        exports(&daemon),
        1 + 2 * all.len(),
        "nothing wanted, nothing asked"
    );
}

#[tokio::test]
async fn names_and_ids_are_found_and_others_are_not() {
    let Some(daemon) = daemon() else { return };
    let name = daemon.busybox();
    let id = daemon.docker(&["inspect", "--format", "{{.Id}}", name]);
    let hex = id.trim_start_matches("sha256:");
    for text in [name, "docker.io/library/busybox:test", &id, hex, &hex[..12]] {
        let image = image::resolve(text, &NoneKnown, &options(daemon))
            .await
            .expect(text);
        assert_eq!(image.description.id.to_string(), id, "{text}");
        assert!(
            image
                .names
                .contains(&"docker.io/library/busybox:test".to_owned()),
            "{:?}",
            image.names
        );
    }
    for text in [
        "no-such-image",
        "127.0.0.1:1/app",
        "../containers/json",
        "busybox:test?x=y",
        "..",
        "a/../../b",
    ] {
        let error = client(daemon)
            .image(text, &Platform::host())
            .await
            .err()
            .expect(text);
        assert!(
            matches!(error, DockerError::NotFound { .. }),
            "{text}: {error}"
        );
    }
    let names = client(daemon).names().await.expect("names");
    assert!(names.contains(&"busybox:test".to_owned()), "{names:?}");
}

#[tokio::test]
async fn an_image_for_another_processor_is_refused_before_anything_is_read() {
    let Some(daemon) = daemon() else { return };
    let foreign = if Platform::host().architecture == "arm64" {
        "linux/amd64"
    } else {
        "linux/arm64"
    };
    let entries = saved(
        &[layer(&[("a", b"x")])],
        Compression::Plain,
        foreign,
        "foreign:1",
    );
    daemon.docker_with_input(&["load"], &entries.to_tar());
    let error = image::resolve("foreign:1", &NoneKnown, &options(daemon))
        .await
        .err()
        .expect("foreign");
    assert!(
        matches!(error, ResolveError::Docker(DockerError::Platform { .. })),
        "{error}"
    );
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(
        text.contains(foreign) && text.contains(&Platform::host().to_string()),
        "{text}"
    );

    let mut options = options(daemon);
    options.platform = platform(foreign);
    assert!(
        image::resolve("foreign:1", &NoneKnown, &options)
            .await
            .is_ok()
    );
}

/// An image with a creation date of long ago, as reproducible builds have it.
fn ancient(name: Option<&str>, content: &str) -> Vec<u8> {
    let mut entries: Entries = saved(
        &[layer(&[("content", content.as_bytes())])],
        Compression::Plain,
        &Platform::host().to_string(),
        name.unwrap_or("unnamed"),
    );
    if name.is_none() {
        let mut list: serde_json::Value =
            serde_json::from_slice(&entries.files["manifest.json"]).expect("valid");
        list[0]["RepoTags"] = json!(null);
        entries.document("manifest.json", &list);
    }
    entries.to_tar()
}

#[tokio::test]
async fn the_most_recent_image_is_the_one_that_was_touched_last() {
    let Some(daemon) = Daemon::start(&[]) else {
        return;
    };
    let last = async || {
        client(&daemon)
            .last_image()
            .await
            .expect("there are images")
            .to_string()
    };
    let id = |name: &str| daemon.docker(&["inspect", "--format", "{{.Id}}", name]);

    let error = client(&daemon).last_image().await.expect_err("no images");
    assert!(matches!(error, DockerError::NoImages { .. }), "{error}");
    assert!(error.to_string().contains("docker build"), "{error}");

    let version = Path::new("/etc/debian_version");
    let built = daemon.build("built:1", &[(version, "/version")], "CMD [\"/x\"]\n");
    assert_eq!(last().await, built, "built");

    daemon.docker_with_input(&["load"], &ancient(Some("old:a"), "a"));
    assert_eq!(last().await, id("old:a"), "loaded, from long ago");
    daemon.docker_with_input(&["load"], &ancient(Some("old:b"), "b"));
    assert_eq!(last().await, id("old:b"), "loaded after that");
    daemon.docker_with_input(&["load"], &ancient(Some("old:a"), "a"));
    assert_eq!(last().await, id("old:a"), "loaded again");

    let output = daemon.docker_with_input(&["load"], &ancient(None, "c"));
    let unnamed = output.rsplit(' ').next().expect("an id").to_owned();
    assert_eq!(last().await, unnamed, "loaded without a name");

    daemon.docker(&["tag", "old:b", "old:z"]);
    assert_eq!(last().await, id("old:b"), "tagged");

    let again = daemon.build("built:1", &[(version, "/version")], "CMD [\"/x\"]\n");
    assert_eq!(again, built, "nothing has changed");
    assert_eq!(last().await, built, "built again, from cache");

    let imported = daemon.docker_with_input(&["import", "-", "imported:1"], &layer(&[("a", b"b")]));
    assert_eq!(last().await, imported, "imported");

    let image = image::resolve(".", &NoneKnown, &options(&daemon))
        .await
        .expect("most recent");
    assert_eq!(image.description.id.to_string(), imported);
    assert_eq!(image.names, ["docker.io/library/imported:1"]);
}

#[tokio::test]
async fn no_daemon_and_no_permission_are_different_errors() {
    let error = Client::new(&settings("unix:///no/such/docker.sock"))
        .err()
        .expect("no daemon");
    assert!(matches!(error, DockerError::NotRunning { .. }), "{error}");

    // A socket that nobody listens on any more.
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("docker.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
    let stale =
        Client::new(&settings(&format!("unix://{}", path.display()))).expect("the socket is there");
    let error = stale.last_image().await.expect_err("nobody listens");
    assert!(matches!(error, DockerError::NotRunning { .. }), "{error}");
}

/// Runs in a process of its own, as another user: root may use any daemon.
#[test]
fn a_daemon_of_others_is_forbidden() {
    const CHILD: &str = "TF_TEST_FORBIDDEN_DAEMON";
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    if let Ok(host) = std::env::var(CHILD) {
        let client = Client::new(&settings(&host)).expect("the socket is there");
        let error = runtime
            .block_on(client.last_image())
            .expect_err("not allowed");
        assert!(matches!(error, DockerError::Forbidden { .. }), "{error}");
        assert!(error.to_string().contains("usermod -aG docker"), "{error}");
        return;
    }
    let Some(_) = daemon() else { return };
    let dir = tempfile::tempdir().expect("temporary directory");
    let socket = dir.path().join("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("copy");
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(dir.path(), open(0o755)).expect("set permissions");
    fs::set_permissions(&socket, open(0o600)).expect("set permissions");
    let output = Command::new(&program)
        .args(["--exact", "system::docker::a_daemon_of_others_is_forbidden"])
        .env(CHILD, format!("unix://{}", socket.display()))
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    drop(listener);
}

#[tokio::test]
async fn a_daemon_is_reached_over_tls() {
    if !needs(in_path("openssl"), "the program openssl") {
        return;
    }
    let certs = tempfile::tempdir().expect("temporary directory");
    make_certificates(certs.path());
    let port = free_port();
    let path = |name: &str| {
        certs
            .path()
            .join(name)
            .to_str()
            .expect("a plain path")
            .to_owned()
    };
    let address = format!("tcp://127.0.0.1:{port}");
    let args = [
        "--tlsverify",
        "--tlscacert",
        &path("ca.pem"),
        "--tlscert",
        &path("server.pem"),
        "--tlskey",
        &path("server-key.pem"),
        "-H",
        &address,
    ];
    let Some(daemon) = Daemon::start(&args) else {
        return;
    };
    daemon.build(
        "secure:1",
        &[(Path::new(BUSYBOX), "/bin/sh")],
        "CMD [\"/bin/sh\"]\n",
    );
    let mut settings = settings(&address);
    settings.tls = true;
    settings.cert_path = Some(certs.path().to_owned());
    let client = Client::new(&settings).expect("certificates are there");
    let image = client
        .image("secure:1", &Platform::host())
        .await
        .expect("over TLS");
    read_whole(&image).await;

    // Another authority than the one that the daemon's certificate is from.
    let others = tempfile::tempdir().expect("temporary directory");
    make_certificates(others.path());
    settings.cert_path = Some(others.path().to_owned());
    let client = Client::new(&settings).expect("certificates are there");
    let error = client.last_image().await.expect_err("not trusted");
    assert!(matches!(error, DockerError::Tls { .. }), "{error}");
}

/// An authority, a server at 127.0.0.1 and a client, all valid for a day.
pub(crate) fn make_certificates(dir: &Path) {
    let script = "set -e\n\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=authority \
            -keyout ca-key.pem -out ca.pem\n\
        make() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$1 -keyout $2 -out $1.csr\n\
            printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\\nextendedKeyUsage=serverAuth,clientAuth\\n' > ext\n\
            openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 1 -extfile ext -out $3; }\n\
        make server server-key.pem server.pem\nmake client key.pem cert.pem\n";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .output()
        .expect("run sh");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs in a process of its own, since memory is measured per process.
#[test]
fn memory_does_not_depend_on_the_size_of_an_image() {
    const CHILD: &str = "TF_TEST_LARGE_IMAGE";
    const SIZE: usize = 1 << 30;
    if let Ok(host) = std::env::var(CHILD) {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(async {
            let client = Client::new(&settings(&host)).expect("the socket is there");
            let image = client
                .image("large:1", &Platform::host())
                .await
                .expect("there");
            assert!(length_of_whole(&image).await > SIZE as u64);
        });
        println!("peak memory {} kB", peak_memory() / 1024);
        assert!(peak_memory() < 32 << 20);
        return;
    }
    let Some(daemon) = daemon() else { return };
    let content = vec![0; SIZE];
    daemon.docker_with_input(&["import", "-", "large:1"], &layer(&[("zeros", &content)]));
    drop(content);
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(only(
            module_path!(),
            "memory_does_not_depend_on_the_size_of_an_image",
        ))
        .env(CHILD, daemon.host())
        .output()
        .expect("run");
    daemon.docker(&["rmi", "large:1"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    print!("{text}");
}

#[test]
fn the_images_of_other_tests_run_as_they_should() {
    let Some(daemon) = daemon() else { return };
    let name = daemon.busybox();
    assert_eq!(
        daemon.docker(&["run", "--rm", "--network", "none", name, "echo", "works"]),
        "works"
    );
    let name = daemon.nginx();
    let check = [
        "run",
        "--rm",
        "--network",
        "none",
        name,
        "/usr/sbin/nginx",
        "-t",
        "-c",
        "/etc/nginx.conf",
    ];
    daemon.docker(&check);
    let digest: Result<Digest, _> = daemon
        .docker(&["inspect", "--format", "{{.Id}}", name])
        .parse();
    assert!(digest.is_ok());
}
