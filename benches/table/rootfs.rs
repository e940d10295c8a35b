//! The files of the images that are run, made of programs of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::far_end;

/// Length of the pieces that noise repeats in: noise for the first half, nothing for the second.
const NOISE_PIECE: usize = 64 * 1024;

/// What is in a file.
#[derive(Debug, Clone)]
enum Content {
    /// What is in this file here.
    Copy(PathBuf),
    /// This.
    Text(String),
    /// So many bytes, which shrink to a half when they are compressed, as programs do; others with another seed.
    Noise { size: u64, seed: u64 },
}

/// Files by their paths, without the leading slash.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rootfs {
    files: BTreeMap<String, Content>,
}

impl Rootfs {
    /// One static program under its own name.
    pub(crate) fn busybox() -> Result<Self> {
        let program = find("busybox")?;
        ensure!(
            libraries(&program)?.is_empty(),
            "{} is not static (apt install busybox-static)",
            program.display()
        );
        Ok(Self::default().copy("bin/busybox", program))
    }

    /// This machine's nginx with its libraries, and a page on port 80.
    pub(crate) fn nginx() -> Result<Self> {
        const CONFIGURATION: &str = "daemon off; error_log stderr; pid /tmp/nginx.pid; user root;\n\
             events {}\n\
             http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p;\n\
             fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;\n\
             server { listen 80; root /srv; } }\n";
        let rootfs = Self::default()
            .program("usr/sbin/nginx", &find("nginx")?)?
            .text("etc/nginx.conf", CONFIGURATION)
            .text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
            .text("etc/group", "root:x:0:\n")
            .text("srv/index.html", "up\n")
            .text("tmp/.keep", "")
            // nginx opens the log that is compiled into it before it reads its configuration.
            .text("var/log/nginx/error.log", "");
        Ok(rootfs)
    }

    /// This program with its libraries, to be the far end of tunnels.
    pub(crate) fn far_end() -> Result<Self> {
        Self::default().program(far_end::PATH, &std::env::current_exe()?)
    }

    /// With a large file.
    pub(crate) fn noise(self, path: &str, size: u64) -> Self {
        self.seeded_noise(path, size, 0)
    }

    /// With a large file that is another one with another seed.
    pub(crate) fn seeded_noise(mut self, path: &str, size: u64, seed: u64) -> Self {
        let noise = Content::Noise { size, seed };
        self.files.insert(path.to_owned(), noise);
        self
    }

    fn text(mut self, path: &str, text: &str) -> Self {
        let text = Content::Text(text.to_owned());
        self.files.insert(path.to_owned(), text);
        self
    }

    fn copy(mut self, path: &str, source: PathBuf) -> Self {
        self.files.insert(path.to_owned(), Content::Copy(source));
        self
    }

    fn program(mut self, path: &str, source: &Path) -> Result<Self> {
        for library in libraries(source)? {
            let path = library.to_string_lossy();
            let path = path.trim_start_matches('/').to_owned();
            self = self.copy(&path, library);
        }
        Ok(self.copy(path, source.to_owned()))
    }

    /// Writes it as a tar, as layers are.
    pub(crate) fn write_tar(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for directory in self.directories() {
            let mut header = header(tar::EntryType::Directory, 0);
            tar.append_data(&mut header, directory, io::empty())?;
        }
        for (path, content) in &self.files {
            let (size, content) = content.open()?;
            let mut header = header(tar::EntryType::Regular, size);
            tar.append_data(&mut header, path, content)
                .with_context(|| format!("add {path} to an image"))?;
        }
        tar.finish()?;
        Ok(())
    }

    /// Writes it into a directory.
    pub(crate) fn write_directory(&self, directory: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        self.write_tar(&mut bytes)?;
        tar::Archive::new(&bytes[..]).unpack(directory)?;
        Ok(())
    }

    /// Directories above the files, each before those in it.
    fn directories(&self) -> BTreeSet<&Path> {
        let above = self.files.keys().flat_map(|path| {
            let above = Path::new(path).ancestors().skip(1);
            above.filter(|path| !path.as_os_str().is_empty())
        });
        above.collect()
    }
}

impl Content {
    fn open(&self) -> Result<(u64, Box<dyn Read + '_>)> {
        Ok(match self {
            Self::Copy(path) => {
                let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
                (file.metadata()?.len(), Box::new(file))
            }
            Self::Text(text) => (text.len() as u64, Box::new(text.as_bytes())),
            Self::Noise { size, seed } => (*size, Box::new(Noise::new(*seed).take(*size))),
        })
    }
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
}

/// Bytes without end.
struct Noise {
    state: u64,
    piece: Vec<u8>,
    used: usize,
}

impl Noise {
    fn new(seed: u64) -> Self {
        Self {
            // Anything but zero.
            state: 0x9e37_79b9_7f4a_7c15 ^ seed << 1,
            piece: vec![0; NOISE_PIECE],
            used: NOISE_PIECE,
        }
    }

    fn refill(&mut self) {
        for eight in self.piece[..NOISE_PIECE / 2].chunks_exact_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            eight.copy_from_slice(&self.state.to_le_bytes());
        }
        self.used = 0;
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            self.refill();
        }
        let read = (&self.piece[self.used..]).read(buffer)?;
        self.used += read;
        Ok(read)
    }
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Not in the path of ordinary users.
    places.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.iter().map(|place| place.join(program));
    match found.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("there is no program {program}"),
    }
}

/// The libraries that a program is loaded with, the loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
