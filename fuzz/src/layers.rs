//! Archives of layers, unpacked. Whatever is in one, nothing outside its directory changes.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tfnz::node::engine::linux::unpack::unpack;

/// Unpacks the bytes into a directory beside one that must not be touched.
pub fn run(data: &[u8]) {
    // In memory, where there is such a place: most of the work is the file system's.
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() {
        base
    } else {
        Path::new("/tmp")
    };
    let Ok(directory) = tempfile::tempdir_in(base) else {
        return;
    };
    let (layer, victim) = (
        directory.path().join("layer"),
        directory.path().join("victim"),
    );
    for path in [&layer, &victim] {
        fs::create_dir(path).expect("it is empty");
    }
    fs::write(victim.join("a"), "untouched").expect("it is ours");
    let before = seen(directory.path());
    let root = File::open(&layer).expect("it is there");
    let archive = with_checksums(data);
    let _ = unpack(root.into(), &archive[..]);
    assert_eq!(
        seen(directory.path()),
        before,
        "something outside has changed"
    );
}

/// What is beside the layer, with what tells that it was changed.
fn seen(directory: &Path) -> Vec<(String, u32, u64, i64, i64)> {
    let mut names = vec!["victim".to_owned(), "victim/a".to_owned()];
    let entries = fs::read_dir(directory).expect("it is there").flatten();
    names.extend(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.sort();
    let look = |name: String| {
        let found = fs::symlink_metadata(directory.join(&name)).expect("it is there");
        // The layer's own time changes, of course.
        let time = if name == "layer" {
            (0, 0)
        } else {
            (found.ctime(), found.ctime_nsec())
        };
        let (mode, links) = if name == "layer" {
            (0, 0)
        } else {
            (found.mode(), found.nlink())
        };
        (name, mode, links, time.0, time.1)
    };
    names.into_iter().map(look).collect()
}

/// The archive with headers that say the right sum, which no fuzzer would ever guess.
pub(crate) fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut archive = data.to_vec();
    for block in archive.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}

/// An entry: its header, what it holds, and what fills its last block.
pub(crate) fn entry(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    with_checksums(&[&header, content, &padding].concat())
}

/// Archives with one entry of each kind that matters.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let end = vec![0; 1024];
    let pax = b"30 path=usr/share/a-long-name\n22 SCHILY.xattr.user.a=b\n";
    let sparse = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n30 GNU.sparse.realsize=100000\n";
    vec![
        [
            entry(b'5', "usr/", "", b""),
            entry(b'0', "usr/file", "", b"content"),
            entry(b'1', "usr/hard", "usr/file", b""),
            entry(b'2', "usr/soft", "../etc", b""),
            entry(b'0', "usr/soft/through", "", b"x"),
            entry(b'0', "usr/.wh.file", "", b""),
            entry(b'0', "usr/.wh..wh..opq", "", b""),
            end.clone(),
        ]
        .concat(),
        [
            entry(b'2', "a", "../victim", b""),
            entry(b'0', "a/a", "", b"changed"),
            entry(b'1', "b", "a/a", b""),
            end.clone(),
        ]
        .concat(),
        [
            entry(b'0', "../victim/a", "", b"changed"),
            entry(b'0', "/etc/x", "", b""),
            end.clone(),
        ]
        .concat(),
        [
            entry(b'x', "pax", "", pax),
            entry(b'0', "short", "", b"y"),
            entry(b'g', "global", "", b"11 mtime=1\n"),
            end.clone(),
        ]
        .concat(),
        [
            entry(b'L', "././@LongLink", "", &[b'n'; 300]),
            entry(b'0', "n", "", b"z"),
            end.clone(),
        ]
        .concat(),
        [
            entry(b'x', "pax", "", sparse),
            entry(b'0', "sparse", "", b"1\n0\n5\nhello"),
            end.clone(),
        ]
        .concat(),
        [
            entry(b'3', "dev", "", b""),
            entry(b'6', "fifo", "", b""),
            entry(b'S', "old", "", b"old"),
            end,
        ]
        .concat(),
    ]
}
