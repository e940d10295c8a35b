//! The root file system of a container: the image's layers, the files of its specification, and what it writes.
//!
//! Layers are stored with the owners that the image gives them. Each is mounted with its owners shifted to the ids of the
//! container, in a mount namespace that only this container's processes are ever in. The files of the specification are
//! written through an overlay over the layers, so that the kernel copies up the directories that they are in; what that
//! leaves is a layer of its own.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::super::control::{Create, Problem, Step, steps};
use super::super::sys::{self, OpenHow};
use super::beneath;
use super::mounts::PLACES;
use super::view;

/// Where a container's root file system is mounted, in its own mount namespace.
pub(super) const ROOT: &str = "/root";
/// Where the parts are that it is made of, likewise: the layers, and files that are kept in memory.
pub(super) const PARTS: &str = "/parts";

/// Which addresses a container knows by name.
const HOSTS: &str = "/etc/hosts";

/// How much the files of a specification can be to be kept in memory rather than on disk, in bytes.
const IN_MEMORY: usize = 1 << 20;

/// Mounts the root file system of a container at [`ROOT`], for the user namespace `users`. The caller is in a mount
/// namespace of its own.
pub(super) fn mount_root(create: &Create, users: &OwnedFd) -> Result<(), Problem> {
    mount(
        Some("tmpfs"),
        PARTS,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0755"),
    )
    .step("mount a temporary directory")?;
    let lower = mount_layers(create, users)?;

    let directory = Path::new(view::CONTAINERS).join(&create.name);
    let owner = Some(create.first_id);
    // A new inode on a busy disk takes longer than all else here, and what is little fits into memory.
    let length: usize = create.files.iter().map(|file| file.content.len()).sum();
    let place = if length <= IN_MEMORY {
        Path::new(PARTS)
    } else {
        &directory
    };
    let files = make_directory(place, "files", owner)?;
    // None is used twice: the kernel marks what a volatile overlay has worked in.
    mount_overlay(&lower, &files, &make_directory(place, "files.work", None)?)?;
    write_files(create)?;
    umount2(ROOT, MntFlags::empty()).step("unmount the files of the container")?;

    let lower = format!("{}:{lower}", files.display());
    let upper = make_directory(&directory, "upper", owner)?;
    mount_overlay(&lower, &upper, &make_directory(&directory, "work", None)?)?;
    // One of the specification is what somebody wants to have there.
    let mut files = create.files.iter();
    if files.any(|file| Path::new(&file.path) == Path::new(HOSTS)) {
        return Ok(());
    }
    mount_hosts(&directory)
}

/// Makes a directory that belongs to the container, or to us.
fn make_directory(place: &Path, name: &str, owner: Option<u32>) -> Result<PathBuf, Problem> {
    let path = place.join(name);
    let make = || {
        fs::create_dir(&path)?;
        chown(&path, owner, owner)
    };
    make().step(format!("make {name}, a directory of the container,"))?;
    Ok(path)
}

/// Mounts the engine's `hosts` file over the container's. It is written when the container has its address, which is later.
fn mount_hosts(directory: &Path) -> Result<(), Problem> {
    let mount = || {
        let how = OpenHow {
            flags: libc::O_PATH | libc::O_NOFOLLOW,
            ..OpenHow::default()
        };
        let place = sys::open_beneath(fs::File::open(ROOT)?, "etc/hosts", how)?;
        let hosts = sys::clone_mount(&directory.join("hosts"))?;
        sys::make_plain(&hosts)?;
        sys::attach_mount_over(&hosts, &place)
    };
    mount().step("mount /etc/hosts of the container")
}

/// Mounts the layers, and returns their names as the overlay's mount option has them, the highest first.
///
/// The names are short, relative to the working directory, because all options together must fit into a page.
fn mount_layers(create: &Create, users: &OwnedFd) -> Result<String, Problem> {
    let layers = Path::new(PARTS).join("layers");
    fs::create_dir(&layers).step("make a directory for the layers")?;
    std::env::set_current_dir(&layers).step("change to the directory of the layers")?;
    let mut names = Vec::with_capacity(create.layers.len());
    for (number, layer) in create.layers.iter().enumerate() {
        let name = number.to_string();
        let layer = sys::clone_mount(&Path::new(view::LAYERS).join(layer)).step("find a layer")?;
        sys::shift_owners(&layer, users).step(steps::IDMAP)?;
        fs::create_dir(&name).step("make a directory for a layer")?;
        sys::attach_mount(&layer, Path::new(&name)).step("mount a layer")?;
        names.push(name);
    }
    if names.is_empty() {
        // An image without layers: the kernel wants one at least.
        fs::create_dir("empty").step("make an empty layer")?;
        names.push("empty".to_owned());
    }
    names.reverse();
    Ok(names.join(":"))
}

/// Mounts an overlay at [`ROOT`].
fn mount_overlay(lower: &str, upper: &Path, work: &Path) -> Result<(), Problem> {
    // Not synced to disk, because nothing of it survives the container. Layers come from strangers: what an attribute in
    // them says about other places of the layers below is not followed.
    let options = format!(
        "lowerdir={lower},upperdir={},workdir={},volatile,index=off,metacopy=off,redirect_dir=nofollow",
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        ROOT,
        Some("overlay"),
        MsFlags::MS_NODEV,
        Some(options.as_str()),
    )
    .step(steps::OVERLAY)
}

/// Writes the files of the specification, and those that every container has, into what is mounted at [`ROOT`].
fn write_files(create: &Create) -> Result<(), Problem> {
    let root = fs::File::open(ROOT).step("open the root directory")?;
    for name in PLACES {
        match beneath::directory(&root, &Path::new("/").join(name), Some(create.first_id)) {
            // Something else than a directory is told of when it is to be mounted on.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOTDIR | libc::EEXIST | libc::ELOOP)
                ) => {}
            other => drop(other.step(format!("make /{name} in the image"))?),
        }
    }
    let etc = beneath::directory(&root, Path::new("/etc"), Some(create.first_id))
        .step("make /etc in the image")?;
    for (name, content) in [
        // The engine's file is mounted over it.
        ("hosts", ""),
        ("hostname", &format!("{}\n", create.hostname)),
        ("resolv.conf", &create.resolv_conf),
    ] {
        beneath::write_file(
            &etc,
            name.as_ref(),
            0o644,
            create.first_id,
            content.as_bytes(),
        )
        .step(format!("write /etc/{name}"))?;
    }
    for file in &create.files {
        let (directory, name) = place(&file.path)?;
        let bad = |error| {
            Problem::BadSpec(format!(
                "`{}` cannot be written into the container: {error}",
                file.path
            ))
        };
        let directory =
            beneath::directory(&root, &directory, Some(create.first_id)).map_err(bad)?;
        beneath::write_file(
            &directory,
            name.as_ref(),
            file.mode,
            create.first_id,
            &file.content,
        )
        .map_err(bad)?;
    }
    Ok(())
}

/// Directory and name of a file for a container.
fn place(text: &str) -> Result<(PathBuf, &str), Problem> {
    let bad = |reason: &str| {
        Err(Problem::BadSpec(format!(
            "`{text}` is no place for a file in a container: {reason}"
        )))
    };
    let path = Path::new(text);
    if !path.is_absolute() {
        return bad("it must begin with `/`");
    }
    if path
        .components()
        .any(|component| component == Component::ParentDir)
    {
        return bad("it must not have `..` in it");
    }
    if text.contains('\0') {
        return bad("it has a zero byte in it");
    }
    if text.ends_with('/') || text.ends_with("/.") {
        return bad("it names a directory");
    }
    if ["/proc", "/sys", "/dev"]
        .iter()
        .any(|hidden| path.starts_with(hidden))
    {
        return bad("a file system of the kernel's is mounted over it");
    }
    match (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) {
        (Some(directory), Some(name)) => Ok((directory.to_owned(), name)),
        _ => bad("it names no file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_to_plain_absolute_places_only() {
        assert_eq!(
            place("/etc/nginx/nginx.conf"),
            Ok(("/etc/nginx".into(), "nginx.conf"))
        );
        assert_eq!(place("/x"), Ok(("/".into(), "x")));
        for text in [
            "",
            "x",
            "./x",
            "/",
            "/x/",
            "/x/.",
            "/..",
            "/../x",
            "/../../x",
            "/a/../../x",
            "/x\0y",
            "/proc/self/mem",
            "/dev/null",
            "/sys/x",
        ] {
            assert!(
                matches!(place(text), Err(Problem::BadSpec(_))),
                "{text:?} {:?}",
                place(text)
            );
        }
    }
}
