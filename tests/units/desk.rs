//! A user of a machine with systemd, whose `systemctl` only writes down what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::common::{Program, tf};

/// Writes down what it is told, and fails at what the file `fails` names.
const SYSTEMCTL: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/told"
if [ -e "$here/fails" ] && echo "$@" | grep -q "$(cat "$here/fails")"; then
    echo "systemd says no" >&2
    exit 1
fi
case "$*" in *is-active*) echo active ;; esac
"#;

/// A user of a machine with systemd, whose containers run at a location elsewhere: that needs no root.
pub(super) struct Desk {
    pub(super) directory: TempDir,
}

impl Desk {
    pub(super) fn new() -> Self {
        let desk = Self {
            directory: TempDir::new().expect("a directory for temporary files"),
        };
        for name in ["bin", "home"] {
            fs::create_dir(desk.path(name)).expect("it is ours");
        }
        desk.program("systemctl", SYSTEMCTL);
        desk
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a script on the path, in front of all else.
    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, script).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    pub(super) fn search_path(&self) -> String {
        let path = std::env::var("PATH").expect("it is set");
        format!("{}:{path}", self.path("bin").display())
    }

    pub(super) fn tf(&self, words: &[&str]) -> Program {
        let mut program = tf()
            .args(words)
            .env("HOME", self.path("home"))
            .env("TF_HOME", self.path("home/.20ft"))
            .env("TF_STATE", self.path("home/state"))
            .env("TF_LOCATION", "office")
            .env("PATH", self.search_path());
        program.command().current_dir(self.path("home"));
        program
    }

    pub(super) fn unit(&self, name: &str) -> Option<String> {
        let name = format!("home/.config/systemd/user/tf-{name}.service");
        fs::read_to_string(self.path(&name)).ok()
    }

    /// What systemctl was told since the last time.
    pub(super) fn told(&self) -> Vec<String> {
        let path = self.path("bin/told");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }

    /// Makes systemctl fail at commands with this text in them.
    pub(super) fn fails_at(&self, text: &str) {
        fs::write(self.path("bin/fails"), text).expect("it is ours");
    }

    /// All files in the user's home.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.path("home"), &mut files);
        files
    }

    /// Asserts that there is no file in the user's home.
    #[track_caller]
    pub(super) fn assert_empty(&self) {
        assert_eq!(self.files(), Vec::<PathBuf>::new());
    }
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("it is ours") {
        let path = entry.expect("it is ours").path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}
