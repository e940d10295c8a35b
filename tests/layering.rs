//! Who may use whom: reads the `use` lines of `src` and holds them to the table in the crate's documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each area of `src`, and the areas that it may name. `ids`, the identifiers, may be named by all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("keys", &[]),
    ("keyring", &["keys"]),
    ("invitation", &["keys"]),
    ("config", &["size"]),
    ("lock", &[]),
    ("progress", &[]),
    ("shutdown", &[]),
    ("size", &[]),
    ("tcp", &[]),
    ("protocol", &[]),
    ("link", &["keys", "protocol", "tcp"]),
    ("image", &["protocol"]),
    (
        "sdk",
        &[
            "keys",
            "keyring",
            "invitation",
            "link",
            "protocol",
            "image",
            "progress",
            "tcp",
        ],
    ),
    (
        "location",
        &["invitation", "keys", "link", "lock", "protocol", "image"],
    ),
    ("node/engine", &["lock", "protocol", "tcp"]),
    ("node", &["keys", "link", "protocol", "node/engine", "tcp"]),
    (
        "embedded",
        &[
            "keys",
            "keyring",
            "config",
            "link",
            "protocol",
            "location",
            "node",
            "node/engine",
            "sdk",
            "serve",
        ],
    ),
    (
        "serve",
        &[
            "invitation",
            "keys",
            "keyring",
            "link",
            "location",
            "node",
            "node/engine",
            "protocol",
            "tcp",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "embedded",
            "image",
            "invitation",
            "keyring",
            "link",
            "progress",
            "protocol",
            "sdk",
            "serve",
            "shutdown",
            "size",
        ],
    ),
];

/// Crates that only some areas may name.
const CRATES: &[(&str, &[&str])] = &[
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("anyhow", &["cli"]),
    ("bollard", &["image"]),
    ("oci_client", &["image"]),
    ("rusqlite", &["location"]),
    ("snow", &["link", "protocol"]),
    ("yamux", &["link"]),
];

/// What the pure parts must not name.
const PROTOCOL_MUST_NOT: &[&str] = &[
    "tokio",
    "std::net::Tcp",
    "std::fs",
    "std::time::Instant",
    "SystemTime",
];

#[test]
fn areas_use_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for file in sources(Path::new("src")) {
        let Some(area) = area_of(&file) else { continue };
        let allowed = allowed(&area);
        for (number, target) in uses(&file) {
            if target != area && target != "ids" && !allowed.contains(&target.as_str()) {
                wrong.push(format!(
                    "{}:{number}: {area} must not use {target}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn crates_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for file in sources(Path::new("src")) {
        let Some(area) = area_of(&file) else { continue };
        for (number, line) in code(&file) {
            for (name, areas) in CRATES {
                if line.contains(&format!("{name}::")) && !areas.contains(&area.as_str()) {
                    wrong.push(format!(
                        "{}:{number}: {area} must not name {name}",
                        file.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_protocol_is_pure() {
    let mut wrong = Vec::new();
    for file in sources(Path::new("src/protocol")) {
        for (number, line) in code(&file) {
            for name in PROTOCOL_MUST_NOT {
                if line.contains(name) {
                    wrong.push(format!(
                        "{}:{number}: the protocol must not name {name}",
                        file.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_area_is_in_the_table() {
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(area, _)| *area).collect();
    for file in sources(Path::new("src")) {
        if let Some(area) = area_of(&file) {
            assert!(
                known.contains(area.as_str()),
                "{}: no row for {area}",
                file.display()
            );
        }
    }
}

fn allowed(area: &str) -> &'static [&'static str] {
    MAY_USE
        .iter()
        .find(|(name, _)| *name == area)
        .map_or(&[], |(_, allowed)| allowed)
}

/// The area that a file belongs to; none for the crate's root and the binaries, which may use all.
fn area_of(file: &Path) -> Option<String> {
    let path = file.strip_prefix("src").unwrap_or(file);
    let mut parts = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    let first = parts.next()?;
    let first = first.trim_end_matches(".rs");
    match (first, parts.next().as_deref()) {
        ("lib" | "bin", _) => None,
        ("node", Some("engine")) => Some("node/engine".to_owned()),
        _ => Some(first.to_owned()),
    }
}

/// The areas that a file names by `crate::`, with line numbers.
fn uses(file: &Path) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in code(file) {
        for (start, _) in line.match_indices("crate::") {
            let rest = &line[start + "crate::".len()..];
            let path: Vec<&str> = rest
                .split("::")
                .map(|part| {
                    part.split(|c: char| !c.is_alphanumeric() && c != '_')
                        .next()
                        .unwrap_or("")
                })
                .collect();
            match path.as_slice() {
                ["node", "engine", ..] => found.push((number, "node/engine".to_owned())),
                [first, ..] if !first.is_empty() => found.push((number, (*first).to_owned())),
                _ => {}
            }
        }
    }
    found
}

/// A file's lines without comments and tests, with their numbers.
fn code(file: &Path) -> Vec<(usize, String)> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines()
        .enumerate()
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect()
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
