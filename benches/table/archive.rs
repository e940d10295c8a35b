//! Images as `docker save` writes them, which `docker load` and `tf` both read.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::rootfs::Rootfs;

/// An image.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    /// Its name.
    pub(crate) name: String,
    /// The files of its layers, the lowest first.
    pub(crate) layers: Vec<Rootfs>,
    /// What it runs.
    pub(crate) command: Vec<String>,
    /// The TCP port that it exposes.
    pub(crate) port: Option<u16>,
}

impl Archive {
    /// An image of one layer that runs `command`, given as words.
    pub(crate) fn new(name: &str, rootfs: Rootfs, command: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            layers: vec![rootfs],
            command: command.iter().copied().map(str::to_owned).collect(),
            port: None,
        }
    }

    /// Exposing a TCP port.
    pub(crate) fn exposing(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// With a layer more, above the others.
    pub(crate) fn layer(mut self, rootfs: Rootfs) -> Self {
        self.layers.push(rootfs);
        self
    }

    /// Writes it to a file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let (mut files, mut diff_ids) = (Vec::new(), Vec::new());
        for (number, rootfs) in self.layers.iter().enumerate() {
            let file = path.with_extension(format!("layer{number}"));
            let mut hashed = Hashed::new(BufWriter::new(File::create(&file)?));
            rootfs.write_tar(&mut hashed)?;
            diff_ids.push(format!("sha256:{}", hashed.finish()?));
            files.push((format!("layer{number}.tar"), file));
        }
        let names: Vec<_> = files.iter().map(|(name, _)| name).collect();

        let ports: serde_json::Map<_, _> = self
            .port
            .map(|port| (format!("{port}/tcp"), json!({})))
            .into_iter()
            .collect();
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Cmd": self.command, "ExposedPorts": ports},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))?;
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let manifest = serde_json::to_vec(&json!([{
            "Config": config_name, "RepoTags": [format!("{}:latest", self.name)], "Layers": names,
        }]))?;

        let mut tar = tar::Builder::new(BufWriter::new(File::create(path)?));
        for (name, content) in [
            ("manifest.json", &manifest),
            (config_name.as_str(), &config),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, &content[..])?;
        }
        for (name, file) in &files {
            tar.append_file(name, &mut File::open(file)?)?;
            fs::remove_file(file)?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

/// This machine's, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Passes on what is written to it, and knows its digest.
struct Hashed<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> Hashed<W> {
    fn new(out: W) -> Self {
        let hasher = Sha256::new();
        Self { out, hasher }
    }

    fn finish(mut self) -> io::Result<String> {
        self.out.flush()?;
        Ok(hex(&self.hasher.finalize()))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
