//! Users and groups of a container, by its own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use super::super::control::{Problem, Step};
use super::super::sys::{OpenHow, open_beneath};

/// Most that is read of either file, in bytes.
const LONGEST_FILE: u64 = 16 << 20;
/// Ids that a container has.
pub(in super::super) const IDS: u32 = 65536;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// User id.
    pub(super) uid: u32,
    /// Group id.
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
    /// Home directory.
    pub(super) home: String,
}

impl User {
    /// Finds what `user`, `uid`, `user:group` or `uid:gid` means beneath `root`; empty means root.
    pub(super) fn find(root: impl AsFd, text: &str) -> Result<Self, Problem> {
        let passwd = read(&root, "etc/passwd").step("read /etc/passwd of the image")?;
        let group = read(&root, "etc/group").step("read /etc/group of the image")?;
        find(&passwd, &group, text).map_err(Problem::BadSpec)
    }
}

/// Content of a regular file of the image's own file system; nothing if there is none.
///
/// A hostile image may have a fifo there, or a link into `/proc`: neither is opened for longer than it takes to see that.
fn read(root: impl AsFd, path: &str) -> io::Result<String> {
    let how = OpenHow {
        flags: libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY,
        resolve: libc::RESOLVE_NO_XDEV,
        ..OpenHow::default()
    };
    let file = match open_beneath(root, path, how) {
        Ok(fd) => File::from(fd),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::EXDEV | libc::ELOOP | libc::ENXIO)
            ) =>
        {
            return Ok(String::new());
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of `passwd`: name, uid, gid, home.
fn passwd_line(line: &str) -> Option<(&str, u32, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).unwrap_or("");
    Some((name, uid, gid, home))
}

/// A line of `group`: name, gid, members.
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or("")))
}

/// A number that is an id of the container, if `text` is a number.
fn number(text: &str) -> Option<Result<u32, String>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(match text.parse() {
        Ok(id) if id < IDS => Ok(id),
        _ => Err(format!(
            "{text} is not an id that a container has: expected 0 to {}",
            IDS - 1
        )),
    })
}

fn find(passwd: &str, group: &str, text: &str) -> Result<User, String> {
    let (user_text, group_text) = text.split_once(':').unwrap_or((text, ""));
    let user_text = if user_text.is_empty() { "0" } else { user_text };

    let users = || passwd.lines().filter_map(passwd_line);
    // A name that looks like a number is a number unless somebody is really called that.
    let named = users().find(|(name, ..)| *name == user_text);
    let (entry, uid) = match (named, number(user_text)) {
        (Some(entry), _) => (Some(entry), entry.1),
        (None, Some(uid)) => {
            let uid = uid?;
            (users().find(|(_, id, ..)| *id == uid), uid)
        }
        (None, None) => {
            return Err(format!(
                "the image has no user `{user_text}` (in its /etc/passwd): give one that it has, or a number"
            ));
        }
    };
    let (gid, groups) = if group_text.is_empty() {
        (
            entry.map_or(0, |(_, _, gid, _)| gid),
            entry.map_or_else(Vec::new, |(name, ..)| groups_of(group, name)),
        )
    } else {
        // Who names a group gets that one only.
        (find_group(group, group_text)?, Vec::new())
    };
    if let Some(id) = [uid, gid].into_iter().find(|id| *id >= IDS) {
        return Err(format!(
            "`{text}` has the id {id} in the image, and a container has 0 to {} only",
            IDS - 1
        ));
    }
    Ok(User {
        uid,
        gid,
        groups,
        home: entry
            .map(|(.., home)| home)
            .filter(|home| !home.is_empty())
            .unwrap_or("/")
            .to_owned(),
    })
}

fn find_group(group: &str, text: &str) -> Result<u32, String> {
    let named = group
        .lines()
        .filter_map(group_line)
        .find(|(name, ..)| *name == text);
    match (named, number(text)) {
        (Some((_, gid, _)), _) => Ok(gid),
        (None, Some(gid)) => gid,
        (None, None) => Err(format!(
            "the image has no group `{text}` (in its /etc/group): give one that it has, or a number"
        )),
    }
}

/// The groups that a user is a member of.
fn groups_of(group: &str, name: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(group_line)
        .filter(|(.., members)| members.split(',').any(|member| member == name))
        .map(|(_, gid, _)| gid)
        .filter(|gid| *gid < IDS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nweb:x:33:33:web:/var/www:/bin/sh\n1234:x:7:8::/odd:\n\
                          big:x:70000:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlog:x:4:web,other\nextra:x:99:other,web\n";

    fn user(text: &str) -> (u32, u32, Vec<u32>, String) {
        let user = find(PASSWD, GROUP, text).expect(text);
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(user(""), (0, 0, vec![], "/root".to_owned()));
        assert_eq!(user("web"), (33, 33, vec![4, 99], "/var/www".to_owned()));
        assert_eq!(user("33"), (33, 33, vec![4, 99], "/var/www".to_owned()));
        assert_eq!(user("web:log"), (33, 4, vec![], "/var/www".to_owned()));
        assert_eq!(user("web:17"), (33, 17, vec![], "/var/www".to_owned()));
        assert_eq!(user(":log"), (0, 4, vec![], "/root".to_owned()));
        assert_eq!(user("5:6"), (5, 6, vec![], "/".to_owned()));
        assert_eq!(user("5"), (5, 0, vec![], "/".to_owned()));
        assert_eq!(user("1234"), (7, 8, vec![], "/odd".to_owned()));
    }

    #[test]
    fn users_that_are_not_there_are_named() {
        for (text, part) in [
            ("nobody", "no user `nobody`"),
            ("web:none", "no group `none`"),
            ("65536", "not an id"),
            ("99999999999", "not an id"),
            ("0:65536", "not an id"),
            ("big", "70000"),
            ("-1", "no user"),
        ] {
            let error = find(PASSWD, GROUP, text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn neither_a_fifo_nor_a_link_that_leads_out_is_read() {
        let image = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(image.path().join("etc")).expect("made");
        let root = File::open(image.path()).expect("opened");
        assert_eq!(read(&root, "etc/passwd").expect("none"), "");
        nix::unistd::mkfifo(
            &image.path().join("etc/passwd"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .expect("a fifo");
        assert_eq!(read(&root, "etc/passwd").expect("ignored"), "");
        std::os::unix::fs::symlink("/proc/self/environ", image.path().join("etc/group"))
            .expect("a link");
        assert_eq!(read(&root, "etc/group").expect("not followed"), "");
        std::os::unix::fs::symlink("/../../real", image.path().join("etc/link")).expect("a link");
        std::fs::write(image.path().join("real"), "inside").expect("written");
        assert_eq!(read(&root, "etc/link").expect("beneath the root"), "inside");
    }
}
