//! A shim that is not understood.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tfnz::node::engine::Engine;
use tfnz::node::engine::linux::LinuxEngine;

use super::owner::LONG;
use crate::system::engine::bench::{skip, state_directory};
use crate::system::engine::traces::socket;

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_of_another_version_is_ended_and_swept() {
    if skip() {
        return;
    }
    // Somebody who does as such a shim does: holds a lock, and offers what nobody here understands.
    let state = state_directory();
    let state = state.path().canonicalize().expect("there");
    fs::create_dir_all("/run/20ft").expect("made");
    let slot = "127";
    let lock_path = Path::new("/run/20ft").join(slot);
    fs::write(&lock_path, state.to_str().expect("text")).expect("written");
    let lock = fs::File::open(&lock_path).expect("there");
    lock.try_lock().expect("nobody has it");
    let mut stranger = Command::new("sleep");
    let held = lock.as_raw_fd();
    // SAFETY: one system call between fork and exec.
    #[allow(unsafe_code, reason = "a descriptor is to be inherited")]
    unsafe {
        stranger.pre_exec(move || {
            nix::fcntl::fcntl(
                held,
                nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
            )?;
            Ok(())
        });
    }
    let mut stranger = stranger.arg("1000").spawn().expect("started");
    drop(lock);
    let listener = listen(&socket(slot));
    let pid = stranger.id();
    let offering = std::thread::spawn(move || offer(&listener, pid));

    let opened = tokio::task::spawn_blocking({
        let state = state.clone();
        move || LinuxEngine::open_lasting(&state, LONG).expect("opened")
    });
    let engine = opened.await.expect("it does not panic");
    // The engine may have waited for it, too, as it is a child of this process: then there is none any more.
    match stranger.try_wait() {
        Ok(status) => assert!(!status.expect("it is killed").success()),
        Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::ECHILD)),
    }
    offering.join().expect("offered");
    assert!(engine.adopt().await.expect("adopted").is_empty());
    assert!(!socket(slot).exists(), "it is swept");
    engine.shutdown().await;
}

fn listen(path: &PathBuf) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
    let listener = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a socket");
    let _ = fs::remove_file(path);
    let address = UnixAddr::new(path).expect("a short path");
    nix::sys::socket::bind(listener.as_raw_fd(), &address).expect("bound");
    nix::sys::socket::listen(&listener, Backlog::new(1).expect("small")).expect("listens");
    listener
}

/// Offers, as version 9999, the process `pid` to whoever comes.
fn offer(listener: &impl AsFd, pid: u32) {
    use nix::sys::socket::{ControlMessage, MsgFlags, accept, sendmsg};
    let socket = accept(listener.as_fd().as_raw_fd()).expect("somebody comes");
    let pid = i32::try_from(pid).expect("small");
    // SAFETY: takes two integers.
    #[allow(unsafe_code, reason = "has no wrapper")]
    let pidfd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let pidfd = [i32::try_from(pidfd).expect("small")];
    sendmsg::<()>(
        socket,
        &[std::io::IoSlice::new(
            b"\0\xa2\x67version\x19\x27\x0f\x64free\xf5",
        )],
        &[ControlMessage::ScmRights(&pidfd)],
        MsgFlags::empty(),
        None,
    )
    .expect("sent");
}
