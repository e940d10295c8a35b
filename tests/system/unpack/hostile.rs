//! Layers that try to get out of their directory, or to hide what they should not.
//!
//! Each is either refused by name, with nothing left, or unpacked as Docker would, inside.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tar::EntryType;
use tfnz::node::engine::EngineError;

use super::archive::Archive;
use super::{Fixture, is_root};

/// Asserts that the layer is refused with a text that has all of `words`, that nothing is left of it, and that nothing
/// has changed outside.
pub(super) async fn refused(what: &str, tar: Vec<u8>, words: &[&str]) {
    if !is_root(what) {
        return;
    }
    let fixture = Fixture::new();
    let victim = fixture.dir.path().join("victim");
    fs::write(&victim, "untouched").expect("written");
    let before = fs::metadata(&victim).expect("there");

    let error = fixture.add(tar).await.expect_err(what);
    assert!(
        matches!(error, EngineError::BadLayer { .. }),
        "{what}: {error:?}"
    );
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{what}: `{word}` is not in: {text}");
    }
    assert_eq!(fixture.names(), [""; 0], "{what}");
    assert_eq!(
        super::names(fixture.dir.path()),
        ["layers", "victim"],
        "{what}"
    );
    assert_eq!(fs::read(&victim).expect("there"), b"untouched", "{what}");
    let after = fs::metadata(&victim).expect("there");
    assert_eq!(
        (before.mode(), before.ctime(), before.nlink()),
        (after.mode(), after.ctime(), after.nlink()),
        "{what}"
    );
}

/// Unpacks a layer that Docker would take too, and asserts that nothing is outside of it.
async fn contained(what: &str, tar: Vec<u8>, check: impl FnOnce(&Path)) {
    if !is_root(what) {
        return;
    }
    let fixture = Fixture::new();
    let root = match fixture.add(tar).await {
        Ok(root) => root,
        Err(error) => panic!("{what}: {error:?}"),
    };
    check(&root);
    assert_eq!(super::names(fixture.dir.path()), ["layers"], "{what}");
    assert_eq!(fixture.names().len(), 1, "{what}");
}

#[tokio::test]
async fn names_that_climb_out_are_refused() {
    for name in [
        "../victim",
        "a/../../victim",
        "/../victim",
        "..",
        "../../../../../../../../etc/tfnz-test",
    ] {
        refused(
            name,
            Archive::new().file(name, "pwned").finish(),
            &[name, "out of the layer"],
        )
        .await;
    }
    let tar = Archive::new().dir("../evil").finish();
    refused("directory", tar, &["../evil", "out of the layer"]).await;
    let tar = Archive::new()
        .pax(&[("path", b"../victim")])
        .file("harmless", "pwned")
        .finish();
    refused("extended name", tar, &["../victim", "out of the layer"]).await;
}

#[tokio::test]
async fn absolute_names_are_taken_as_relative() {
    let tar = Archive::new().file("/etc/tfnz-test", "inside").finish();
    contained("absolute name", tar, |root| {
        assert_eq!(
            fs::read(root.join("etc/tfnz-test")).expect("there"),
            b"inside"
        );
        assert!(!Path::new("/etc/tfnz-test").exists());
    })
    .await;
}

#[tokio::test]
async fn a_file_through_a_link_stays_inside() {
    for target in ["/", "..", "../..", "/etc/..", "../../../../../.."] {
        let tar = Archive::new()
            .symlink("out", target)
            .file("out/victim", "inside")
            .finish();
        contained(target, tar, |root| {
            assert_eq!(fs::read(root.join("victim")).expect("there"), b"inside");
            assert_eq!(
                fs::read_link(root.join("out")).expect("a link"),
                Path::new(target)
            );
        })
        .await;
    }
    // Where the link leads to nothing in the layer, that is made, inside.
    let tar = Archive::new()
        .symlink("run", "/var/run/deep")
        .symlink("var/run", "../away")
        .file("run/victim", "inside")
        .finish();
    contained("dangling link", tar, |root| {
        assert_eq!(
            fs::read(root.join("away/deep/victim")).expect("there"),
            b"inside"
        );
    })
    .await;
    let tar = Archive::new()
        .symlink("escape", "/proc/self/root")
        .file("escape/victim", "inside")
        .finish();
    contained("magic link", tar, |root| {
        let inside = root.join("proc/self/root/victim");
        assert_eq!(fs::read(inside).expect("there"), b"inside");
        assert!(!Path::new("/victim").exists());
    })
    .await;
}

#[tokio::test]
async fn a_file_replaces_a_link_and_does_not_follow_it() {
    let fixture = Fixture::new();
    let victim = fixture.dir.path().join("victim");
    let target = victim.to_str().expect("text");
    let tar = Archive::new()
        .symlink("link", target)
        .file("link", "inside")
        .symlink("dir", fixture.dir.path().to_str().expect("text"))
        .dir("dir")
        .file("dir/victim", "inside")
        .finish();
    contained("replaced links", tar, |root| {
        assert!(
            fs::symlink_metadata(root.join("link"))
                .expect("there")
                .is_file()
        );
        assert!(
            fs::symlink_metadata(root.join("dir"))
                .expect("there")
                .is_dir()
        );
        assert!(!victim.exists());
    })
    .await;
}

#[tokio::test]
async fn attributes_of_a_link_are_not_its_targets() {
    if !is_root("link attributes") {
        return;
    }
    let fixture = Fixture::new();
    let victim = fixture.dir.path().join("victim");
    fs::write(&victim, "untouched").expect("written");
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).expect("set");
    let before = fs::metadata(&victim).expect("there");
    let target = victim.to_str().expect("text");
    let tar = Archive::new()
        .with(EntryType::Symlink, "link", target, "", |header| {
            header.set_mode(0o4777);
            header.set_uid(1234);
        })
        .finish();
    fixture.add(tar).await.expect("a good layer");
    let after = fs::metadata(&victim).expect("there");
    assert_eq!(
        (before.mode(), before.uid(), before.mtime(), before.ctime()),
        (after.mode(), after.uid(), after.mtime(), after.ctime())
    );
}

#[tokio::test]
async fn circles_of_links_are_refused() {
    let tar = Archive::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/file", "")
        .finish();
    refused("circle", tar, &["a/file", "circle"]).await;
    let tar = Archive::new()
        .symlink("a", "b/x")
        .symlink("b", "a/x")
        .file("a/file", "")
        .finish();
    refused("growing circle", tar, &["a/file"]).await;
    let tar = Archive::new()
        .symlink("a", "a/x")
        .file("a/file", "")
        .finish();
    refused("link into itself", tar, &["a/file"]).await;
}

#[tokio::test]
async fn hard_links_to_outside_are_refused() {
    for target in ["../victim", "../../victim", "/../victim"] {
        let tar = Archive::new().hard_link("stolen", target).finish();
        refused(target, tar, &["stolen", "out of the layer"]).await;
    }
    for target in ["/etc/passwd", "etc/passwd", "/", "", "none/such", "."] {
        let tar = Archive::new().hard_link("stolen", target).finish();
        refused(target, tar, &["stolen", "hard link"]).await;
    }
    let tar = Archive::new()
        .symlink("e", "/etc")
        .hard_link("stolen", "e/passwd")
        .finish();
    refused("through a link", tar, &["stolen", "not in the layer"]).await;
    let tar = Archive::new()
        .symlink("up", "..")
        .hard_link("stolen", "up/victim")
        .finish();
    refused(
        "through a link upwards",
        tar,
        &["stolen", "not in the layer"],
    )
    .await;
    let tar = Archive::new().dir("dir").hard_link("link", "dir").finish();
    refused("to a directory", tar, &["link", "directory"]).await;
    let tar = Archive::new()
        .file("file", "")
        .hard_link("link", "file/x")
        .finish();
    refused("into a file", tar, &["link", "not in the layer"]).await;
}

#[tokio::test]
async fn a_hard_link_to_a_link_is_another_name_of_the_link() {
    let tar = Archive::new()
        .symlink("out", "/etc/passwd")
        .hard_link("again", "out")
        .file("again", "inside")
        .finish();
    contained("link to link", tar, |root| {
        assert!(
            fs::symlink_metadata(root.join("out"))
                .expect("there")
                .is_symlink()
        );
        assert_eq!(fs::read(root.join("again")).expect("there"), b"inside");
    })
    .await;
}

#[tokio::test]
async fn hard_links_to_themselves_and_to_what_they_replace() {
    let tar = Archive::new().file("a", "x").hard_link("a", "./a").finish();
    contained("itself", tar, |root| {
        assert_eq!(fs::read(root.join("a")).expect("there"), b"x");
    })
    .await;
    let tar = Archive::new()
        .file("a/b", "x")
        .hard_link("a", "a/b")
        .finish();
    refused("its own directory", tar, &["`a`", "not in the layer"]).await;
}

#[tokio::test]
async fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "dir/.wh...", "dir/.wh.."] {
        let tar = Archive::new().file("dir/keep", "").file(name, "").finish();
        refused(name, tar, &[name, "no name"]).await;
    }
    let tar = Archive::new().file("../.wh.victim", "").finish();
    refused("outside", tar, &["out of the layer"]).await;
}

#[tokio::test]
async fn whiteouts_stay_inside() {
    let tar = Archive::new()
        .symlink("up", "..")
        .file("up/.wh.victim", "")
        .file("up/sub/.wh..wh..opq", "")
        .finish();
    contained("through a link", tar, |root| {
        let gone = fs::symlink_metadata(root.join("victim")).expect("there");
        assert!(gone.file_type().is_char_device());
        assert_eq!(gone.rdev(), 0);
        assert!(is_opaque(&root.join("sub")));
    })
    .await;
}

#[tokio::test]
async fn what_a_layer_has_itself_outlives_its_whiteouts() {
    let tar = Archive::new()
        .file("before", "kept")
        .file(".wh.before", "")
        .file(".wh.after", "")
        .file("after", "kept")
        .dir("dir-before")
        .file("dir-before/file", "kept")
        .file(".wh.dir-before", "")
        .file(".wh.dir-after", "")
        .file("dir-after/file", "kept")
        .file(".wh.listed", "")
        .dir("listed")
        .file("plain/file", "kept")
        .finish();
    contained("whiteouts beside content", tar, |root| {
        for name in ["before", "after", "dir-before/file", "dir-after/file"] {
            assert_eq!(fs::read(root.join(name)).expect(name), b"kept", "{name}");
        }
        // Else what lower layers have in them would show.
        for name in ["dir-before", "dir-after", "listed"] {
            assert!(is_opaque(&root.join(name)), "{name}");
        }
        assert!(!is_opaque(&root.join("plain")));
    })
    .await;
}

#[tokio::test]
async fn attributes_of_overlayfs_and_of_security_modules_are_dropped() {
    let forged: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.20ft.boot", b"x"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        (
            "SCHILY.xattr.security.selinux",
            b"system_u:object_r:etc_t:s0",
        ),
        ("SCHILY.xattr.user.kept", b"yes"),
    ];
    let tar = Archive::new()
        .pax(forged)
        .dir("dir")
        .pax(forged)
        .file("file", "x")
        .finish();
    contained("forged attributes", tar, |root| {
        for name in ["dir", "file"] {
            let found = super::fidelity::xattrs(&root.join(name));
            assert_eq!(found, [("user.kept".to_owned(), b"yes".to_vec())], "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn devices_are_made_as_they_are_and_0_0_is_a_whiteout() {
    let tar = Archive::new()
        .device(EntryType::Char, "null", 1, 3)
        .device(EntryType::Block, "disk", 8, 0)
        .device(EntryType::Char, "gone", 0, 0)
        .dir("dir")
        .device(EntryType::Char, "dir", 0, 0)
        .finish();
    contained("devices", tar, |root| {
        let found = |name: &str| fs::symlink_metadata(root.join(name)).expect("there");
        assert_eq!(found("null").rdev(), rustix::fs::makedev(1, 3));
        assert_eq!(found("null").mode() & 0o7777, 0o755);
        assert_eq!(found("null").mtime(), 1_000_000);
        assert!(found("disk").file_type().is_block_device());
        assert_eq!(found("gone").rdev(), 0);
        assert!(is_opaque(&root.join("dir")));
        // Nobody but root gets as far as the devices, or the programs with set-id bits.
        let store = root.parent().expect("the store");
        assert_eq!(fs::metadata(store).expect("there").mode() & 0o777, 0o700);
    })
    .await;
    let tar = Archive::new()
        .device(EntryType::Char, "cut", 4096, 1 << 20)
        .finish();
    refused(
        "a number that would be cut off",
        tar,
        &["cut", "device number"],
    )
    .await;
}

#[tokio::test]
async fn entries_may_replace_one_another() {
    let tar = Archive::new()
        .file("a/b/c", "old")
        .file("a", "a file now")
        .file("x", "a file")
        .dir("x")
        .file("x/y", "inside")
        .file("twice", "first")
        .file("twice", "second")
        .symlink("link", "x")
        .file("link/z", "through")
        .dir("link")
        .file("link/z", "own")
        .finish();
    contained("replacing", tar, |root| {
        let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
        assert_eq!(read("a"), "a file now");
        assert_eq!(read("x/y"), "inside");
        assert_eq!(read("twice"), "second");
        assert_eq!(read("x/z"), "through");
        assert_eq!(read("link/z"), "own");
    })
    .await;
}

#[tokio::test]
async fn replacing_a_hard_link_leaves_the_other_name() {
    let tar = Archive::new()
        .file("a", "first")
        .hard_link("b", "a")
        .file("a", "second")
        .finish();
    contained("replaced link", tar, |root| {
        assert_eq!(fs::read_to_string(root.join("a")).expect("there"), "second");
        assert_eq!(fs::read_to_string(root.join("b")).expect("there"), "first");
    })
    .await;
}

#[tokio::test]
async fn a_file_is_no_directory() {
    let tar = Archive::new().file("a", "").file("a/b", "").finish();
    refused("beneath a file", tar, &["a/b", "not a directory"]).await;
    let tar = Archive::new()
        .file("a", "")
        .symlink("l", "a")
        .file("l/b", "")
        .finish();
    refused("beneath a link to a file", tar, &["l/b", "not a directory"]).await;
    for kind in [EntryType::Regular, EntryType::Symlink, EntryType::Fifo] {
        let tar = Archive::new().entry(kind, "./", "x", "").finish();
        refused("the root", tar, &["./", "root"]).await;
    }
}

fn is_opaque(dir: &Path) -> bool {
    let mut value = [0; 8];
    let found = rustix::fs::lgetxattr(dir, "trusted.overlay.opaque", &mut value[..]);
    found == Ok(1) && value[0] == b'y'
}
