//! What the kernel shows of stacked layers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tfnz::ids::Digest;

use super::archive::Archive;
use super::{Fixture, is_root, names};

/// Layers stacked by the kernel, read-only.
struct Stack(PathBuf);

impl Stack {
    /// Mounts `layers`, the lowest first.
    fn mount(at: &Path, layers: &[PathBuf]) -> Self {
        fs::create_dir(at).expect("made");
        let lower: Vec<&str> = layers
            .iter()
            .rev()
            .map(|layer| layer.to_str().expect("text"))
            .collect();
        let mounted = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o"])
            .arg(format!("lowerdir={}", lower.join(":")))
            .arg(at)
            .status()
            .expect("mount is there");
        assert!(mounted.success());
        Self(at.to_owned())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test]
async fn stacked_layers_are_what_their_archives_say() {
    if !is_root("stacking") {
        return;
    }
    let fixture = Fixture::new();
    let tars = [
        Archive::new()
            .file("kept", "lower")
            .file("changed", "lower")
            .file("removed", "lower")
            .file("dir/kept", "lower")
            .file("dir/removed", "lower")
            .file("emptied/a", "lower")
            .file("emptied/b", "lower")
            .file("removed-dir/a", "lower")
            .file("replaced-dir/a", "lower")
            .file("replaced-later/a", "lower")
            .file("becomes-file/a", "lower")
            .file("becomes-dir", "lower")
            .finish(),
        Archive::new()
            .file("changed", "upper")
            .file(".wh.removed", "")
            .file("dir/.wh.removed", "")
            .file("dir/new", "upper")
            .dir("emptied")
            .file("emptied/.wh..wh..opq", "")
            .file("emptied/c", "upper")
            .file(".wh.removed-dir", "")
            .file(".wh.replaced-dir", "")
            .file("replaced-dir/b", "upper")
            .file("replaced-later/b", "upper")
            .file(".wh.replaced-later", "")
            .file("becomes-file", "upper")
            .file(".wh.becomes-dir", "")
            .file("becomes-dir/a", "upper")
            .finish(),
    ];
    let layers = tars.each_ref().map(|tar| Digest::of(tar));
    for tar in tars {
        fixture.add(tar).await.expect("a good layer");
    }
    let held = fixture.store.hold(&layers).expect("both are there");
    let stack = Stack::mount(&fixture.dir.path().join("merged"), held.paths());

    let list = |name: &str| names(&stack.0.join(name));
    assert_eq!(
        list(""),
        [
            "becomes-dir",
            "becomes-file",
            "changed",
            "dir",
            "emptied",
            "kept",
            "replaced-dir",
            "replaced-later"
        ]
    );
    assert_eq!(list("dir"), ["kept", "new"]);
    assert_eq!(list("emptied"), ["c"]);
    assert_eq!(list("replaced-dir"), ["b"]);
    assert_eq!(list("replaced-later"), ["b"]);
    assert_eq!(list("becomes-dir"), ["a"]);
    let read = |name: &str| fs::read_to_string(stack.0.join(name)).expect(name);
    assert_eq!(read("kept"), "lower");
    assert_eq!(read("changed"), "upper");
    assert_eq!(read("becomes-file"), "upper");
}
