//! Images for tests, made of busybox and written as `docker save` writes them, without Docker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;
use tfnz::ids::Digest;
use tfnz::image::Platform;

use crate::common::docker::needs;
use crate::common::installed;

/// Whether the machine has what containers of these images need.
pub(crate) fn can_run() -> bool {
    needs(nix::unistd::geteuid().is_root(), "root") && installed("busybox")
}

/// The path of an image with busybox under all its names, two users and a shell to run. Made once.
pub(crate) fn busybox() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        // In the build directory, which nobody expects to be tidy, as statics are never dropped.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join("busybox.tar");
        let unfinished = directory.join(format!("busybox.{}.tar", std::process::id()));
        fs::write(&unfinished, Fixture::busybox().to_tar()).expect("write an archive");
        fs::rename(&unfinished, &path).expect("rename an archive");
        path.into_os_string().into_string().expect("a plain path")
    })
}

/// Bytes that cannot be compressed, different for each seed: every one comes, and there is no pattern of the size of a
/// buffer.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// An image that is being described.
pub(crate) struct Fixture {
    layers: Vec<Vec<u8>>,
    config: Value,
    architecture: String,
    name: String,
}

impl Fixture {
    /// An image without layers, for this machine.
    pub(crate) fn new() -> Self {
        Self {
            layers: Vec::new(),
            config: json!({"Env": ["PATH=/bin"]}),
            architecture: Platform::host().architecture,
            name: "test:latest".to_owned(),
        }
    }

    /// Busybox with all its names; runs a shell.
    pub(crate) fn busybox() -> Self {
        static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
        Self::new()
            .layer(LAYER.get_or_init(|| Layer::busybox().finish()).clone())
            .config("Cmd", json!(["sh"]))
    }

    /// Adds a layer, as a tar.
    pub(crate) fn layer(mut self, layer: Vec<u8>) -> Self {
        self.layers.push(layer);
        self
    }

    /// Adds a layer that has one file.
    pub(crate) fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        let mut layer = Layer::new();
        layer.file(path, mode, content);
        self.layer(layer.finish())
    }

    /// Sets a member of the image's configuration, as Docker names it.
    pub(crate) fn config(mut self, name: &str, value: Value) -> Self {
        self.config[name] = value;
        self
    }

    /// Has it expose these ports, as in `80/tcp`.
    pub(crate) fn expose(self, ports: &[&str]) -> Self {
        let ports = ports.iter().map(|port| ((*port).to_owned(), json!({})));
        self.config("ExposedPorts", Value::Object(ports.collect()))
    }

    /// Says that it is made for other processors.
    pub(crate) fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Gives it a name and a tag.
    pub(crate) fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Writes it into a directory of its own.
    pub(crate) fn save(self) -> Saved {
        let directory = TempDir::new().expect("temporary directory");
        let path = directory.path().join("image.tar");
        fs::write(&path, self.to_tar()).expect("write an archive");
        Saved {
            path,
            _directory: directory,
        }
    }

    fn to_tar(&self) -> Vec<u8> {
        let digests: Vec<_> = self.layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "created": "1970-01-01T00:00:00Z", "os": "linux", "architecture": self.architecture,
            "config": self.config, "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let names: Vec<_> = (0..self.layers.len())
            .map(|index| format!("{index}/layer.tar"))
            .collect();
        let manifest = json!([{"Config": "config.json", "RepoTags": [self.name], "Layers": names}]);
        let mut archive = Layer::new();
        archive.file("manifest.json", 0o644, manifest.to_string().as_bytes());
        archive.file("config.json", 0o644, config.to_string().as_bytes());
        for (name, layer) in names.iter().zip(&self.layers) {
            archive.file(name, 0o644, layer);
        }
        archive.finish()
    }
}

/// An image in a file, which is gone when this is.
pub(crate) struct Saved {
    path: PathBuf,
    _directory: TempDir,
}

impl Saved {
    /// The file, for a command line.
    pub(crate) fn path(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }
}

/// A tar that is being written.
pub(crate) struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    /// One without entries.
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// One with busybox under all its names, and two users.
    pub(crate) fn busybox() -> Self {
        let mut layer = Self::new();
        for directory in ["bin", "etc", "root", "home"] {
            layer.directory(directory, 0o755);
        }
        layer.directory("tmp", 0o1777);
        let busybox = fs::read("/bin/busybox").expect("it is installed");
        layer.file("bin/busybox", 0o755, &busybox);
        let applets = Command::new("/bin/busybox").arg("--list").output();
        let applets = applets.expect("it runs").stdout;
        for applet in String::from_utf8_lossy(&applets).lines() {
            if applet != "busybox" {
                layer.link(&format!("bin/{applet}"), "/bin/busybox");
            }
        }
        let users = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/home:/bin/sh\n";
        layer.file("etc/passwd", 0o644, users.as_bytes());
        layer.file("etc/group", 0o644, b"root:x:0:\nweb:x:34:\nlog:x:4:web\n");
        layer
    }

    /// Adds a file that belongs to root.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let mut header = header(tar::EntryType::Regular, mode);
        header.set_size(content.len() as u64);
        self.0
            .append_data(&mut header, path, content)
            .expect("write to memory");
    }

    /// Adds a directory that belongs to root.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        let mut header = header(tar::EntryType::Directory, mode);
        self.0
            .append_data(&mut header, path, &[][..])
            .expect("write to memory");
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        let mut header = header(tar::EntryType::Symlink, 0o777);
        self.0
            .append_link(&mut header, path, target)
            .expect("write to memory");
    }

    /// Adds a device, whatever its numbers stand for, that everybody may read and write.
    pub(crate) fn device(&mut self, path: &str, kind: tar::EntryType, major: u32, minor: u32) {
        let mut header = header(kind, 0o666);
        header.set_device_major(major).expect("a GNU header");
        header.set_device_minor(minor).expect("a GNU header");
        self.0
            .append_data(&mut header, path, &[][..])
            .expect("write to memory");
    }

    /// All of it.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("write to memory")
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}
