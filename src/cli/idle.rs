//! What a program holds while it has nothing to do. A `tf` with a tunnel that nobody uses is one of many things that are open.
//!
//! The allocator keeps what is freed for the next who asks, which takes a fifth off what a transfer costs, and pages of the program
//! that only its start has needed stay mapped. A process that has worked and now rests gives both back. What it needs
//! again comes back by itself, a page at a time.
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    allow(
        unsafe_code,
        reason = "the allocator and the mappings of a process are set up by calls without a safe wrapper"
    )
)]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use gnu::{prepare, watch};

/// Nothing is known of other allocators.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn prepare() {}

/// Does nothing, for as long as it is left to.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) async fn watch() {
    std::future::pending().await
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod gnu {
    use std::fs;
    use std::sync::OnceLock;
    use std::time::Duration;

    use libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, MADV_DONTNEED, c_int, c_void};
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    use tokio::time::sleep;

    /// Freed memory that the heap keeps, in bytes: what a link has on its way at full speed.
    const KEPT: c_int = 8 << 20;

    /// From this size on, in bytes, an allocation is a mapping of its own: beyond all buffers that come and go.
    const MAPPED: c_int = 4 << 20;

    /// Heaps, of which threads could have one each. What is free at the end of any but the first cannot be given back.
    const ARENAS: c_int = 1;

    /// Between two looks at how busy the process is.
    const LOOK: Duration = Duration::from_secs(2);

    /// Processor time between two looks, in milliseconds, up to which the process rests.
    const REST: i64 = 10;

    /// Memory is given back when the process has rested for so many looks: soon, and again when a link has noticed, too, and
    /// freed its buffers.
    const GIVE_BACK: [u32; 2] = [1, 4];

    /// What this program was mapped with and never changes: start and length of each mapping.
    static PROGRAM: OnceLock<Vec<(usize, usize)>> = OnceLock::new();

    /// Sets the process up for a program that moves much at times. To be called before there are threads, which could map
    /// something else meanwhile.
    pub(crate) fn prepare() {
        for (parameter, value) in [
            (M_TRIM_THRESHOLD, KEPT),
            (M_MMAP_THRESHOLD, MAPPED),
            (M_ARENA_MAX, ARENAS),
        ] {
            // SAFETY: it has no other effect than on the allocator, which takes any value or refuses it.
            unsafe { libc::mallopt(parameter, value) };
        }
        PROGRAM
            .get_or_init(|| unchanged(&fs::read_to_string("/proc/self/smaps").unwrap_or_default()));
    }

    /// Gives memory back whenever the process has worked and rests now.
    pub(crate) async fn watch() {
        let (mut last, mut rested) = (0, 0_u32);
        loop {
            sleep(LOOK).await;
            let now = processor_time();
            let rests = now - last <= REST;
            rested = if rests { rested.saturating_add(1) } else { 0 };
            if GIVE_BACK.contains(&rested) {
                give_back();
            }
            last = now;
        }
    }

    /// What this process has used so far, in milliseconds.
    fn processor_time() -> i64 {
        getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
            (usage.user_time() + usage.system_time()).num_milliseconds()
        })
    }

    fn give_back() {
        // SAFETY: it touches free memory only.
        unsafe { libc::malloc_trim(0) };
        for (start, length) in PROGRAM.get().into_iter().flatten() {
            // SAFETY: the range is a mapping of the program or of a library that it was started with, which stay mapped as long as
            // it runs. Nobody can write to it and nobody had when it was found, after all relocations, so that the kernel reads
            // the same from the file when it is touched next.
            unsafe { libc::madvise(*start as *mut c_void, *length, MADV_DONTNEED) };
        }
    }

    /// The mappings of files that cannot be written to and are what the files are, given what `/proc/self/smaps` says.
    fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut mapping = None;
        for line in smaps.lines() {
            if let Some(size) = line.strip_prefix("Anonymous:") {
                let is_unchanged = size.trim() == "0 kB";
                found.extend(mapping.take().filter(|_| is_unchanged));
            } else if !line
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .ends_with(':')
            {
                mapping = read_only(line);
            }
        }
        found
    }

    /// Start and length of a mapping of a file that cannot be written to, given as its line in `/proc/self/smaps`.
    fn read_only(line: &str) -> Option<(usize, usize)> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_read_only = ["r-xp", "r--p"].contains(&words.next()?);
        let is_file = words.nth(3)?.starts_with('/');
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (is_read_only && is_file && start < end).then(|| (start, end - start))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_what_nobody_changes_is_dropped() {
            let mapping = |rest: &str, anonymous: &str| {
                format!(
                    "1000-3000 {rest}\nSize: 8 kB\nAnonymous:      {anonymous} kB\nVmFlags: rd mr\n"
                )
            };
            for (rest, anonymous, dropped) in [
                ("r-xp 00000000 08:01 7      /bin/tf", "0", true),
                ("r--p 00000000 08:01 7      /bin/tf", "0", true),
                ("r--p 00000000 08:01 7      /bin/tf", "4", false),
                ("rw-p 00000000 08:01 7      /bin/tf", "0", false),
                ("r-xp 00000000 00:00 0      [vdso]", "0", false),
                ("r--p 00000000 00:00 0", "0", false),
            ] {
                let found = unchanged(&mapping(rest, anonymous));
                let expected = dropped.then_some((0x1000, 0x2000));
                assert_eq!(found, Vec::from_iter(expected), "{rest} {anonymous}");
            }
        }

        #[test]
        fn a_program_goes_on_after_it_has_given_back() {
            prepare();
            let text = "a heap with something in it".repeat(100_000);
            give_back();
            assert_eq!(text, "a heap with something in it".repeat(100_000));
        }
    }
}
