//! What a process of a container may do: Docker's default capabilities, under no new privileges.

#![allow(unsafe_code, reason = "capset and signals have no safe wrapper")]

use std::io;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::super::control::{Problem, Step};
use super::super::sys::prctl;
use super::user::User;

/// Docker's default capabilities: their names and numbers.
pub(super) const CAPABILITIES: [(&str, u8); 14] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_MKNOD", 27),
    ("CAP_AUDIT_WRITE", 29),
    ("CAP_SETFCAP", 31),
];

const SET: u32 = {
    let mut set = 0;
    let mut index = 0;
    while index < CAPABILITIES.len() {
        set |= 1 << CAPABILITIES[index].1;
        index += 1;
    }
    set
};

/// Becomes `user` with the default capabilities and no way to gain more.
///
/// The caller is root of the container's user namespace, with at least the default capabilities in it.
pub(super) fn become_user(user: &User) -> Result<(), Problem> {
    limit_capabilities()?;
    let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&groups).step("set the supplementary groups")?;
    setresgid(gid, gid, gid).step("set the group")?;
    setresuid(uid, uid, uid).step("set the user")?;
    set_capabilities(if user.uid == 0 { SET } else { 0 }).step("set the capabilities")?;
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).step("refuse new privileges")?;
    hide().step("hide the memory")
}

/// Becomes root of the user namespace that has just been joined. Until then the process is root of the machine's, whom the
/// container knows nothing of, and so would be what it makes.
pub(super) fn become_root() -> Result<(), Problem> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).step("leave the supplementary groups")?;
    setresgid(gid, gid, gid).step("become root of the container")?;
    setresuid(uid, uid, uid).step("become root of the container")?;
    hide().step("hide the memory")
}

/// What root was before it took the effective user id of somebody else, with its capabilities.
pub(super) struct Former {
    secure_bits: libc::c_ulong,
}

impl Former {
    /// Takes the effective user id `other`.
    pub(super) fn of(other: u32) -> io::Result<Self> {
        const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
        let secure_bits = prctl(libc::PR_GET_SECUREBITS, 0)?.cast_unsigned().into();
        prctl(libc::PR_SET_SECUREBITS, secure_bits | NO_SETUID_FIXUP)?;
        set_effective(other)?;
        Ok(Self { secure_bits })
    }

    /// Becomes it again.
    pub(super) fn restore(self) -> io::Result<()> {
        set_effective(0)?;
        prctl(libc::PR_SET_SECUREBITS, self.secure_bits)?;
        Ok(())
    }
}

fn set_effective(user: u32) -> io::Result<()> {
    let unchanged = Uid::from_raw(u32::MAX);
    Ok(setresuid(unchanged, Uid::from_raw(user), unchanged)?)
}

/// Gives up all but the default capabilities. The caller stays root of the container's user namespace.
pub(super) fn limit_capabilities() -> Result<(), Problem> {
    for capability in 0..64u8 {
        if capability < 32 && SET & (1 << capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability.into()) {
            Ok(_) => {}
            // The kernel knows no more.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error).step("give up capabilities"),
        }
    }
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned().into(),
    )
    .step("give up ambient capabilities")?;
    set_capabilities(SET).step("give up capabilities")
}

/// Keeps other processes, those of the container above all, from our memory and descriptors until we execute something.
pub(super) fn hide() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)?;
    Ok(())
}

/// Makes `set` the effective and permitted capabilities, and no others inheritable.
fn set_capabilities(set: u32) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // Numbers from 32 on are in the second half.
    let data = [set, 0].map(|half| Data {
        effective: half,
        permitted: half,
        inheritable: 0,
    });
    // SAFETY: header and data are laid out as version 3 of the call expects and live through it.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets all signals through, with their default effect.
pub(super) fn reset_signals() -> nix::Result<()> {
    // `struct sigaction` of the kernel, whose zeroes mean the default action. Not through the C library, which keeps two
    // signals to itself, and would leave them ignored if they were by whoever started us.
    let action = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the action lives through the call. Numbers that cannot be changed are refused, which is as good.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                size_of::<u64>(),
            );
        }
    }
    nix::sys::signal::sigprocmask(
        nix::sys::signal::SigmaskHow::SIG_SETMASK,
        Some(&nix::sys::signal::SigSet::empty()),
        None,
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_set_is_dockers() {
        assert_eq!(super::SET, 0xa804_25fb);
    }
}
