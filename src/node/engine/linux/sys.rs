//! System calls that neither the standard library nor `nix` wraps. Each function is one call; policy is elsewhere.

#![allow(unsafe_code, reason = "these are the raw system calls")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;

use super::control::Status;

/// Turns the result of a system call into a `Result`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes ownership of a file descriptor that a system call returned.
fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(check(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A path as the kernel takes it.
pub(super) fn c_path(path: impl AsRef<Path>) -> io::Result<CString> {
    CString::new(path.as_ref().as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte in it"))
}

/// How [`open_beneath`] opens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OpenHow {
    /// `O_…` flags. `O_CLOEXEC` is added.
    pub(super) flags: libc::c_int,
    /// Permission bits of a new file.
    pub(super) mode: u32,
    /// `RESOLVE_…` flags beyond `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`.
    pub(super) resolve: u64,
}

/// Opens `path` as if `root` were the root directory: neither `..` nor a link, absolute or magic, leads out of it.
pub(super) fn open_beneath(
    root: impl AsFd,
    path: impl AsRef<Path>,
    how: OpenHow,
) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: `open_how` is plain data for which all zeroes is a valid value.
    let mut request: libc::open_how = unsafe { std::mem::zeroed() };
    request.flags = u64::try_from(how.flags | libc::O_CLOEXEC).map_err(io::Error::other)?;
    request.mode = u64::from(how.mode);
    request.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | how.resolve;
    loop {
        // SAFETY: both pointers are to live values of the types that the call expects, with the right size.
        let result = descriptor(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_fd().as_raw_fd(),
                path.as_ptr(),
                &raw const request,
                size_of::<libc::open_how>(),
            )
        });
        match result {
            // A rename elsewhere in the tree made the kernel unsure whether `..` stayed beneath the root.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => return other,
        }
    }
}

/// A detached copy of the mount at `path`.
pub(super) fn clone_mount(path: &Path) -> io::Result<OwnedFd> {
    open_tree(path, 0)
}

/// A detached copy of the mount at `path` and of those below it.
pub(super) fn clone_mounts(path: &Path) -> io::Result<OwnedFd> {
    open_tree(path, libc::AT_RECURSIVE.cast_unsigned())
}

fn open_tree(path: &Path, flags: libc::c_uint) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path is a live C string.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flags,
        )
    })
}

/// A detached mount of a file system of this kind, with options that have no value.
pub(super) fn new_mount(kind: &str, options: &[&str]) -> io::Result<OwnedFd> {
    let kind = CString::new(kind)?;
    // SAFETY: the kind is a live C string.
    let context = descriptor(unsafe {
        libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC)
    })?;
    let configure = |command: libc::c_uint, key: *const libc::c_char| {
        let none = std::ptr::null::<libc::c_char>();
        // SAFETY: the key is null or a live C string, and these commands take no value.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                command,
                key,
                none,
                0,
            )
        })
    };
    for option in options {
        configure(libc::FSCONFIG_SET_FLAG, CString::new(*option)?.as_ptr())?;
    }
    configure(libc::FSCONFIG_CMD_CREATE, std::ptr::null())?;
    // SAFETY: the arguments are integers.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            libc::FSMOUNT_CLOEXEC,
            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        )
    })
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Shifts the owners that a detached mount shows by the mapping of `user_namespace`.
pub(super) fn shift_owners(mount: &OwnedFd, user_namespace: &OwnedFd) -> io::Result<()> {
    let user_namespace = u64::try_from(user_namespace.as_raw_fd()).map_err(io::Error::other)?;
    set_attributes(mount, MOUNT_ATTR_IDMAP, user_namespace)
}

/// Makes a detached mount read-only.
pub(super) fn make_read_only(mount: &OwnedFd) -> io::Result<()> {
    set_attributes(mount, MOUNT_ATTR_RDONLY, 0)
}

/// Makes a detached mount one without programs, set-id bits and devices.
pub(super) fn make_plain(mount: &OwnedFd) -> io::Result<()> {
    let plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    set_attributes(mount, plain, 0)
}

fn set_attributes(mount: &OwnedFd, set: u64, user_namespace: u64) -> io::Result<()> {
    let attributes = MountAttributes {
        set,
        clear: 0,
        propagation: 0,
        user_namespace,
    };
    // SAFETY: the attributes live through the call and are of the size that is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// Attaches a detached mount at `target`.
pub(super) fn attach_mount(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    move_mount(mount, libc::AT_FDCWD, &c_path(target)?, 0)
}

/// Attaches a detached mount over what `target` is open on.
pub(super) fn attach_mount_over(mount: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
    move_mount(mount, target.as_raw_fd(), c"", MOVE_MOUNT_T_EMPTY_PATH)
}

fn move_mount(mount: &OwnedFd, place: RawFd, path: &CStr, flags: libc::c_uint) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    // SAFETY: both paths are live C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            place,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | flags,
        )
    })?;
    Ok(())
}

/// A descriptor that stands for the process `pid` of our own pid namespace.
pub(super) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Sends a signal to the process that `pidfd` stands for.
pub(super) fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: without a `siginfo` the kernel fills in its own.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Joins the namespaces `flags` of the process that `pidfd` stands for.
pub(super) fn join_namespaces(pidfd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes two integers.
    check(libc::c_long::from(unsafe {
        libc::setns(pidfd.as_raw_fd(), flags)
    }))?;
    Ok(())
}

/// What [`receive_message`] has received.
pub(super) struct Received {
    /// How many bytes.
    pub(super) length: usize,
    /// The descriptors that came along.
    pub(super) descriptors: Vec<OwnedFd>,
    /// Whether there were more, which could not be taken.
    pub(super) truncated: bool,
}

/// Receives a message with up to `most` descriptors. `nix` does it as well, and loses those that came if not all of them could.
pub(super) fn receive_message(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    most: u8,
    flags: libc::c_int,
) -> io::Result<Received> {
    let length = u32::from(most) * (RawFd::BITS / u8::BITS);
    // SAFETY: computes a number.
    let length = unsafe { libc::CMSG_SPACE(length) } as usize;
    // A header begins with a number of this alignment.
    let mut space = vec![0_usize; length.div_ceil(size_of::<usize>())];
    // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = length as _;
    let flags = flags | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message points to live buffers of the lengths that it says.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has written whole headers into the buffer and set its length to theirs, and has made the descriptors
    // in them for us.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(found) = header.as_ref() {
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let data: *const RawFd = libc::CMSG_DATA(header).cast();
                #[allow(
                    clippy::unnecessary_cast,
                    reason = "it is a shorter number with other C libraries"
                )]
                let length = found.cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..length / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Received {
        length,
        descriptors,
        truncated: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// What [`fork`] returned.
pub(super) enum Forked {
    /// In the new process.
    Child,
    /// In the old one: the child's process number, and a descriptor that stands for it.
    Parent(i32, OwnedFd),
}

/// Forks, with `flags` for `clone3` besides. With `CLONE_PARENT` the child's parent is our own.
///
/// # Safety
///
/// The process must have a single thread: the child goes on with a copy of its memory.
pub(super) unsafe fn fork(flags: libc::c_int) -> io::Result<Forked> {
    // SAFETY: the caller's.
    unsafe { fork_into(flags, None) }
}

/// As [`fork`], and the child is born into the cgroup whose directory is given, of version 2.
///
/// # Safety
///
/// As for [`fork`].
pub(super) unsafe fn fork_into(flags: libc::c_int, cgroup: Option<&OwnedFd>) -> io::Result<Forked> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain data for which all zeroes is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(flags.cast_unsigned()) | libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    // A sibling gets the signal that we send our parent, and the kernel insists on none being named.
    if flags & libc::CLONE_PARENT == 0 {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    }
    // SAFETY: no shared memory and no new stack are asked for, so this is a fork, which the caller allows.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel has stored a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent(
        i32::try_from(pid).map_err(io::Error::other)?,
        pidfd,
    ))
}

/// Takes a child that has ended, if there is one: its process number, and how it ended.
pub(super) fn reap() -> io::Result<Option<(i32, Status)>> {
    let mut status = 0;
    loop {
        // SAFETY: the status is a live integer.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        match pid {
            -1 => match Errno::last() {
                Errno::EINTR => {}
                Errno::ECHILD => return Ok(None),
                errno => return Err(errno.into()),
            },
            0 => return Ok(None),
            // All of this is done by hand because `nix` does not know the real-time signals.
            pid if libc::WIFSIGNALED(status) => {
                let signal = libc::WTERMSIG(status).to_le_bytes()[0];
                return Ok(Some((pid, Status::Signal(signal))));
            }
            pid if libc::WIFEXITED(status) => {
                let code = libc::WEXITSTATUS(status).to_le_bytes()[0];
                return Ok(Some((pid, Status::Code(code))));
            }
            _ => {}
        }
    }
}

/// Ends the process at once, without running what was registered for its end.
pub(super) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor from 3 on apart from those in `keep`.
pub(super) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .filter(|fd| *fd >= 3)
        .collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: callers use no descriptor afterwards that they have not named to keep.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// `prctl` with integer arguments.
pub(super) fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the options that are used here take an integer.
    let result = unsafe { libc::prctl(option, argument, 0, 0, 0) };
    check(libc::c_long::from(result))?;
    Ok(result)
}

/// Gives the process a name, for whoever lists processes.
pub(super) fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a live C string; the kernel takes the first 15 bytes.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0)
    }))?;
    Ok(())
}

/// Gives the process a session keyring of its own.
pub(super) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    });
    match result {
        // A kernel without keyrings.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// Has the runtime watch a descriptor.
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open, and the same, until it is dropped with the result.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Replaces our program. Returns only when that fails.
pub(super) fn execve(program: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    nix::unistd::execve(program, arguments, environment)
        .err()
        .unwrap_or(Errno::UnknownErrno)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;

    /// Where a hierarchy of version 2 is mounted in which we may make cgroups.
    fn hierarchy() -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/mounts").expect("read");
        let fields = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let mut of_version_2 = fields.filter(|fields| fields[2] == "cgroup2");
        of_version_2.next().map(|fields| PathBuf::from(fields[1]))
    }

    #[test]
    fn a_process_is_born_into_a_cgroup() {
        let name = format!("tf-test-{}", std::process::id());
        let made = hierarchy()
            .map(|hierarchy| hierarchy.join(&name))
            .filter(|directory| fs::create_dir(directory).is_ok());
        let Some(directory) = made else {
            let missing = "root, and version 2 of cgroups";
            assert!(std::env::var_os("CI").is_none(), "needs {missing}");
            let _ = writeln!(io::stderr(), "skipped: needs {missing}");
            return;
        };
        let open = fs::File::open(&directory).expect("opened").into();
        // SAFETY: the child does nothing but a system call.
        let forked = unsafe { fork_into(0, Some(&open)) };
        let groups = match forked.expect("forked") {
            Forked::Child => loop {
                // SAFETY: has no preconditions.
                unsafe { libc::pause() };
            },
            Forked::Parent(pid, pidfd) => {
                let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
                pidfd_send_signal(&pidfd, libc::SIGKILL).expect("killed");
                nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).expect("ended");
                groups
            }
        };
        fs::remove_dir(&directory).expect("removed");
        let groups = groups.expect("read");
        assert!(
            groups
                .lines()
                .any(|line| line.starts_with("0::") && line.ends_with(&name)),
            "{groups}"
        );
    }
}
