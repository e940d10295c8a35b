//! The same archive unpacked by GNU tar and here must be the same tree.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tfnz::ids::Digest;

use super::{Fixture, is_root};

/// All that is to be the same about a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    size: u64,
    mtime: (i64, i64),
    links: u64,
    /// The first name of the same file.
    first: PathBuf,
    target: Option<PathBuf>,
    content: Option<Digest>,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// Names and values of a file's extended attributes, in order; those of security modules of this machine excepted.
pub(super) fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("a list");
    let mut found: Vec<(String, Vec<u8>)> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).expect("text");
            let mut value = vec![0; 64 << 10];
            let length =
                rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).expect("a value");
            value.truncate(length);
            (name, value)
        })
        .collect();
    found.sort();
    found
}

fn tree(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut firsts = HashMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(name) = waiting.pop() {
        let path = root.join(&name);
        let found = fs::symlink_metadata(&path).expect("there");
        if found.is_dir() {
            let mut entries: Vec<PathBuf> = fs::read_dir(&path)
                .expect("a directory")
                .map(|entry| name.join(entry.expect("an entry").file_name()))
                .collect();
            entries.sort();
            entries.reverse();
            waiting.extend(entries);
        }
        let first = firsts.entry(found.ino()).or_insert_with(|| name.clone());
        let is_root = name.as_os_str().is_empty();
        let one = Seen {
            mode: found.mode(),
            owner: (found.uid(), found.gid()),
            device: found.rdev(),
            size: if found.is_dir() { 0 } else { found.len() },
            mtime: (found.mtime(), found.mtime_nsec()),
            links: if found.is_dir() { 0 } else { found.nlink() },
            first: first.clone(),
            target: fs::read_link(&path).ok(),
            content: found
                .is_file()
                .then(|| Digest::of(&fs::read(&path).expect("readable"))),
            xattrs: xattrs(&path)
                .into_iter()
                .filter(|(name, _)| !(is_root && name == "trusted.20ft.boot"))
                .collect(),
        };
        seen.insert(name, one);
    }
    seen
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program is there");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Packs `source` with these options, unpacks it with both, and compares.
async fn compare(source: &Path, options: &[&str]) {
    let fixture = Fixture::new();
    let packed = fixture.dir.path().join("packed.tar");
    run(Command::new("tar")
        .args(["--create", "--numeric-owner", "--file"])
        .arg(&packed)
        .args(options)
        .arg("--directory")
        .arg(source)
        .arg("."));
    let theirs = fixture.dir.path().join("theirs");
    fs::create_dir(&theirs).expect("made");
    run(Command::new("tar")
        .args([
            "--extract",
            "--numeric-owner",
            "--same-permissions",
            "--xattrs",
            "--xattrs-include=*",
            "--file",
        ])
        .arg(&packed)
        .arg("--directory")
        .arg(&theirs));
    let ours = fixture
        .add(fs::read(&packed).expect("packed"))
        .await
        .expect("a good layer");
    let (ours, theirs) = (tree(&ours), tree(&theirs));
    assert!(ours.len() > 1);
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>(),
        "{options:?}"
    );
    for (name, seen) in &ours {
        assert_eq!(seen, &theirs[name], "{} {options:?}", name.display());
    }
}

/// Sparse files, with few pieces, with many and with none.
fn holes(root: &Path) {
    let sparse = fs::File::create(root.join("sparse")).expect("made");
    for place in [0_u64, 1 << 20, 3 << 20, (9 << 20) + 5] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[b'x'; 5000], place).expect("written");
    }
    sparse.set_len(20 << 20).expect("longer");
    let holes = fs::File::create(root.join("holes")).expect("made");
    for place in 0..200_u64 {
        std::os::unix::fs::FileExt::write_all_at(&holes, b"x", place << 16).expect("written");
    }
    fs::File::create(root.join("hole"))
        .expect("made")
        .set_len(8 << 20)
        .expect("longer");
}

/// One of each.
fn zoo(root: &Path) {
    let file = |name: &str, content: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(&path, content).expect("written");
        path
    };
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    };
    let xattr = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).expect("set");
    };

    file("empty", b"");
    file("large", &b"0123456789abcdef".repeat(100_000));
    for length in [511, 512, 513] {
        file(&format!("lengths/{length}"), &vec![b'x'; length]);
    }
    let odd = root.join(std::ffi::OsStr::from_bytes(b"odd\xff\\name\nwith line"));
    fs::write(odd, "odd").expect("written");
    file(&format!("{}/{}", "d".repeat(150), "f".repeat(250)), b"long");
    file(&format!("{}file", "deep/".repeat(60)), b"deep");
    std::os::unix::fs::symlink("t".repeat(300), root.join("long-link")).expect("linked");
    std::os::unix::fs::symlink("/absolute", root.join("absolute-link")).expect("linked");
    let first = file("hard/first", b"linked");
    fs::hard_link(&first, root.join("hard/second")).expect("linked");
    fs::hard_link(root.join("long-link"), root.join("hard/link")).expect("linked");

    let suid = file("suid", b"#!/bin/sh\n");
    std::os::unix::fs::chown(&suid, Some(1000), Some(1001)).expect("owned");
    mode(&suid, 0o6755);
    let foreign = file("foreign", b"");
    std::os::unix::fs::chown(&foreign, Some(100_000), Some(2_000_000_000)).expect("owned");
    std::os::unix::fs::lchown(root.join("long-link"), Some(7), Some(8)).expect("owned");
    mode(&file("secret", b"x"), 0o000);

    // Net-raw and more: the value has a line end in it, which readers have stumbled over.
    let capable = file("capable", b"program");
    xattr(
        &capable,
        "security.capability",
        b"\x01\0\0\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    );
    xattr(&capable, "user.note", b"two\nlines = \0 and more");
    fs::create_dir(root.join("noted")).expect("made");
    xattr(&root.join("noted"), "user.note", b"on a directory");

    for (name, kind, device) in [
        ("fifo", rustix::fs::FileType::Fifo, 0),
        (
            "char",
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::makedev(1, 3),
        ),
        (
            "block",
            rustix::fs::FileType::BlockDevice,
            rustix::fs::makedev(259, 70_000),
        ),
    ] {
        let path = root.join(name);
        let any = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, any, device).expect("made");
        mode(&path, 0o4666);
    }

    holes(root);

    fs::create_dir_all(root.join("read-only/below")).expect("made");
    file("read-only/below/file", b"x");
    mode(&root.join("read-only/below"), 0o555);
    mode(&root.join("read-only"), 0o1555);
    fs::create_dir(root.join("setgid")).expect("made");
    std::os::unix::fs::chown(root.join("setgid"), None, Some(50)).expect("owned");
    mode(&root.join("setgid"), 0o2775);
    file("setgid/file", b"x");

    // Last, since everything above changes times.
    let mut time = 100;
    for name in [
        "fifo",
        "char",
        "long-link",
        "empty",
        "hard",
        "read-only/below",
        "read-only",
        "setgid",
        "noted",
        ".",
    ] {
        time += 1_000_000;
        run(Command::new("touch")
            .args(["--no-dereference", "--date", &format!("@{time}.123456789")])
            .arg(root.join(name)));
    }
    run(Command::new("touch")
        .args(["--date", "1960-01-01"])
        .arg(root.join("secret")));
}

#[tokio::test]
async fn one_of_each_is_as_gnu_tar_unpacks_it() {
    if !is_root("comparison with GNU tar") {
        return;
    }
    let source = tempfile::tempdir().expect("a directory");
    zoo(source.path());
    for options in [
        &["--format=pax", "--xattrs", "--xattrs-include=*"][..],
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &[
            "--format=pax",
            "--xattrs",
            "--sparse",
            "--sparse-version=1.0",
        ],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=oldgnu", "--sparse"],
    ] {
        compare(source.path(), options).await;
    }
}

#[tokio::test]
async fn part_of_this_machine_is_as_gnu_tar_unpacks_it() {
    if !is_root("comparison with GNU tar") {
        return;
    }
    for part in ["/usr/share/doc", "/usr/bin", "/etc"] {
        compare(
            Path::new(part),
            &["--format=pax", "--xattrs", "--xattrs-include=*"],
        )
        .await;
    }
}

#[tokio::test]
async fn access_lists_are_kept_and_not_inherited() {
    if !is_root("access lists") {
        return;
    }
    // Version 2: owner, user 1000, group, mask, others.
    let list = |named: u8| {
        let mut list = vec![2, 0, 0, 0];
        for (tag, permissions, id) in [
            (0x01_u16, 7_u16, u32::MAX),
            (0x02, u16::from(named), 1000),
            (0x04, 5, u32::MAX),
            (0x10, 7, u32::MAX),
            (0x20, 5, u32::MAX),
        ] {
            list.extend_from_slice(&tag.to_le_bytes());
            list.extend_from_slice(&permissions.to_le_bytes());
            list.extend_from_slice(&id.to_le_bytes());
        }
        list
    };
    let tar = super::archive::Archive::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &list(6))])
        .dir("dir")
        .file("dir/plain", "x")
        .dir("dir/sub")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", &list(4))])
        .with(tar::EntryType::Regular, "dir/listed", "", "x", |header| {
            header.set_mode(0o675);
        })
        .finish();
    let fixture = Fixture::new();
    let root = fixture.add(tar).await.expect("a good layer");
    let one = |name: &str, value: u8| vec![(format!("system.posix_acl_{name}"), list(value))];
    assert_eq!(xattrs(&root.join("dir")), one("default", 6));
    assert_eq!(xattrs(&root.join("dir/plain")), []);
    assert_eq!(xattrs(&root.join("dir/sub")), []);
    assert_eq!(xattrs(&root.join("dir/listed")), one("access", 4));
}
