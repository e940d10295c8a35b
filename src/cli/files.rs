//! Files that are put into the container before it starts, as `-f SRC:DEST` gives them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::cli::failure::Failure;
use crate::protocol::container::PrebootFile;

/// What all files together may have, in bytes. They travel inside the message that starts the container.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

/// Reads the files that the `-f` options name.
///
/// # Errors
///
/// An option that is malformed, a source that is missing, no file, or too large, or a destination that is given twice.
pub(crate) fn read(options: &[String]) -> Result<Vec<PrebootFile>, Failure> {
    let mut files: Vec<PrebootFile> = Vec::with_capacity(options.len());
    let mut paths = BTreeSet::new();
    let mut left = MOST_BYTES;
    for option in options {
        let (source, path) = parse(option)?;
        if !paths.insert(path.clone()) {
            return Err(Failure::arguments(format!(
                "two files are to become `{path}`: expected each destination once"
            )));
        }
        let file = read_file(source, path, left)?;
        left -= file.content.len() as u64;
        files.push(file);
    }
    Ok(files)
}

/// Splits `SRC:DEST` and completes DEST by the name of the source.
fn parse(option: &str) -> Result<(&Path, String), Failure> {
    let invalid = |reason: &str| {
        Failure::arguments(format!(
            "`-f {option}`: {reason}: expected SRC:DEST, as in ./nginx.conf:/etc/nginx/"
        ))
    };
    // The last colon, so that a source on a Windows drive works.
    let Some((source, destination)) = option.rsplit_once(':') else {
        return Err(invalid("there is no `:` in it"));
    };
    if source.is_empty() {
        return Err(invalid("there is no source"));
    }
    if !destination.starts_with('/') {
        return Err(invalid("the destination is not an absolute path"));
    }
    if destination.split('/').any(|part| part == "..") {
        return Err(invalid("the destination has `..` in it"));
    }
    let source = Path::new(source);
    let mut path = destination.to_owned();
    if path.ends_with('/') {
        let name = source
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| invalid("the source has no file name to keep"))?;
        path.push_str(name);
    }
    Ok((source, path))
}

fn read_file(source: &Path, path: String, left: u64) -> Result<PrebootFile, Failure> {
    let failed = |error: std::io::Error| {
        Failure::arguments(format!("cannot read `{}`: {error}", source.display()))
    };
    let metadata = fs::metadata(source).map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::arguments(format!(
            "`{}` is a directory: expected a file",
            source.display()
        ))
        .hint("give one -f for each file, or build the directory into an image"));
    }
    let mut content = Vec::new();
    // Read at most one byte more than there is room for: a device or a pipe has no length to ask for.
    fs::File::open(source)
        .and_then(|file| file.take(left + 1).read_to_end(&mut content))
        .map_err(failed)?;
    if content.len() as u64 > left {
        return Err(Failure::arguments(format!(
            "`{}` is too large: expected all files of -f to have at most {} MiB together",
            source.display(),
            MOST_BYTES >> 20
        ))
        .hint("build large files into an image"));
    }
    Ok(PrebootFile {
        path,
        mode: mode(&metadata),
        content,
    })
}

#[cfg(unix)]
fn mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;

    // A set-user-ID bit of the caller's file must not make a program run as root in the container.
    metadata.permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn mode(metadata: &fs::Metadata) -> u32 {
    if metadata.permissions().readonly() {
        0o444
    } else {
        0o644
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn source(directory: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("the directory is there");
        path
    }

    fn read_one(source: &Path, destination: &str) -> Result<PrebootFile, String> {
        read(&[format!("{}:{destination}", source.display())])
            .map(|mut files| files.remove(0))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_destination_that_ends_in_a_slash_keeps_the_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = source(&directory, "a.conf", b"content");
        for (destination, path) in [("/etc/", "/etc/a.conf"), ("/", "/a.conf"), ("/b", "/b")] {
            let file = read_one(&file, destination).expect("valid");
            assert_eq!(
                (file.path.as_str(), &*file.content),
                (path, &b"content"[..])
            );
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for option in [
            "",
            ":",
            "a",
            ":/b",
            "a:",
            "a:b",
            "a:./b",
            "a:/b/../../etc/passwd",
            "a:/..",
            "..:/",
            "/:/b/",
        ] {
            let message = read(&[option.to_owned()]).expect_err(option).to_string();
            assert!(message.contains("expected SRC:DEST"), "{message}");
        }
    }

    #[test]
    fn sources_that_are_missing_or_no_files_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let message = read_one(&directory.path().join("none"), "/a").expect_err("missing");
        assert!(message.contains("cannot read"), "{message}");
        let message = read_one(directory.path(), "/a").expect_err("a directory");
        assert!(message.contains("is a directory"), "{message}");
    }

    #[test]
    fn all_files_together_have_a_limit() {
        let directory = tempfile::tempdir().expect("a directory");
        let half = usize::try_from(MOST_BYTES / 2).expect("it is small");
        let first = source(&directory, "first", &vec![0; half]);
        let second = source(&directory, "second", &vec![0; half]);
        let third = source(&directory, "third", b"x");
        let option = |path: &Path| format!("{}:/etc/", path.display());
        assert!(read(&[option(&first), option(&second)]).is_ok());
        let message = read(&[option(&first), option(&second), option(&third)])
            .expect_err("too large")
            .to_string();
        assert!(message.contains("too large"), "{message}");
    }

    #[test]
    fn a_destination_is_given_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = source(&directory, "a", b"");
        let option = |destination: &str| format!("{}:{destination}", file.display());
        let message = read(&[option("/etc/"), option("/etc/a")])
            .expect_err("twice")
            .to_string();
        assert!(message.contains("two files"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_kept_without_set_id_bits() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().expect("a directory");
        let file = source(&directory, "a", b"");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).expect("it is ours");
        assert_eq!(read_one(&file, "/a").expect("valid").mode, 0o751);
    }
}
