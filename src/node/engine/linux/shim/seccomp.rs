//! The system call filter that every process of a container runs under: the same calls as Docker's default profile
//! allows for a container with the default capabilities on a current kernel.
//!
//! Two programs are installed. The first lets the listed calls pass and answers all others with `EPERM`. The second
//! answers `clone3`, whose arguments no filter can read, and calls newer than the list with `ENOSYS`, so that C libraries
//! fall back to what they did before those existed.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::super::control::Problem;

/// Calls that pass whatever their arguments, on every processor.
#[rustfmt::skip]
#[allow(clippy::wildcard_imports, reason = "a table of two hundred names")]
const CALLS: &[libc::c_long] = {
    use libc::*;
    &[
        SYS_accept, SYS_accept4, SYS_adjtimex, SYS_bind, SYS_brk, SYS_capget, SYS_capset, SYS_chdir, SYS_chroot,
        SYS_clock_adjtime, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close, SYS_close_range,
        SYS_connect, SYS_copy_file_range, SYS_dup, SYS_dup3, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
        SYS_epoll_pwait2, SYS_eventfd2, SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_faccessat,
        SYS_faccessat2, SYS_fadvise64, SYS_fallocate, SYS_fanotify_mark, SYS_fchdir, SYS_fchmod, SYS_fchmodat,
        SYS_fchmodat2, SYS_fchown, SYS_fchownat, SYS_fcntl, SYS_fdatasync, SYS_fgetxattr, SYS_flistxattr, SYS_flock,
        SYS_fremovexattr, SYS_fsetxattr, SYS_fstat, SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex,
        SYS_futex_waitv, SYS_getcpu, SYS_getcwd, SYS_getdents64, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getgroups,
        SYS_getitimer, SYS_getpeername, SYS_getpgid, SYS_getpid, SYS_getppid, SYS_getpriority, SYS_getrandom,
        SYS_getresgid, SYS_getresuid, SYS_getrlimit, SYS_get_robust_list, SYS_getrusage, SYS_getsid, SYS_getsockname,
        SYS_getsockopt, SYS_gettid, SYS_gettimeofday, SYS_getuid, SYS_getxattr, SYS_inotify_add_watch,
        SYS_inotify_init1, SYS_inotify_rm_watch, SYS_io_cancel, SYS_ioctl, SYS_io_destroy, SYS_io_getevents,
        SYS_ioprio_get, SYS_ioprio_set, SYS_io_setup, SYS_io_submit, SYS_kill, SYS_landlock_add_rule,
        SYS_landlock_create_ruleset, SYS_landlock_restrict_self, SYS_lgetxattr, SYS_linkat, SYS_listen,
        SYS_listxattr, SYS_llistxattr, SYS_lremovexattr, SYS_lseek, SYS_lsetxattr, SYS_madvise, SYS_membarrier,
        SYS_memfd_create, SYS_memfd_secret, SYS_mincore, SYS_mkdirat, SYS_mknodat, SYS_mlock, SYS_mlock2,
        SYS_mlockall, SYS_mmap, SYS_mprotect, SYS_mq_getsetattr, SYS_mq_notify, SYS_mq_open, SYS_mq_timedreceive,
        SYS_mq_timedsend, SYS_mq_unlink, SYS_mremap, SYS_mseal, SYS_msgctl, SYS_msgget, SYS_msgrcv, SYS_msgsnd,
        SYS_msync, SYS_munlock, SYS_munlockall, SYS_munmap, SYS_name_to_handle_at, SYS_nanosleep, SYS_newfstatat,
        SYS_openat, SYS_openat2, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_pipe2, SYS_pkey_alloc, SYS_pkey_free,
        SYS_pkey_mprotect, SYS_ppoll, SYS_prctl, SYS_pread64, SYS_preadv, SYS_preadv2, SYS_prlimit64,
        SYS_process_mrelease, SYS_process_vm_readv, SYS_process_vm_writev, SYS_pselect6, SYS_ptrace, SYS_pwrite64,
        SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readahead, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmmsg,
        SYS_recvmsg, SYS_remap_file_pages, SYS_removexattr, SYS_renameat, SYS_renameat2, SYS_restart_syscall,
        SYS_rseq, SYS_rt_sigaction, SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigqueueinfo, SYS_rt_sigreturn,
        SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_rt_tgsigqueueinfo, SYS_sched_getaffinity, SYS_sched_getattr,
        SYS_sched_getparam, SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_sched_getscheduler,
        SYS_sched_rr_get_interval, SYS_sched_setaffinity, SYS_sched_setattr, SYS_sched_setparam,
        SYS_sched_setscheduler, SYS_sched_yield, SYS_seccomp, SYS_semctl, SYS_semget, SYS_semop, SYS_semtimedop,
        SYS_sendfile, SYS_sendmmsg, SYS_sendmsg, SYS_sendto, SYS_setfsgid, SYS_setfsuid, SYS_setgid, SYS_setgroups,
        SYS_setitimer, SYS_setpgid, SYS_setpriority, SYS_setregid, SYS_setresgid, SYS_setresuid, SYS_setreuid,
        SYS_setrlimit, SYS_set_robust_list, SYS_setsid, SYS_setsockopt, SYS_set_tid_address, SYS_setuid,
        SYS_setxattr, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_shmget, SYS_shutdown, SYS_sigaltstack, SYS_signalfd4,
        SYS_socketpair, SYS_splice, SYS_statfs, SYS_statx, SYS_symlinkat, SYS_sync, SYS_sync_file_range, SYS_syncfs,
        SYS_sysinfo, SYS_tee, SYS_tgkill, SYS_timer_create, SYS_timer_delete, SYS_timer_getoverrun,
        SYS_timer_gettime, SYS_timer_settime, SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime,
        SYS_times, SYS_tkill, SYS_truncate, SYS_umask, SYS_uname, SYS_unlinkat, SYS_utimensat, SYS_vmsplice,
        SYS_wait4, SYS_waitid, SYS_write, SYS_writev,
    ]
};

/// Calls of the years since, which have one number on every processor: `cachestat`, `map_shadow_stack`, the `futex2`
/// family, `statmount`, `listmount`, and the `…xattrat` family.
const RECENT_CALLS: &[libc::c_long] = &[451, 453, 454, 455, 456, 457, 458, 463, 464, 465, 466];

/// First number that nobody has read the documentation of.
pub(super) const FIRST_UNKNOWN_CALL: u32 = 467;

/// Calls that only this processor has, most of them older forms of those above.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
#[allow(clippy::wildcard_imports, reason = "as above")]
const PROCESSOR_CALLS: &[libc::c_long] = {
    use libc::*;
    &[
        SYS_access, SYS_alarm, SYS_arch_prctl, SYS_chmod, SYS_chown, SYS_creat, SYS_dup2, SYS_epoll_create,
        SYS_epoll_ctl_old, SYS_epoll_wait, SYS_epoll_wait_old, SYS_eventfd, SYS_fork, SYS_futimesat, SYS_getdents,
        SYS_getpgrp, SYS_get_thread_area, SYS_inotify_init, SYS_lchown, SYS_link, SYS_lstat, SYS_mkdir, SYS_mknod,
        SYS_modify_ldt, SYS_open, SYS_pause, SYS_pipe, SYS_poll, SYS_readlink, SYS_rename, SYS_rmdir, SYS_select,
        SYS_set_thread_area, SYS_signalfd, SYS_stat, SYS_symlink, SYS_time, SYS_unlink, SYS_utime, SYS_utimes,
        SYS_vfork,
    ]
};
#[cfg(not(target_arch = "x86_64"))]
const PROCESSOR_CALLS: &[libc::c_long] = &[];

/// `io_pgetevents`, which the `libc` crate lacks.
#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: libc::c_long = 333;
#[cfg(target_arch = "aarch64")]
const IO_PGETEVENTS: libc::c_long = 292;

/// Values of `personality` that only ask, or that change what only the caller sees: `PER_LINUX`, `PER_LINUX32`,
/// the two with `UNAME26`, and the question.
pub(super) const PERSONALITIES: &[u64] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `CLONE_NEW…`: a process that makes namespaces of its own becomes root in them, which is a larger surface than
/// containers need.
#[allow(
    clippy::cast_sign_loss,
    reason = "the flags are bits of an unsigned argument that the C headers give as int"
)]
pub(super) const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// The programs to install, in this order.
#[derive(Clone)]
pub(super) struct Filter([BpfProgram; 2]);

impl Filter {
    /// Compiles the programs for this processor.
    pub(super) fn compile() -> Result<Self, Problem> {
        let failed = |error: &dyn std::fmt::Display| {
            Problem::Other(format!("cannot compile the system call filter: {error}"))
        };
        let target =
            TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
        let rules = rules().map_err(|error| failed(&error))?;
        let passing = ranges(
            rules
                .iter()
                .filter(|(_, conditions)| conditions.is_empty())
                .filter_map(|(call, _)| u32::try_from(*call).ok()),
        );
        let allowed = SeccompFilter::new(
            rules
                .into_iter()
                .filter(|(_, conditions)| !conditions.is_empty())
                .collect(),
            SeccompAction::Errno(libc::EPERM.cast_unsigned()),
            SeccompAction::Allow,
            target,
        )
        .and_then(BpfProgram::try_from)
        .map_err(|error| failed(&error))?;
        let allowed =
            let_pass(allowed, &passing).ok_or_else(|| failed(&"it is shorter than is expected"))?;
        #[cfg(target_arch = "x86_64")]
        let allowed = super::seccomp32::extend(allowed)
            .ok_or_else(|| failed(&"its beginning is not what is expected"))?;
        Ok(Self([allowed, unsupported()]))
    }

    /// Puts the calling thread under the filter, for good. `no_new_privs` is set.
    pub(super) fn apply(&self) -> Result<(), seccompiler::Error> {
        self.0
            .iter()
            .try_for_each(|program| seccompiler::apply_filter(program))
    }
}

/// The numbers, which come in order, as first and last of those that follow each other.
fn ranges(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

/// `program` with an answer for the calls that pass whatever their arguments, before all others. `seccompiler` compares with
/// one number after the other, and to load such a program takes the kernel, which runs it for each of them, a millisecond.
fn let_pass(mut program: BpfProgram, passing: &[(u32, u32)]) -> Option<BpfProgram> {
    // Load the architecture; if it is the native one, go on after the next; kill.
    const BEGINNING: usize = 3;
    if program.len() <= BEGINNING {
        return None;
    }
    let first = std::iter::once(bpf::load(bpf::NUMBER)).chain(bpf::pass(passing));
    program.splice(BEGINNING..BEGINNING, first);
    Some(program)
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let argument = |index, length, operator, value| {
        SeccompCondition::new(index, length, operator, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let (int, long) = (SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        [CALLS, RECENT_CALLS, PROCESSOR_CALLS, &[IO_PGETEVENTS]]
            .into_iter()
            .flatten()
            .map(|call| (*call, vec![]))
            .collect();
    // Any further rule is an alternative; a call without rules passes.
    let vsock = u64::from(libc::AF_VSOCK.cast_unsigned());
    rules.insert(
        libc::SYS_socket,
        vec![argument(0, int.clone(), SeccompCmpOp::Ne, vsock)?],
    );
    rules.insert(
        libc::SYS_clone,
        vec![argument(
            0,
            long,
            SeccompCmpOp::MaskedEq(NEW_NAMESPACES),
            0,
        )?],
    );
    // The second program has the last word on it.
    rules.insert(libc::SYS_clone3, vec![]);
    rules.insert(
        libc::SYS_personality,
        PERSONALITIES
            .iter()
            .map(|value| argument(0, int.clone(), SeccompCmpOp::Eq, *value))
            .collect::<Result<_, _>>()?,
    );
    Ok(rules)
}

/// `AUDIT_ARCH_…` of the processor.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// The second program, instruction by instruction: `seccompiler` has one answer per program, and knows equality only.
fn unsupported() -> BpfProgram {
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    vec![
        bpf::load(bpf::ARCHITECTURE),
        // Numbers of another architecture mean other calls, which the first program judges.
        bpf::if_equal(ARCHITECTURE, 0, 3),
        bpf::load(bpf::NUMBER),
        bpf::if_equal(clone3, 2, 0),
        bpf::if_at_least(FIRST_UNKNOWN_CALL, 1, 0),
        bpf::answer(libc::SECCOMP_RET_ALLOW),
        bpf::answer(bpf::errno(libc::ENOSYS)),
    ]
}

/// The instructions of filters.
pub(super) mod bpf {
    use seccompiler::sock_filter;

    /// Offset of the call's number in what a filter is given.
    pub(in super::super) const NUMBER: u32 = 0;
    /// Offset of the architecture.
    pub(in super::super) const ARCHITECTURE: u32 = 4;
    /// Offset of the lower half of the first argument.
    #[cfg(target_endian = "little")]
    pub(in super::super) const FIRST_ARGUMENT: u32 = 16;

    const fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
        sock_filter { code, jt, jf, k }
    }

    /// Loads what is at an offset.
    pub(in super::super) const fn load(offset: u32) -> sock_filter {
        instruction(0x20, offset, 0, 0)
    }

    /// Keeps these bits of what is loaded.
    pub(in super::super) const fn and(mask: u32) -> sock_filter {
        instruction(0x54, mask, 0, 0)
    }

    /// Skips instructions: as many as `yes` says if what is loaded is `value`, else as many as `no` says.
    pub(in super::super) const fn if_equal(value: u32, yes: u8, no: u8) -> sock_filter {
        instruction(0x15, value, yes, no)
    }

    /// The same, if it is `value` or more.
    pub(in super::super) const fn if_at_least(value: u32, yes: u8, no: u8) -> sock_filter {
        instruction(0x35, value, yes, no)
    }

    /// Ends with permission for numbers from the first to the last of a range.
    pub(in super::super) fn pass(ranges: &[(u32, u32)]) -> impl Iterator<Item = sock_filter> {
        ranges.iter().flat_map(|(first, last)| {
            [
                if_at_least(*first, 0, 2),
                if_at_least(last + 1, 1, 0),
                answer(libc::SECCOMP_RET_ALLOW),
            ]
        })
    }

    /// Skips this many instructions.
    pub(in super::super) const fn skip(count: u32) -> sock_filter {
        instruction(0x05, count, 0, 0)
    }

    /// Ends with this answer.
    pub(in super::super) const fn answer(action: u32) -> sock_filter {
        instruction(RETURN, action, 0, 0)
    }

    /// Code of [`answer`].
    pub(in super::super) const RETURN: u16 = 0x06;

    /// The answer that makes the call fail with an error.
    pub(in super::super) const fn errno(errno: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_leaves_out_what_is_dangerous() {
        Filter::compile().expect("compiles");
        let rules = rules().expect("valid");
        for call in [
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
            libc::SYS_reboot,
            libc::SYS_pivot_root,
            libc::SYS_swapon,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_fsopen,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
        assert!(rules[&libc::SYS_openat].is_empty());
        assert_eq!(rules[&libc::SYS_clone].len(), 1);
    }

    #[test]
    fn ranges_hold_the_numbers_and_no_others() {
        assert_eq!(
            ranges([0, 1, 2, 5, 7, 8].into_iter()),
            [(0, 2), (5, 5), (7, 8)]
        );
        assert!(ranges(std::iter::empty()).is_empty());
    }
}
