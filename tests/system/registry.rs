//! Images of a real registry, put there by another program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::json;
use tempfile::TempDir;
use tfnz::ids::Digest;
use tfnz::image::reference::Reference;
use tfnz::image::registry::{self, RegistryError, Settings};
use tfnz::image::resolve::NoneKnown;
use tfnz::image::{self, Options};

use super::docker::make_certificates;
use crate::common::docker::{in_path, needs};
use crate::common::images::{
    Collected, Compression, Entries, amd64, config, layer, layers, layout, missing, platform,
    read_whole,
};
use crate::common::{PATIENCE, free_port};

/// Pause between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(20);

/// User `tester` with password `secret`.
const HTPASSWD: &str = "tester:$2b$04$DfVX5i1HayEckUOC5CkcwO3xnLFitmzgFiCbN/Ad3W9dK/2eOt9Le\n";

/// Starts the registry, waits for the end of the test process, and ends the registry.
const GUARD: &str = r#"docker-registry serve "$1" >"$2" 2>&1 & cat >/dev/null; kill -9 $!; wait"#;

/// How a registry is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Open,
    Password,
    Tls,
}

/// A registry that ends when it is dropped, or with the test process.
struct Registry {
    dir: TempDir,
    address: String,
    guard: Child,
    lifeline: Option<ChildStdin>,
}

impl Registry {
    fn start(access: Access) -> Option<Self> {
        for program in ["docker-registry", "skopeo", "openssl"] {
            if !needs(in_path(program), &format!("the program {program}")) {
                return None;
            }
        }
        let dir = TempDir::new().expect("temporary directory");
        let path = |name: &str| {
            dir.path()
                .join(name)
                .to_str()
                .expect("a plain path")
                .to_owned()
        };
        fs::write(path("htpasswd"), HTPASSWD).expect("write");
        make_certificates(dir.path());
        let address = format!("127.0.0.1:{}", free_port());
        let mut settings = json!({
            "version": "0.1", "log": {"level": "warn"}, "http": {"addr": address},
            "storage": {"filesystem": {"rootdirectory": path("data")}},
        });
        match access {
            Access::Open => {}
            Access::Password => {
                settings["auth"] = json!({"htpasswd": {"realm": "test", "path": path("htpasswd")}});
            }
            Access::Tls => {
                settings["http"]["tls"] =
                    json!({"certificate": path("server.pem"), "key": path("server-key.pem")});
            }
        }
        // JSON is YAML too.
        fs::write(path("config.yml"), settings.to_string()).expect("write");
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh", &path("config.yml"), &path("log")])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("start sh");
        let lifeline = guard.stdin.take();
        let registry = Self {
            dir,
            address,
            guard,
            lifeline,
        };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(&registry.address).is_err() {
            let log = fs::read_to_string(registry.path("log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "docker-registry does not listen:\n{log}"
            );
            std::thread::sleep(PAUSE);
        }
        Some(registry)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has `skopeo` push an OCI layout.
    fn push(&self, entries: &Entries, name: &str) -> Reference {
        let layout = self.path("layout");
        let _ = fs::remove_dir_all(&layout);
        entries.write_directory(&layout);
        let target = format!("{}/{name}", self.address);
        let output = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--all",
                "--dest-tls-verify=false",
                "--dest-creds",
                "tester:secret",
            ])
            .args([
                &format!("oci:{}", layout.display()),
                &format!("docker://{target}"),
            ])
            .env("HOME", self.dir.path())
            .output()
            .expect("run skopeo");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target.parse().expect("a name")
    }

    /// Settings whose `config.json` is this.
    fn settings(&self, config: &serde_json::Value) -> Settings {
        let dir = self.path("docker");
        fs::create_dir_all(&dir).expect("make directory");
        fs::write(dir.join("config.json"), config.to_string()).expect("write");
        let mut settings = Settings::default();
        settings.config_dir = Some(dir);
        settings
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Its status says nothing.
        let _ = self.guard.wait();
    }
}

#[tokio::test]
async fn an_open_registry_gives_images_of_every_compression() {
    let Some(registry) = Registry::start(Access::Open) else {
        return;
    };
    for compression in Compression::ALL {
        let name = format!("team/app:{}", format!("{compression:?}").to_lowercase());
        let reference = registry.push(&layout(&layers(), compression, "linux/amd64"), &name);
        let mut options = Options::default();
        options.platform = amd64();
        options.docker = image::docker::Settings::default();
        options.docker.host = Some("unix:///no/such/docker.sock".to_owned());
        let image = image::resolve(&reference.to_string(), &NoneKnown, &options)
            .await
            .expect("resolve");
        assert_eq!(image.names, [reference.to_string()]);
        assert_eq!(
            image.description.id,
            Digest::of(&config(&layers(), "linux/amd64"))
        );
        read_whole(&image).await;

        let digest = Digest::of(&layers()[1]);
        let rest = Collected::default();
        let source = image.source.expect("layers");
        source
            .read(&[missing(digest, 654_321)], &rest)
            .await
            .expect("read the rest");
        assert!(rest.content(&digest) == layers()[1][654_321..]);
    }
    let absent: Reference = format!("{}/team/other", registry.address)
        .parse()
        .expect("a name");
    let error = registry::image(&absent, &amd64(), &Settings::default())
        .await
        .err()
        .expect("unknown");
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn an_index_is_followed_by_tag_and_by_digest() {
    let Some(registry) = Registry::start(Access::Open) else {
        return;
    };
    let mut entries = Entries::default();
    let arm = entries.image(
        &[layer(&[("which", b"arm64")])],
        Compression::Gzip,
        "linux/arm64",
    );
    let amd = entries.image(
        &[layer(&[("which", b"amd64")])],
        Compression::Gzip,
        "linux/amd64",
    );
    let with_platform = |mut descriptor: serde_json::Value, architecture: &str| {
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let index = entries.index(&[with_platform(arm, "arm64"), with_platform(amd, "amd64")]);
    let digest = index["digest"].as_str().expect("a digest").to_owned();
    entries.finish_layout(&[index]);
    let tagged = registry.push(&entries, "multi:1");
    let pinned = format!("{}/multi@{digest}", registry.address)
        .parse()
        .expect("a name");
    for reference in [tagged, pinned] {
        for architecture in ["amd64", "arm64"] {
            let wanted = platform(&format!("linux/{architecture}"));
            let image = registry::image(&reference, &wanted, &Settings::default())
                .await
                .expect("image");
            let expected = Digest::of(&layer(&[("which", architecture.as_bytes())]));
            assert_eq!(image.description.layers[0].digest, expected);
            read_whole(&image).await;
        }
    }
}

#[tokio::test]
async fn a_password_comes_from_dockers_configuration() {
    let Some(registry) = Registry::start(Access::Password) else {
        return;
    };
    let reference = registry.push(
        &layout(&layers(), Compression::Gzip, "linux/amd64"),
        "private:1",
    );
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let login = |text: &str| json!({"auths": {registry.address.as_str(): {"auth": encode(text)}}});

    let settings = registry.settings(&login("tester:secret"));
    let image = registry::image(&reference, &amd64(), &settings)
        .await
        .expect("right password");
    read_whole(&image).await;

    for config in [
        login("tester:wrong"),
        json!({}),
        json!({"credsStore": "no-such-helper"}),
    ] {
        let settings = registry.settings(&config);
        let error = registry::image(&reference, &amd64(), &settings)
            .await
            .err()
            .expect("no access");
        assert!(
            matches!(error, RegistryError::Unauthorized { .. }),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains("docker login") && !text.contains("wrong"),
            "{text}"
        );
        assert_eq!(
            text.contains("cannot be run"),
            config.get("credsStore").is_some(),
            "{text}"
        );
    }
}

/// Runs in a process of its own, since helpers are searched in this process's `PATH`.
#[test]
fn a_password_comes_from_a_credential_helper() {
    const CHILD: &str = "TF_TEST_CREDENTIAL_HELPER";
    if let Ok(given) = std::env::var(CHILD) {
        let (reference, config_dir) = given.split_once(' ').expect("two words");
        let reference = reference.parse().expect("a name");
        let mut settings = Settings::default();
        settings.config_dir = Some(config_dir.into());
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let image = runtime
            .block_on(registry::image(&reference, &amd64(), &settings))
            .expect("image");
        runtime.block_on(read_whole(&image));
        return;
    }
    let Some(registry) = Registry::start(Access::Password) else {
        return;
    };
    let reference = registry.push(
        &layout(&layers(), Compression::Zstd, "linux/amd64"),
        "private:1",
    );
    let address = registry.address.as_str();
    let bin = registry.path("bin");
    fs::create_dir(&bin).expect("make directory");
    let helper = bin.join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread -r server\n[ \"$1 $server\" = 'get {address}' ] || {{ echo 'credentials not found'; exit 1; }}\n\
         echo '{{\"ServerURL\":\"{address}\",\"Username\":\"tester\",\"Secret\":\"secret\"}}'\n"
    );
    fs::write(&helper, script).expect("write");
    fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).expect("set permissions");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for config in [
        json!({"credHelpers": {address: "test"}}),
        json!({"credsStore": "test", "auths": {address: {}}}),
    ] {
        let settings = registry.settings(&config);
        let config_dir = settings.config_dir.expect("just set");
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "system::registry::a_password_comes_from_a_credential_helper",
            ])
            .env(CHILD, format!("{reference} {}", config_dir.display()))
            .env("PATH", &path)
            .output()
            .expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{config}: {text}"
        );
    }
}

#[tokio::test]
async fn tls_is_spoken_to_those_whose_authority_is_known() {
    let Some(registry) = Registry::start(Access::Tls) else {
        return;
    };
    let reference = registry.push(
        &layout(&layers(), Compression::Gzip, "linux/amd64"),
        "secure:1",
    );
    let error = registry::image(&reference, &amd64(), &Settings::default())
        .await
        .err()
        .expect("unknown authority");
    assert!(matches!(error, RegistryError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("/etc/docker/certs.d"), "{error}");

    let certificates = registry.path("certs.d");
    let own: &Path = &certificates.join(&registry.address);
    fs::create_dir_all(own).expect("make directory");
    fs::copy(registry.path("ca.pem"), own.join("ca.crt")).expect("copy");
    let mut settings = Settings::default();
    settings.certificates = Some(certificates);
    let image = registry::image(&reference, &amd64(), &settings)
        .await
        .expect("known authority");
    read_whole(&image).await;
}
