//! What is asked of the kernel without a crate in between.
#![allow(
    unsafe_code,
    reason = "no crate that is used here has TUN devices and priorities of threads"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// Makes a TUN device of this name in the network namespace of the calling thread. It goes with the last handle of the file, of
/// which each read and write is one packet, without any header before it.
pub(crate) fn tun(name: &str) -> io::Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: a structure of integers and a union of such may be all zeroes.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = flags.try_into().map_err(io::Error::other)?;
    // SAFETY: TUNSETIFF reads and writes such a structure, which outlives the call.
    done(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(device)
}

/// Has the calling thread run before all that is not in as much of a hurry.
pub(crate) fn hurry() -> io::Result<()> {
    // SAFETY: as above; on some systems there are further fields.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: it is read during the call.
    done(unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
