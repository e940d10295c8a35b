//! The files that this program consists of: its executable, its loader and the libraries it needs.
//!
//! Which libraries are mapped depends on what the program has done before, and their file names on the distribution. So
//! the list of those needed comes from the files themselves, and what is mapped says only where each of them is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::elf;
use super::{HelloError, PROGRAM};

/// The running executable. It can be opened even when its file has been replaced since.
const EXECUTABLE: &str = "/proc/self/exe";

/// Where the libraries are in the image.
pub(super) const LIBRARIES: &str = "/lib/tf";

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Absolute path in the image.
    pub(super) target: String,
    /// Where it is read on this machine.
    pub(super) source: PathBuf,
    /// What tells whether it has changed.
    pub(super) stamp: Stamp,
}

/// What tells whether a file has changed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Stamp {
    pub(super) path: PathBuf,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified: (i64, i64),
}

/// All files of this program, by their paths in the image.
pub(super) fn parts() -> Result<Vec<Part>, HelloError> {
    let executable = Path::new(EXECUTABLE);
    let links = links(executable)?;
    let mut parts = BTreeMap::new();
    add(&mut parts, PROGRAM.to_owned(), executable)?;
    let Some(interpreter) = links.interpreter else {
        return Ok(parts.into_values().collect());
    };
    add(&mut parts, interpreter.clone(), Path::new(&interpreter))?;
    let mapped = mapped_libraries()?;
    let mut needed = links.needed;
    while let Some(name) = needed.pop() {
        let target = format!("{LIBRARIES}/{name}");
        // The loader is a library too, and there already.
        if parts.contains_key(&target) || interpreter.ends_with(&format!("/{name}")) {
            continue;
        }
        let path = mapped.get(&name).ok_or_else(|| {
            failed(
                &format!("it needs the library {name}, which is not loaded"),
                io::ErrorKind::NotFound.into(),
            )
        })?;
        needed.extend(self::links(path)?.needed);
        add(&mut parts, target, path)?;
    }
    Ok(parts.into_values().collect())
}

/// The libraries that are mapped now, by the names that others know them by.
fn mapped_libraries() -> Result<BTreeMap<String, PathBuf>, HelloError> {
    let maps = fs::read_to_string("/proc/self/maps")
        .map_err(|error| failed("cannot read /proc/self/maps", error))?;
    let mut libraries = BTreeMap::new();
    for path in mapped_files(&maps) {
        // Not every mapped file is a library, and what is not needed need not be one.
        let Ok(links) = File::open(&path).and_then(|file| elf::links(&file)) else {
            continue;
        };
        let file_name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        if let Some(name) = links.name.or(file_name) {
            libraries.insert(name, path);
        }
    }
    Ok(libraries)
}

/// Paths of the files that are mapped as code, each once.
fn mapped_files(maps: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| {
            // address, permissions, offset, device, inode, and a path that may have spaces.
            let mut fields = line.splitn(6, ' ');
            let permissions = fields.nth(1)?;
            let path = fields.nth(3)?.trim_start();
            // A library that has been replaced since is followed by a mark; its successor has the same name.
            let path = path.strip_suffix(" (deleted)").unwrap_or(path);
            (permissions.contains('x') && path.starts_with('/')).then(|| PathBuf::from(path))
        })
        .collect();
    files.sort();
    files.dedup();
    files
}

fn links(path: &Path) -> Result<elf::Links, HelloError> {
    File::open(path)
        .and_then(|file| elf::links(&file))
        .map_err(|error| failed(&format!("cannot read {}", path.display()), error))
}

fn add(
    parts: &mut BTreeMap<String, Part>,
    target: String,
    source: &Path,
) -> Result<(), HelloError> {
    let error = |error| failed(&format!("cannot read {}", source.display()), error);
    // The executable's path is a link of the kernel: what it points to tells one program from another.
    let path = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let metadata = fs::metadata(source).map_err(error)?;
    let part = Part {
        target: target.clone(),
        source: source.to_owned(),
        stamp: Stamp {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        },
    };
    parts.insert(target, part);
    Ok(())
}

fn failed(what: &str, source: io::Error) -> HelloError {
    HelloError::Binary {
        what: what.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_complete() {
        let parts = parts().expect("parts");
        let targets: Vec<_> = parts.iter().map(|part| part.target.as_str()).collect();
        assert!(targets.contains(&PROGRAM), "{targets:?}");
        let links = links(Path::new(EXECUTABLE)).expect("links");
        let interpreter = links.interpreter.unwrap_or_default();
        for name in links.needed {
            assert!(
                interpreter.ends_with(&name)
                    || targets.contains(&format!("{LIBRARIES}/{name}").as_str()),
                "{targets:?}"
            );
        }
        assert!(targets.is_sorted());
    }

    #[test]
    fn mapped_files_are_code_with_a_path() {
        let maps = "\
7f0000000000-7f0000001000 r--p 00000000 fe:00 1 /usr/lib/data
7f0000000000-7f0000001000 r-xp 00000000 fe:00 1                          /usr/lib/a b.so
7f0000000000-7f0000001000 r-xp 00000000 fe:00 1 /usr/lib/old.so (deleted)
7f0000000000-7f0000001000 r-xp 00000000 00:00 0 [vdso]
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 
";
        let files = mapped_files(maps);
        assert_eq!(
            files,
            [
                PathBuf::from("/usr/lib/a b.so"),
                PathBuf::from("/usr/lib/old.so")
            ]
        );
    }
}
