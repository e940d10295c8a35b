//! The filter of system calls.

use std::fs;
use std::process::Command;

use tfnz::node::engine::Engine;
use tfnz::protocol::container::Exit;

use super::bench::{Bench, both_ways, busybox, program, shell, skip, state_directory};

#[tokio::test(flavor = "multi_thread")]
async fn system_calls_are_filtered_as_by_docker() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let script = "
        unshare -U true 2>&1 | grep -c 'Operation not permitted'
        chroot / true && echo chroot
        mkdir /tmp/m && mount -t proc proc /tmp/m 2>/dev/null && echo mounted
        nsenter -t 1 -n true 2>/dev/null && echo entered
        hostname other 2>/dev/null && echo renamed
        swapon /etc/plain 2>/dev/null && echo swapped
        true";
    for (text, _, _) in both_ways(&bench, shell(script)).await {
        assert_eq!(text, "1\nchroot\n");
    }
    bench.engine.shutdown().await;
}

/// A 32-bit program that prints `32` and leaves with status 7, or with 8 if it may mount, or with 9 if it is told of a
/// `clone3`.
#[cfg(target_arch = "x86_64")]
fn program_of_32_bits() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    #[rustfmt::skip]
    let mut code = vec![
        0xb8, 4, 0, 0, 0, 0xbb, 1, 0, 0, 0, 0xb9, 0, 0, 0, 0, 0xba, 3, 0, 0, 0, 0xcd, 0x80, // write(1, text, 3)
        0xb8, 21, 0, 0, 0, 0xcd, 0x80,                                                       // mount(...)
        0xbb, 8, 0, 0, 0, 0x83, 0xf8, 0xff, 0x75, 22,                                        // 8 unless EPERM
        0xb8, 0xb3, 1, 0, 0, 0xcd, 0x80,                                                     // clone3(...)
        0xbb, 9, 0, 0, 0, 0x83, 0xf8, 0xda, 0x75, 5,                                         // 9 unless ENOSYS
        0xbb, 7, 0, 0, 0,                                                                    // 7
        0xb8, 1, 0, 0, 0, 0xcd, 0x80,                                                        // exit(status)
    ];
    let length = u32::try_from(code.len()).expect("short");
    code[11..15].copy_from_slice(&(BASE + HEADERS + length).to_le_bytes());
    code.extend(b"32\n");
    let size = HEADERS + length + 3;
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let words = |file: &mut Vec<u8>, values: &[u32]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    // Executable for i386; entry, program headers, no section headers, flags; sizes and counts.
    words(&mut file, &[2 | (3 << 16), 1, BASE + HEADERS, 52, 0, 0]);
    words(&mut file, &[0x34 | (0x20 << 16), 1, 0]);
    // Load all of it, to read and execute.
    words(&mut file, &[1, 0, BASE, BASE, size, size, 5, 0x1000]);
    file.extend(code);
    file
}

#[cfg(target_arch = "x86_64")]
#[tokio::test(flavor = "multi_thread")]
async fn programs_of_32_bits_run_under_the_same_filter() {
    if skip() {
        return;
    }
    let content = program_of_32_bits();
    let here = state_directory();
    let path = here.path().join("program");
    fs::write(&path, &content).expect("written");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    if Command::new(&path).output().is_err() {
        eprintln!("skipped: needs a kernel that runs 32-bit programs");
        return;
    }
    let mut image = busybox();
    image.file("bin/program", 0o755, &content);
    let bench = Bench::with(vec![image]).await;
    for outcome in both_ways(&bench, program(&["program"])).await {
        assert_eq!(outcome, ("32\n".to_owned(), String::new(), Exit::Code(7)));
    }
    bench.engine.shutdown().await;
}
