//! The filter of system calls for 32-bit programs on a 64-bit PC: the same calls as for others, under the numbers that
//! they have there, with the older forms that only they use.
//!
//! `seccompiler` kills what is not of its one architecture. Here that answer is replaced by a jump to a part of our own.

use seccompiler::BpfProgram;

use super::seccomp::bpf::{
    FIRST_ARGUMENT, NUMBER, RETURN, and, answer, errno, if_at_least, if_equal, load, pass, skip,
};
use super::seccomp::{FIRST_UNKNOWN_CALL, NEW_NAMESPACES, PERSONALITIES};

/// First and last of the numbers that pass, in order: what `asm/unistd_32.h` has for the names in [`super::seccomp`], and
/// for `socketcall`, `ipc`, `waitpid`, `sigreturn`, `mmap2` and the like, `…32` of ids, and `…64` of offsets and times.
#[rustfmt::skip]
const ALLOWED: &[(u32, u32)] = &[
    (0, 16), (19, 20), (23, 24), (26, 27), (29, 30), (33, 33), (36, 43), (45, 47), (49, 50), (54, 55), (57, 57), (60, 61),
    (63, 66), (70, 71), (75, 78), (80, 83), (85, 85), (90, 97), (99, 100), (102, 102), (104, 108), (114, 114), (116, 119),
    (122, 126), (132, 133), (138, 148), (150, 165), (168, 168), (170, 187), (190, 216), (218, 221), (224, 250), (252, 252),
    (254, 263), (265, 272), (277, 282), (284, 284), (289, 293), (295, 309), (311, 316), (318, 335), (337, 337), (339, 341),
    (343, 345), (347, 348), (351, 356), (358, 358), (360, 373), (375, 386), (393, 403), (405, 414), (416, 424), (434, 434),
    (436, 437), (439, 439), (441, 441), (444, 449), (451, 458), (462, 466),
];

// Calls that depend on their arguments.
const CLONE: u32 = 120;
const PERSONALITY: u32 = 136;
const SOCKET: u32 = 359;
const CLONE3: u32 = 435;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = errno(libc::EPERM);

/// `program`, which kills 32-bit programs, made to judge them. Nothing if it does not begin as is expected.
pub(super) fn extend(mut program: BpfProgram) -> Option<BpfProgram> {
    // Load the architecture; if it is the native one, go on after the next; kill.
    let kill = program
        .get(2)
        .filter(|instruction| instruction.code == RETURN)?;
    if kill.k != libc::SECCOMP_RET_KILL_PROCESS {
        return None;
    }
    program[2] = skip(u32::try_from(program.len() - 3).ok()?);
    program.extend(judge());
    Some(program)
}

fn judge() -> BpfProgram {
    let new_namespaces = u32::try_from(NEW_NAMESPACES).unwrap_or(u32::MAX);
    // The x32 architecture shares its number with the native one, so what comes here is i386.
    let mut program = vec![load(NUMBER)];
    for (number, body) in [
        (
            CLONE,
            vec![
                load(FIRST_ARGUMENT),
                and(new_namespaces),
                if_equal(0, 0, 1),
                answer(ALLOW),
                answer(REFUSE),
            ],
        ),
        (PERSONALITY, personality()),
        (
            SOCKET,
            vec![
                load(FIRST_ARGUMENT),
                if_equal(libc::AF_VSOCK.cast_unsigned(), 1, 0),
                answer(ALLOW),
                answer(REFUSE),
            ],
        ),
        (CLONE3, vec![answer(errno(libc::ENOSYS))]),
    ] {
        let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
        program.push(if_equal(number, 0, length));
        program.extend(body);
    }
    program.push(if_at_least(FIRST_UNKNOWN_CALL, 0, 1));
    program.push(answer(errno(libc::ENOSYS)));
    program.extend(pass(ALLOWED));
    program.push(answer(REFUSE));
    program
}

fn personality() -> BpfProgram {
    let mut program = vec![load(FIRST_ARGUMENT)];
    for value in PERSONALITIES {
        program.extend([
            if_equal(u32::try_from(*value).unwrap_or(u32::MAX), 0, 1),
            answer(ALLOW),
        ]);
    }
    program.push(answer(REFUSE));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers to a call.
    fn run(program: &BpfProgram, number: u32, argument: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let instruction = &program[at];
            at += 1;
            let jump = |yes| usize::from(if yes { instruction.jt } else { instruction.jf });
            match instruction.code {
                0x20 if instruction.k == NUMBER => loaded = number,
                0x20 if instruction.k == FIRST_ARGUMENT => loaded = argument,
                0x54 => loaded &= instruction.k,
                0x15 => at += jump(loaded == instruction.k),
                0x35 => at += jump(loaded >= instruction.k),
                RETURN => return instruction.k,
                code => panic!("unexpected instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn calls_are_judged_by_number_and_argument() {
        let program = judge();
        let unknown = errno(libc::ENOSYS);
        for (number, argument, expected) in [
            (1, 0, ALLOW),
            (4, 0, ALLOW),
            (11, 0, ALLOW),
            (252, 0, ALLOW),
            (466, 0, ALLOW),
            // mount, pivot_root, init_module, reboot, setns, unshare, bpf, keyctl
            (21, 0, REFUSE),
            (217, 0, REFUSE),
            (128, 0, REFUSE),
            (88, 0, REFUSE),
            (346, 0, REFUSE),
            (310, 0, REFUSE),
            (357, 0, REFUSE),
            (288, 0, REFUSE),
            (CLONE, 0x0120_0011, ALLOW),
            (CLONE, 0x1000_0011, REFUSE),
            (PERSONALITY, 8, ALLOW),
            (PERSONALITY, 0x0004_0000, REFUSE),
            (SOCKET, 2, ALLOW),
            (SOCKET, 40, REFUSE),
            (CLONE3, 0, unknown),
            (467, 0, unknown),
            (u32::MAX, 0, unknown),
        ] {
            assert_eq!(
                run(&program, number, argument),
                expected,
                "{number} {argument}"
            );
        }
    }

    #[test]
    fn ranges_are_in_order() {
        assert!(ALLOWED.iter().all(|(first, last)| first <= last));
        assert!(ALLOWED.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }
}
