//! What a file has beside its content: owner, mode, times, extended attributes.

use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::entries::Entry;
use super::fault::{Done, Fault, shown};

/// What an entry says of a file beside its content.
pub(super) struct Attributes {
    mode: Mode,
    uid: Uid,
    gid: Gid,
    times: Timestamps,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    pub(super) fn of(entry: &Entry) -> Self {
        let time = Timespec {
            tv_sec: entry.mtime.seconds,
            tv_nsec: entry.mtime.nanoseconds.into(),
        };
        Self {
            mode: Mode::from_raw_mode(entry.mode),
            uid: Uid::from_raw(entry.uid),
            gid: Gid::from_raw(entry.gid),
            times: Timestamps {
                last_access: time,
                last_modification: time,
            },
            xattrs: entry.xattrs.clone(),
        }
    }

    /// Sets them. The order matters: a new owner costs a file its set-id bits and its capabilities.
    pub(super) fn set(&self, file: &OwnedFd) -> Done {
        fs::fchown(file, Some(self.uid), Some(self.gid))?;
        fs::fchmod(file, self.mode)?;
        for (name, value) in self.xattrs.iter().filter(|(name, _)| is_kept(name)) {
            set_xattr(file, name, value)?;
        }
        fs::futimens(file, &self.times)?;
        Ok(())
    }

    /// Sets them on something that cannot be opened without effects.
    pub(super) fn set_at(&self, dir: &OwnedFd, name: &[u8], is_link: bool) -> Done {
        fs::chownat(
            dir,
            name,
            Some(self.uid),
            Some(self.gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        if !is_link {
            fs::chmodat(dir, name, self.mode, AtFlags::empty())?;
        }
        fs::utimensat(dir, name, &self.times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    pub(super) fn memory(&self) -> usize {
        let xattrs = self.xattrs.iter();
        xattrs.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Whether an image may set the attribute. Those of overlayfs would let it forge what is not in it, and those of
/// security modules are this machine's own business.
fn is_kept(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

fn set_xattr(file: &OwnedFd, name: &[u8], value: &[u8]) -> Done {
    match fs::fsetxattr(file, name, value, fs::XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => {
            tracing::debug!(
                name = shown(name),
                "the file system has no such extended attributes"
            );
            Ok(())
        }
        // Some file systems have little room for them, however empty the disk is.
        Err(Errno::NOSPC) if fs::fstatvfs(file)?.f_bavail > 0 => {
            Err(Fault::bad("its extended attributes are too long"))
        }
        Err(Errno::TOOBIG | Errno::RANGE | Errno::INVAL) => Err(Fault::Bad(format!(
            "its extended attribute `{}` is not one",
            shown(name)
        ))),
        Err(errno) => Err(errno.into()),
    }
}
