//! Unpacking layers as root: what GNU tar makes of the same archive, what hostile archives try, and stores on a full
//! disk.

mod archive;
mod excessive;
mod fidelity;
mod hostile;
mod overlay;
mod random;
mod stores;

use std::path::{Path, PathBuf};

use tfnz::ids::Digest;
use tfnz::node::engine::EngineError;
use tfnz::node::engine::linux::layers::Store;

/// Whether the test can run. A machine that is there for testing must have what it takes.
fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} needs root");
    #[expect(clippy::print_stderr, reason = "whoever runs the tests must see it")]
    {
        eprintln!("skipped: {test} needs root");
    }
    false
}

/// A store in a directory of its own, and what is beside it.
struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        Self::at(tempfile::tempdir().expect("a directory"))
    }

    /// For what a disk would take too long for.
    fn in_memory() -> Self {
        Self::at(tempfile::tempdir_in("/dev/shm").expect("a directory"))
    }

    fn at(dir: tempfile::TempDir) -> Self {
        let store = Store::open(&dir.path().join("layers")).expect("a store");
        Self { dir, store }
    }

    /// Adds the layer that `tar` is.
    async fn add(&self, tar: Vec<u8>) -> Result<PathBuf, EngineError> {
        let layer = Digest::of(&tar);
        let tar = Box::new(std::io::Cursor::new(tar));
        self.store.add(layer, tar, &|_| ()).await?;
        Ok(self.layers().join(layer.hex()))
    }

    fn layers(&self) -> PathBuf {
        self.dir.path().join("layers")
    }

    /// What the store has in its directory.
    fn names(&self) -> Vec<String> {
        names(&self.layers())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}
