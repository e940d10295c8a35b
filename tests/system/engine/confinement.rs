//! What processes of a container have of the machine, and what they see of it.

use std::collections::BTreeMap;
use std::fs;

use tfnz::node::engine::Engine;
use tfnz::protocol::container::Exit;

use super::bench::{Bench, both_ways, busybox, exec, program, shell, skip};

/// What `/proc/self/status` says of a process, by name.
fn status(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_confined() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    for (text, _, exit) in both_ways(
        &bench,
        shell("cat /proc/self/status; echo uid_map: $(cat /proc/self/uid_map); echo gid_map: $(cat /proc/self/gid_map)"),
    )
    .await
    {
        assert_eq!(exit, Exit::Code(0));
        let status = status(&text);
        assert_eq!(status["Seccomp"], "2");
        assert_eq!(status["Seccomp_filters"], "2");
        assert_eq!(status["NoNewPrivs"], "1");
        // Docker's default set.
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(status[set], "00000000a80425fb", "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
        assert_eq!(status["SigIgn"], "0000000000000000");
        assert_eq!(status["SigBlk"], "0000000000000000");
        for map in ["uid_map", "gid_map"] {
            let fields: Vec<u32> = status[map]
                .split(' ')
                .map(|field| field.parse().expect("a number"))
                .collect();
            let [inside, outside, length] = fields[..] else {
                panic!("{map}: {fields:?}");
            };
            assert_eq!((inside, length), (0, 65536));
            assert!(outside >= 1_879_048_192, "{outside}");
            assert_eq!(outside % 65536, 0);
        }
    }
    // Another user has no capabilities at all, and can get none.
    let mut other = shell("cat /proc/self/status");
    other.user = "web".to_owned();
    for (text, _, exit) in both_ways(&bench, other).await {
        assert_eq!(exit, Exit::Code(0));
        let status = status(&text);
        assert_eq!(status["CapBnd"], "00000000a80425fb");
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
        assert_eq!(status["Uid"], "33\t33\t33\t33");
        assert_eq!(status["Gid"], "34\t34\t34\t34");
        assert_eq!(status["Groups"].trim(), "4");
        assert_eq!(status["Seccomp"], "2");
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_has_a_descriptor_beyond_its_streams() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    // The fourth is the directory that is being listed.
    for (text, _, exit) in both_ways(&bench, program(&["ls", "/proc/self/fd"])).await {
        assert_eq!(exit, Exit::Code(0));
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            ["0", "1", "2", "3"]
        );
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_open_is_on_a_mount_of_the_machine() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    // Nobody has asked for its standard input.
    let script = "
        mount=$(sed -n 's/^mnt_id:[^0-9]*//p' /proc/self/fdinfo/0)
        grep -q \"^$mount .* /dev/null \" /proc/self/mountinfo && echo own";
    for outcome in both_ways(&bench, shell(script)).await {
        assert_eq!(outcome, ("own\n".to_owned(), String::new(), Exit::Code(0)));
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_device_of_the_machine_can_be_opened() {
    if skip() {
        return;
    }
    // Every disk and memory device that the machine has, as nodes of the image.
    let mut image = busybox();
    image.directory("nodes", 0o755);
    let mut nodes = vec![];
    for (name, major, minor, kind) in [
        ("mem", 1, 1, tar::EntryType::Char),
        ("null", 1, 3, tar::EntryType::Char),
        ("kmsg", 1, 11, tar::EntryType::Char),
        ("vda", 254, 0, tar::EntryType::Block),
        (
            "vda-here",
            device_of_root().0,
            device_of_root().1,
            tar::EntryType::Block,
        ),
        ("fuse", 10, 229, tar::EntryType::Char),
        ("tun", 10, 200, tar::EntryType::Char),
        ("kvm", 10, 232, tar::EntryType::Char),
    ] {
        let path = format!("nodes/{name}");
        image.device(&path, kind, major, minor);
        nodes.push(path);
    }
    let bench = Bench::with(vec![image]).await;
    let script = "
        for node in /nodes/*; do
            test -c $node -o -b $node || echo $node is no device
            (: < $node) 2>/dev/null && echo opened $node
            (: > $node) 2>/dev/null && echo opened $node for writing
            cp -a $node /tmp/copy 2>/dev/null && echo copied $node
            rm -f /tmp/copy
        done
        for place in /tmp /dev /dev/shm; do
            mknod $place/disk b 254 0 2>/dev/null && (: < $place/disk) && echo made a disk in $place
            mknod $place/zero c 1 5 2>/dev/null && (: < $place/zero) && echo made a zero in $place
        done
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted
        mount -o remount,dev / 2>/dev/null && echo remounted
        : < /dev/null && : > /dev/null && : < /dev/urandom && echo the usual ones work
        exit 0";
    for (text, error, exit) in both_ways(&bench, shell(script)).await {
        assert_eq!(text, "the usual ones work\n", "{error}");
        assert_eq!(exit, Exit::Code(0));
    }
    bench.engine.shutdown().await;
}

/// The numbers of the device that the machine's root file system is on.
fn device_of_root() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata("/").expect("there").dev();
    (libc::major(device), libc::minor(device))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_cannot_be_seen() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let script = "
        ls -d /proc/[0-9]* | wc -l
        cat /proc/self/mountinfo
        echo ---
        ls /
        hostname
        cat /proc/1/environ
        ls /proc/1/fd
        ls -l /proc/1/root /proc/1/exe
        echo x > /proc/sys/kernel/core_pattern
        echo b > /proc/sysrq-trigger
        cat /proc/kcore /proc/timer_list | wc -c
        ls /sys/firmware | wc -l
        true";
    let outcomes = both_ways(&bench, shell(script)).await;
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").expect("read");
    for (text, error, exit) in outcomes {
        assert_eq!(exit, Exit::Code(0));
        let processes: u32 = text
            .lines()
            .next()
            .expect("a line")
            .parse()
            .expect("a number");
        assert!(processes <= 8, "{processes}");
        assert!(!text.lines().any(|line| line == machine.trim()), "{text}");
        assert!(
            !text.contains("PATH=") || text.matches("PATH=").count() == 1,
            "{text}"
        );
        for line in text
            .lines()
            .skip(1)
            .take_while(|line| *line != "---")
            .filter(|line| !line.contains(" / / "))
        {
            let point = line.split(' ').nth(4).expect("a mount point");
            assert!(
                ["/proc", "/dev", "/sys", "/etc/hosts"]
                    .iter()
                    .any(|place| point.starts_with(place)),
                "{line}"
            );
        }
        assert!(error.contains("core_pattern"), "{error}");
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "{text}");
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_to_start_cannot_be_looked_into() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let container = bench.asleep().await;
    // It has the engine's program in memory, and sockets to the engine.
    let (text, _, _) = exec(
        &*container,
        shell(
            "cat /proc/1/environ /proc/1/maps /proc/1/mem; ls -A /proc/1/fd; ls -A /proc/1/map_files; ls -l /proc/1/exe | grep memfd;
             cat /proc/1/exe; true",
        ),
    )
    .await;
    assert_eq!(text, "");
    container.destroy().await.expect("destroyed");
    bench.engine.shutdown().await;
}
