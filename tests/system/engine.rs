//! The Linux engine, with real containers of a busybox image.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tfnz::ids::{ContainerId, Digest};
use tfnz::node::engine::linux::{LinuxEngine, use_shim_program};
use tfnz::node::engine::{Container, Engine, EngineError, Process, Program, Spec};
use tfnz::protocol::container::{Exit, Limits, PrebootFile, Stdio, WindowSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Set for the process that is killed.
const OWNER: &str = "TFNZ_TEST_ENGINE_OWNER";

/// Whether the machine lacks what these tests need.
pub(crate) fn skip() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "root"
    } else if !Path::new("/bin/busybox").exists() {
        "/bin/busybox (apt install busybox-static)"
    } else {
        use_shim_program(env!("CARGO_BIN_EXE_tf"));
        return false;
    };
    assert!(std::env::var_os("CI").is_none(), "needs {reason}");
    eprintln!("skipped: needs {reason}");
    true
}

/// A tar of directories, files, links and devices.
pub(crate) struct Image(tar::Builder<Vec<u8>>);

impl Image {
    fn empty() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Busybox, with its links and two users.
    pub(crate) fn busybox() -> Self {
        let mut image = Self::empty();
        for directory in ["bin", "etc", "root", "home"] {
            image.entry(directory, tar::EntryType::Directory, 0o755, b"");
        }
        image.entry("tmp", tar::EntryType::Directory, 0o1777, b"");
        let busybox = fs::read("/bin/busybox").expect("busybox");
        image.file("bin/busybox", 0o755, &busybox);
        let applets = Command::new("/bin/busybox")
            .arg("--list")
            .output()
            .expect("busybox runs");
        for applet in String::from_utf8_lossy(&applets.stdout).lines() {
            if applet != "busybox" {
                image.link(&format!("bin/{applet}"), "/bin/busybox");
            }
        }
        image.file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/home:/bin/sh\n",
        );
        image.file("etc/group", 0o644, b"root:x:0:\nweb:x:34:\nlog:x:4:web\n");
        image.file("etc/plain", 0o644, b"not a program\n");
        image.file("etc/script", 0o755, b"#!/no/such/interpreter\n");
        image.file("etc/garbage", 0o755, b"\x01\x02\x03\x04");
        image
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, tar::EntryType::Regular, mode, content);
    }

    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        self.0
            .append_data(&mut header, path, content)
            .expect("appended");
    }

    fn link(&mut self, path: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        self.0
            .append_link(&mut header, path, target)
            .expect("appended");
    }

    fn device(&mut self, path: &str, major: u32, minor: u32, kind: tar::EntryType) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_device_major(major).expect("gnu");
        header.set_device_minor(minor).expect("gnu");
        self.0
            .append_data(&mut header, path, &b""[..])
            .expect("appended");
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("a whole tar")
    }
}

/// An engine with a state directory of its own.
struct Bench {
    engine: LinuxEngine,
    layers: Vec<Digest>,
    state: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with(vec![Image::busybox()]).await
    }

    async fn with(images: Vec<Image>) -> Self {
        let state = state_directory();
        let engine = LinuxEngine::open(state.path()).expect("opened");
        let mut layers = Vec::new();
        for image in images {
            layers.push(add(&engine, image).await);
        }
        engine.prepare().await.expect("prepared");
        Self {
            engine,
            layers,
            state,
        }
    }

    fn spec(&self, args: &[&str]) -> Spec {
        Spec {
            id: ContainerId::random(),
            layers: self.layers.clone(),
            files: vec![],
            program: program(args),
            stdio: OUTPUT,
            limits: Limits::default(),
        }
    }

    async fn create(&self, spec: Spec) -> Box<dyn Container> {
        self.engine.create(spec).await.expect("created")
    }

    /// A container that sleeps, to start further processes in.
    async fn asleep(&self) -> Box<dyn Container> {
        self.create(self.spec(&["sleep", "1000"])).await
    }

    /// What a command prints and how it ends, as the first process of a container.
    async fn run(&self, spec: Spec) -> (String, String, Exit) {
        let container = self.create(spec).await;
        let io = container.first_process().take_io();
        container.start().await.expect("started");
        let outcome = finish(io, container.first_process()).await;
        container.destroy().await.expect("destroyed");
        outcome
    }
}

pub(crate) const OUTPUT: Stdio = Stdio {
    stdin: false,
    output: true,
    terminal: None,
};

pub(crate) fn state_directory() -> TempDir {
    // Not in /tmp, which is an overlay or a tmpfs on some machines.
    fs::create_dir_all("/var/tmp").expect("there");
    tempfile::Builder::new()
        .prefix("tfnz-test-")
        .tempdir_in("/var/tmp")
        .expect("a directory")
}

pub(crate) async fn add(engine: &LinuxEngine, image: Image) -> Digest {
    let bytes = image.bytes();
    let digest = Digest::of(&bytes);
    engine
        .add_layer(
            digest,
            Box::new(std::io::Cursor::new(bytes)),
            Box::new(|_| {}),
        )
        .await
        .expect("unpacked");
    digest
}

pub(crate) fn program(args: &[&str]) -> Program {
    Program {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Program::default()
    }
}

pub(crate) fn shell(script: &str) -> Program {
    program(&["sh", "-c", script])
}

pub(crate) async fn finish(
    io: tfnz::node::engine::ProcessIo,
    process: &dyn Process,
) -> (String, String, Exit) {
    let read = |stream: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>| async {
        let mut text = String::new();
        if let Some(mut stream) = stream {
            stream.read_to_string(&mut text).await.expect("read");
        }
        text
    };
    drop(io.stdin);
    let all = async { tokio::join!(read(io.stdout), read(io.stderr), process.wait()) };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("ends in time")
}

/// What a further process prints and how it ends.
pub(crate) async fn exec(container: &dyn Container, program: Program) -> (String, String, Exit) {
    let process = container.exec(program, OUTPUT).await.expect("started");
    finish(process.take_io(), &*process).await
}

/// Runs `program` once as first process and once as further process, with the same image.
async fn both_ways(bench: &Bench, program: Program) -> [(String, String, Exit); 2] {
    let mut spec = bench.spec(&[]);
    spec.program = program.clone();
    let first = bench.run(spec).await;
    let container = bench.asleep().await;
    let further = exec(&*container, program).await;
    container.destroy().await.expect("destroyed");
    [first, further]
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_a_program_and_leaves_with_its_status() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    for outcome in both_ways(&bench, shell("echo out; echo err >&2; exit 7")).await {
        assert_eq!(
            outcome,
            ("out\n".to_owned(), "err\n".to_owned(), Exit::Code(7))
        );
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_processes_and_are_how_they_end() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let container = bench.asleep().await;
    let (_, _, exit) = exec(&*container, shell("kill -TERM $$; sleep 1000")).await;
    assert_eq!(exit, Exit::Signal(15));
    let process = container
        .exec(program(&["sleep", "1000"]), OUTPUT)
        .await
        .expect("started");
    process.signal(10).await.expect("sent");
    assert_eq!(process.wait().await, Exit::Signal(10));
    // A real-time signal, which has no name.
    let process = container
        .exec(program(&["sleep", "1000"]), OUTPUT)
        .await
        .expect("started");
    process.signal(40).await.expect("sent");
    assert_eq!(process.wait().await, Exit::Signal(40));
    assert!(matches!(process.signal(9).await, Err(EngineError::Ended)));
    container.start().await.expect("started");
    container.first_process().signal(9).await.expect("sent");
    assert_eq!(container.first_process().wait().await, Exit::Signal(9));
    assert!(matches!(
        container.exec(program(&["true"]), OUTPUT).await,
        Err(EngineError::Ended)
    ));
    bench.engine.shutdown().await;
}

/// What `/proc/self/status` says of a process, by name.
fn status(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_confined() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
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
    if skip() {
        return;
    }
    let bench = Bench::new().await;
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
    if skip() {
        return;
    }
    let bench = Bench::new().await;
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
    let mut image = Image::busybox();
    image.entry("nodes", tar::EntryType::Directory, 0o755, b"");
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
        image.device(&path, major, minor, kind);
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
    if skip() {
        return;
    }
    let bench = Bench::new().await;
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
    if skip() {
        return;
    }
    let bench = Bench::new().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn system_calls_are_filtered_as_by_docker() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
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
    let mut image = Image::busybox();
    image.file("bin/program", 0o755, &content);
    let bench = Bench::with(vec![image]).await;
    for outcome in both_ways(&bench, program(&["program"])).await {
        assert_eq!(outcome, ("32\n".to_owned(), String::new(), Exit::Code(7)));
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_cannot_run_are_told_apart() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let exits = async |command: &str| {
        let [first, further] = both_ways(&bench, program(&[command])).await;
        assert_eq!(first.2, further.2);
        first.2
    };
    for (command, part) in [
        ("no-such-program", "PATH"),
        ("/bin/no-such-program", "not in the container"),
        ("/etc/passwd/x", "not in the container"),
        ("/etc/script", "interpreter"),
    ] {
        match exits(command).await {
            Exit::NotFound(text) => {
                assert!(text.contains(part) && text.contains(command), "{text}");
            }
            other => panic!("{command}: {other:?}"),
        }
    }
    for (command, part) in [
        ("/etc/plain", "not executable"),
        ("/etc", "directory"),
        ("/etc/garbage", "exec format error"),
    ] {
        match exits(command).await {
            Exit::NotExecutable(text) => {
                assert!(text.contains(part) && text.contains(command), "{text}");
            }
            other => panic!("{command}: {other:?}"),
        }
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_directories_and_environment_are_those_of_the_container() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let mut program = shell(
        "id -u; id -g; id -G; pwd; echo $HOME; echo $PATH; echo $A; cat /etc/hostname; echo $HOSTNAME; umask; stat -c %u:%g /not",
    );
    program.env = vec!["A=b c".to_owned()];
    program.working_dir = "/not/there/yet".to_owned();
    program.user = "web".to_owned();
    for (text, error, exit) in both_ways(&bench, program.clone()).await {
        assert_eq!(exit, Exit::Code(0), "{error}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..7],
            [
                "33",
                "34",
                "34 4",
                "/not/there/yet",
                "/home",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "b c",
            ]
        );
        assert_eq!(lines[7].len(), 12);
        assert_eq!(lines[7], lines[8]);
        assert_eq!(lines[9..], ["0022", "0:0"]);
    }
    let container = bench.asleep().await;
    for (change, part) in [
        (
            |program: &mut Program| program.user = "nobody".to_owned(),
            "no user `nobody`",
        ),
        (
            |program: &mut Program| program.user = "web:none".to_owned(),
            "no group `none`",
        ),
        (
            |program: &mut Program| program.working_dir = "/etc/passwd".to_owned(),
            "/etc/passwd",
        ),
        (
            |program: &mut Program| program.working_dir = "relative".to_owned(),
            "not absolute",
        ),
        // A descriptor that happens to be open there would lead out of the container.
        (
            |program: &mut Program| program.working_dir = "/proc/self/fd/5".to_owned(),
            "/proc/self/fd/5",
        ),
        (
            |program: &mut Program| program.env.push("A=\0".to_owned()),
            "zero byte",
        ),
    ] as [(fn(&mut Program), &str); 6]
    {
        let mut program = program.clone();
        change(&mut program);
        match container.exec(program.clone(), OUTPUT).await.map(drop) {
            Err(EngineError::BadSpec(text)) => assert!(text.contains(part), "{text}"),
            other => panic!("{part}: {other:?}"),
        }
        let mut spec = bench.spec(&[]);
        spec.program = program;
        let sleeping = bench.create(spec).await;
        match sleeping.start().await {
            Err(EngineError::BadSpec(text)) => assert!(text.contains(part), "{text}"),
            other => panic!("{part}: {other:?}"),
        }
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_can_be_opened_by_name_by_any_user() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let mut program = shell("echo out > /dev/stdout; echo err > /dev/stderr");
    program.user = "web".to_owned();
    for outcome in both_ways(&bench, program).await {
        assert_eq!(
            outcome,
            ("out\n".to_owned(), "err\n".to_owned(), Exit::Code(0))
        );
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_reaches_a_process_and_ends() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let container = bench.asleep().await;
    let stdio = Stdio {
        stdin: true,
        ..OUTPUT
    };
    let process = container
        .exec(program(&["wc", "-c"]), stdio)
        .await
        .expect("started");
    let mut io = process.take_io();
    assert!(process.take_io().stdin.is_none());
    let mut stdin = io.stdin.take().expect("attached");
    // More than any pipe holds.
    stdin
        .write_all(&vec![b'x'; 3 << 20])
        .await
        .expect("written");
    stdin.shutdown().await.expect("closed");
    drop(stdin);
    let (text, _, exit) = finish(io, &*process).await;
    assert_eq!(text, "3145728\n");
    assert_eq!(exit, Exit::Code(0));
    // Not attached: nothing to read, and nowhere to write to.
    let process = container
        .exec(shell("cat && echo lost"), Stdio::default())
        .await
        .expect("started");
    let io = process.take_io();
    assert!(io.stdin.is_none() && io.stdout.is_none() && io.stderr.is_none());
    assert_eq!(process.wait().await, Exit::Code(0));
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_controls() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let stdio = Stdio {
        stdin: true,
        output: true,
        terminal: Some(WindowSize {
            rows: 33,
            columns: 111,
        }),
    };
    let mut program = shell(
        "tty; stty size; echo $TERM; trap 'stty size; exit 5' WINCH; trap 'echo interrupted' INT; echo ready; while true; do sleep 0.1; done",
    );
    program.user = "web".to_owned();
    let mut spec = bench.spec(&[]);
    spec.program = program.clone();
    spec.stdio = stdio;
    let first = bench.create(spec).await;
    let sleeping = bench.asleep().await;
    let further = sleeping.exec(program, stdio).await.expect("started");
    first.start().await.expect("started");
    for process in [first.first_process(), &*further] {
        let mut io = process.take_io();
        assert!(io.stderr.is_none());
        let mut stdin = io.stdin.take().expect("attached");
        let mut stdout = io.stdout.take().expect("attached");
        let mut text = String::new();
        let mut read_until = async |text: &mut String, part: &str| {
            let mut buffer = [0; 1024];
            while !text.contains(part) {
                let read = tokio::time::timeout(PATIENCE, stdout.read(&mut buffer));
                let length = read.await.expect("in time").expect("read");
                assert_ne!(length, 0, "{text}");
                text.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        };
        read_until(&mut text, "ready").await;
        assert_eq!(text, "/dev/pts/0\r\n33 111\r\nxterm\r\nready\r\n");
        stdin.write_all(b"\x03").await.expect("typed");
        read_until(&mut text, "interrupted").await;
        process
            .resize(WindowSize {
                rows: 7,
                columns: 8,
            })
            .expect("resized");
        read_until(&mut text, "7 8").await;
        assert_eq!(process.wait().await, Exit::Code(5));
        // All that was to be read has been.
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).await.expect("the end");
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_inside_and_nowhere_else() {
    if skip() {
        return;
    }
    let mut image = Image::busybox();
    // Whatever is written through these must stay in the container.
    image.link("up", "../../../../../../../var/tmp");
    image.entry("var", tar::EntryType::Directory, 0o755, b"");
    image.entry("var/tmp", tar::EntryType::Directory, 0o1777, b"");
    image.link("absolute", "/home");
    image.entry("sticky", tar::EntryType::Directory, 0o1777, b"");
    image.link("etc/resolv.conf", "/../../../../var/tmp/tfnz-resolv");
    let bench = Bench::with(vec![image]).await;
    let file = |path: &str| PrebootFile {
        path: path.to_owned(),
        mode: 0o640,
        content: path.as_bytes().to_vec(),
    };
    let mut spec = bench.spec(&[
        "sh",
        "-c",
        "stat -c '%n %a %u %g' /new/deep/file /var/tmp/tfnz-through /home/through /sticky /sticky/x /etc/plain
         cat /new/deep/file /home/through /etc/plain; echo; cat /etc/hosts | tail -1; cat /etc/resolv.conf > /dev/null && echo resolv
         echo more >> /etc/hosts && echo more >> /etc/resolv.conf && echo writable",
    ]);
    spec.files = [
        "/new/deep/file",
        "/up/tfnz-through",
        "/absolute/through",
        "/sticky/x",
        "/etc/plain",
    ]
    .map(file)
    .to_vec();
    let hostname = spec.id.as_str()[..12].to_owned();
    let container = bench.create(spec).await;
    let io = container.first_process().take_io();
    container.start().await.expect("started");
    let (text, error, exit) = finish(io, container.first_process()).await;
    assert_eq!(
        text,
        format!(
            "/new/deep/file 640 0 0\n/var/tmp/tfnz-through 640 0 0\n/home/through 640 0 0\n/sticky 1777 0 0\n\
             /sticky/x 640 0 0\n/etc/plain 640 0 0\n/new/deep/file/absolute/through/etc/plain\n\
             {}\t{hostname}\nresolv\nwritable\n",
            container.ip()
        ),
        "{error}"
    );
    assert_eq!(exit, Exit::Code(0));
    for outside in [
        "/var/tmp/tfnz-through",
        "/var/tmp/tfnz-resolv",
        "/home/through",
    ] {
        assert!(!Path::new(outside).exists(), "{outside}");
    }
    // Too large for the shim's socket, and to be kept in memory.
    let mut spec = bench.spec(&["wc", "-c", "/etc/large"]);
    spec.files = vec![PrebootFile {
        path: "/etc/large".to_owned(),
        mode: 0o600,
        content: vec![b'x'; 3 << 20],
    }];
    let (text, _, _) = bench.run(spec).await;
    assert_eq!(text, "3145728 /etc/large\n");
    for path in [
        "/../../x",
        "relative",
        "/a/../b",
        "/",
        "/dir/",
        "",
        "/proc/1/x",
        "/dev/x",
        "/etc",
        "/etc/passwd/x",
    ] {
        let mut spec = bench.spec(&["true"]);
        spec.files = vec![file(path)];
        match bench.engine.create(spec).await.map(drop) {
            Err(EngineError::BadSpec(text)) => assert!(text.contains(path), "{text}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_lie_on_each_other_whatever_their_number() {
    if skip() {
        return;
    }
    let mut images = vec![Image::busybox()];
    for number in 0..120 {
        let mut image = Image::empty();
        image.entry("many", tar::EntryType::Directory, 0o755, b"");
        image.file(&format!("many/{number}"), 0o644, b"");
        image.file("last", 0o644, number.to_string().as_bytes());
        images.push(image);
    }
    let mut top = Image::empty();
    top.file("many/.wh.7", 0o644, b"");
    top.file("many/own", 0o4755, b"");
    images.push(top);
    let bench = Bench::with(images).await;
    let (text, error, _) = bench
        .run(bench.spec(&["sh", "-c", "ls /many | wc -l; cat /last; echo; stat -c '%a %u %g' /many/own /bin/busybox; rm -r /many && touch /many"]))
        .await;
    assert_eq!(text, "120\n119\n4755 0 0\n755 0 0\n", "{error}");
    // What one has removed is there for the next.
    let (text, _, _) = bench
        .run(bench.spec(&["sh", "-c", "ls /many | wc -l"]))
        .await;
    assert_eq!(text, "120\n");
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_ends_at_its_limit() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let mut spec = bench.spec(&["sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 1000"]);
    spec.limits.pids = Some(50);
    let bomb = bench.create(spec).await;
    let mut errors = bomb.first_process().take_io().stderr.expect("attached");
    bomb.start().await.expect("started");
    let mut buffer = [0; 4096];
    let mut text = String::new();
    while !text.contains("fork") {
        let read = tokio::time::timeout(PATIENCE, errors.read(&mut buffer));
        let length = read.await.expect("in time").expect("read");
        assert_ne!(length, 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    // Others are none the worse.
    let (text, _, exit) = bench.run(bench.spec(&["echo", "well"])).await;
    assert_eq!((text.as_str(), exit), ("well\n", Exit::Code(0)));
    bomb.destroy().await.expect("destroyed");
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_limit_ends_a_process() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let hungry = program(&["tail", "/dev/zero"]);
    let mut spec = bench.spec(&[]);
    spec.program = hungry.clone();
    spec.limits.memory = Some(32 << 20);
    let (_, _, exit) = bench.run(spec.clone()).await;
    assert_eq!(exit, Exit::OutOfMemory);

    // Not even enough to be made.
    spec.id = ContainerId::random();
    spec.limits.memory = Some(64 << 10);
    let made = tokio::time::timeout(PATIENCE, bench.engine.create(spec.clone()));
    assert!(made.await.expect("in time").is_err());

    spec.id = ContainerId::random();
    spec.limits.memory = Some(32 << 20);
    spec.program = program(&["sleep", "1000"]);
    let container = bench.create(spec).await;
    let (_, _, exit) = exec(&*container, hungry).await;
    assert_eq!(exit, Exit::OutOfMemory);
    // Later ones that are killed are not taken for such.
    let (_, _, exit) = exec(&*container, shell("kill -9 $$")).await;
    assert_eq!(exit, Exit::Signal(9));
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_is_limited() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let mut spec = bench.spec(&[
        "sh",
        "-c",
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null",
    ]);
    spec.limits.millicpus = Some(250);
    let (text, _, _) = bench.run(spec).await;
    assert!(
        ["25000\n", "25000 100000\n"].contains(&text.as_str()),
        "{text}"
    );
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_read_inside_and_neither_changed_nor_those_of_others_seen() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let other = bench.asleep().await;
    let script = "
        cd /sys/fs/cgroup
        cat memory/memory.limit_in_bytes memory.max 2>/dev/null
        cat pids/pids.max pids.max 2>/dev/null
        cut -d: -f3 /proc/self/cgroup | sort -u
        find . -mindepth 2 -type d
        for file in memory/memory.limit_in_bytes memory.max pids/pids.max pids.max; do
            test -e $file && (echo 1000 > $file) 2>/dev/null && echo wrote $file
        done
        for place in . memory pids cpu cpuset; do
            mkdir $place/new 2>/dev/null && echo made $place/new
        done
        true";
    let mut spec = bench.spec(&["sh", "-c", script]);
    spec.limits.memory = Some(64 << 20);
    spec.limits.pids = Some(33);
    let (text, error, _) = bench.run(spec.clone()).await;
    assert_eq!(text, "67108864\n33\n/\n", "{error}");
    // Further processes are in all of them, too.
    spec.id = ContainerId::random();
    spec.program = program(&["sleep", "1000"]);
    let container = bench.create(spec).await;
    let (text, error, _) = exec(&*container, shell(script)).await;
    assert_eq!(text, "67108864\n33\n/\n", "{error}");
    other.destroy().await.expect("destroyed");
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_counts_by_user_is_counted_for_each_container() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    // As many message queues as there can be: a user can have so many bytes in them.
    let script = "
        i=0
        while test $i -lt 200 && touch /dev/mqueue/$i 2>/dev/null; do i=$((i + 1)); done
        echo $i";
    let greedy = bench.asleep().await;
    let (first, _, _) = exec(&*greedy, shell(script)).await;
    let other = bench.asleep().await;
    let (second, _, _) = exec(&*other, shell(script)).await;
    assert_ne!(first, "0\n");
    assert_eq!(first, second);
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_systems_are_mounted_on_directories_of_the_image_only() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    for name in ["proc", "dev", "sys"] {
        let links = [
            "/etc",
            "etc",
            "/nowhere",
            "../../../../var/tmp",
            "/proc/1/root",
        ];
        let mut images: Vec<_> = links
            .map(|target| {
                let mut image = Image::empty();
                image.entry("etc", tar::EntryType::Directory, 0o755, b"");
                image.link(name, target);
                image
            })
            .into();
        let mut file = Image::empty();
        file.file(name, 0o644, b"");
        images.push(file);
        for image in images {
            let mut spec = bench.spec(&["true"]);
            spec.layers = vec![add(&bench.engine, image).await];
            match bench.engine.create(spec).await.map(drop) {
                Err(EngineError::BadSpec(text)) => {
                    assert!(text.contains(&format!("/{name} of the image")), "{text}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_start_at_once() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let runs = (0..10).map(|number| {
        bench.run(bench.spec(&[
            "sh",
            "-c",
            &format!("cat /proc/self/uid_map; echo {number}"),
        ]))
    });
    let outcomes = futures_util::future::join_all(runs).await;
    let mut maps = std::collections::BTreeSet::new();
    for (number, (text, error, exit)) in outcomes.into_iter().enumerate() {
        assert_eq!(exit, Exit::Code(0), "{error}");
        let (map, rest) = text.split_once('\n').expect("two lines");
        assert_eq!(rest, format!("{number}\n"));
        assert!(maps.insert(map.to_owned()), "two containers share {map}");
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_a_container_is_reached() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let container = bench
        .create(bench.spec(&["nc", "-l", "-p", "80", "-e", "cat"]))
        .await;
    assert!(container.connect(80).await.is_err());
    container.start().await.expect("started");
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match container.connect(80).await {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    stream.write_all(b"echo").await.expect("sent");
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.expect("echoed");
    assert_eq!(&reply, b"echo");
    bench.engine.shutdown().await;
    assert!(container.connect(80).await.is_err());
}

/// All that the machine shows of containers, apart from what belongs to other engines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    pub(crate) mounts: String,
    pub(crate) links: Vec<String>,
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) processes: Vec<String>,
}

impl Traces {
    /// Those of the engine with this state directory and slot.
    pub(crate) fn of(state: &Path, slot: &str) -> Self {
        let names = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path)
                .into_iter()
                .flatten()
                .map(|entry| entry.expect("listed").path())
                .collect()
        };
        let state_text = state.to_str().expect("text");
        // Somebody else may have the slot by now, and then the rest is theirs.
        let lock = Path::new("/run/20ft").join(slot);
        let ours = fs::read_to_string(&lock).is_ok_and(|owner| owner == state_text);
        let theirs = lock.exists() && !ours;
        let slot = if theirs { "nobody" } else { slot };
        Self {
            mounts: fs::read_to_string("/proc/self/mountinfo")
                .expect("read")
                .lines()
                .filter(|line| line.contains(state_text))
                .collect(),
            links: names(Path::new("/sys/class/net"))
                .into_iter()
                .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
                .filter(|name| name == &format!("tfnz-{slot}"))
                .collect(),
            cgroups: names(Path::new("/sys/fs/cgroup"))
                .into_iter()
                .map(|mount| mount.join("tf").join(slot))
                .filter(|path| path.exists())
                .collect(),
            directories: names(&state.join("run"))
                .into_iter()
                .chain([Path::new("/run/20ft").join(slot), socket(slot)])
                .filter(|path| path.exists())
                .collect(),
            processes: names(Path::new("/proc"))
                .into_iter()
                .filter_map(|path| {
                    let groups = fs::read_to_string(path.join("cgroup")).ok()?;
                    let name = fs::read_to_string(path.join("comm")).ok()?;
                    groups.contains(&format!("/tf/{slot}/")).then_some(name)
                })
                .collect(),
        }
    }

    pub(crate) fn are_none(&self) -> bool {
        self.mounts.is_empty()
            && self.links.is_empty()
            && self.cgroups.is_empty()
            && self.directories.is_empty()
            && self.processes.is_empty()
    }
}

/// Where the shim of a slot waits for its next engine, if it is one that does.
pub(crate) fn socket(slot: &str) -> PathBuf {
    Path::new("/run/20ft").join(format!("{slot}.sock"))
}

/// The slot of the engine with this state directory.
pub(crate) fn slot(state: &Path) -> String {
    fs::read_dir(state.join("run"))
        .expect("it runs")
        .next()
        .expect("a slot")
        .expect("listed")
        .file_name()
        .into_string()
        .expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_container_nor_of_an_engine() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let state = bench.state.path().to_owned();
    let slot = slot(&state);
    let spec = bench.spec(&["sh", "-c", "touch /written; sleep 1000 & sleep 1000"]);
    let directory = state
        .join("run")
        .join(&slot)
        .join("containers")
        .join(spec.id.as_str());
    let cgroup = |mount: &str| {
        Path::new(mount)
            .join("tf")
            .join(&slot)
            .join(spec.id.as_str())
    };
    let cgroups: Vec<_> = [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/pids",
    ]
    .into_iter()
    .map(cgroup)
    .collect();
    let container = bench.create(spec.clone()).await;
    container.start().await.expect("started");
    assert!(directory.exists());
    assert!(cgroups.iter().any(|path| path.exists()));
    let traces = Traces::of(&state, &slot);
    assert_eq!(traces.mounts, "", "mounts are the containers' own");
    container.destroy().await.expect("destroyed");
    container.destroy().await.expect("again, to no effect");
    assert!(!directory.exists());
    assert!(!cgroups.iter().any(|path| path.exists()));
    assert_eq!(Traces::of(&state, &slot).processes, [""; 0]);

    // Dropped: destroyed in the background.
    let dropped = bench.create(spec).await;
    dropped.start().await.expect("started");
    drop(dropped);
    wait_until("the container is destroyed", || {
        !directory.exists() && !cgroups.iter().any(|path| path.exists())
    });

    // One that nobody has ended.
    let running = bench.asleep().await;
    bench.engine.shutdown().await;
    wait_until("the link goes", || Traces::of(&state, &slot).are_none());
    assert!(matches!(
        running.first_process().wait().await,
        Exit::Lost(_) | Exit::Signal(9)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_end_with_a_dropped_engine() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let container = bench.asleep().await;
    container.start().await.expect("started");
    let Bench { engine, state, .. } = bench;
    let slot = slot(state.path());
    assert_eq!(Traces::of(state.path(), &slot).processes.len(), 1);
    drop(engine);
    assert!(matches!(
        container.first_process().wait().await,
        Exit::Lost(_) | Exit::Signal(9)
    ));
    wait_until("all processes die", || {
        Traces::of(state.path(), &slot).processes.is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_nobody_has_any_more_is_killed() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let container = bench.asleep().await;
    let process = container
        .exec(program(&["sleep", "1234"]), OUTPUT)
        .await
        .expect("started");
    let count = async || {
        let (text, _, _) = exec(
            &*container,
            shell("grep -l '[1]234' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"),
        )
        .await;
        text
    };
    assert_eq!(count().await, "1\n");
    drop(process);
    let deadline = Instant::now() + PATIENCE;
    while count().await != "0\n" {
        assert!(Instant::now() < deadline);
    }
    bench.engine.shutdown().await;
}

/// Runs an engine with a few containers until it is killed. Only in a process that the next test starts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run by the test that kills it"]
async fn owner() {
    let state = std::env::var(OWNER).expect("the state directory");
    use_shim_program(env!("CARGO_BIN_EXE_tf"));
    let engine = LinuxEngine::open(Path::new(&state)).expect("opened");
    let layers = vec![add(&engine, Image::busybox()).await];
    let mut containers = vec![];
    for script in [
        "sleep 1000",
        // Does what it can to stay: leaves its session, ignores signals, lets nobody be told.
        "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM HUP; while true; do sleep 1; done' & while true; do sleep 1; done",
    ] {
        let spec = Spec {
            id: ContainerId::random(),
            layers: layers.clone(),
            files: vec![],
            program: shell(script),
            stdio: Stdio::default(),
            limits: Limits::default(),
        };
        let container = engine.create(spec).await.expect("created");
        container.start().await.expect("started");
        let process = container
            .exec(program(&["sleep", "1000"]), Stdio::default())
            .await
            .expect("started");
        containers.push((container, process));
    }
    println!("all is up");
    std::future::pending::<()>().await;
}

#[test]
fn killing_the_owner_kills_all_and_the_next_engine_sweeps() {
    if skip() {
        return;
    }
    let state = state_directory();
    // As the harness names it: without the name of the crate.
    let module = module_path!().split_once("::").expect("a crate").1;
    let owner_test = format!("{module}::owner");
    let mut owner = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", &owner_test, "--ignored", "--nocapture"])
        .env(OWNER, state.path())
        .stdout(ProcessStdio::piped())
        .spawn()
        .expect("started");
    let mut output = BufReader::new(owner.stdout.take().expect("piped"));
    assert!(
        output
            .by_ref()
            .lines()
            .any(|line| line.expect("read").contains("all is up")),
        "the owner starts"
    );
    let slot = slot(state.path());
    let before = Traces::of(state.path(), &slot);
    assert!(before.processes.len() >= 5, "{before:?}");
    owner.kill().expect("killed");
    owner.wait().expect("ended");
    // At once, as far as that can be said of processes that the kernel kills one after the other.
    wait_until("all processes die", || {
        Traces::of(state.path(), &slot).processes.is_empty()
    });
    let left = Traces::of(state.path(), &slot);
    assert_eq!(left.mounts, "");
    assert!(
        !left.cgroups.is_empty() && !left.directories.is_empty(),
        "{left:?}"
    );

    let other = state_directory();
    let next = LinuxEngine::open(other.path()).expect("opened");
    assert!(!state.path().join("run").join(&slot).exists());
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_in_a_row_leave_nothing() {
    if skip() {
        return;
    }
    let bench = Bench::new().await;
    let mut times = Vec::new();
    for _ in 0..100 {
        let spec = bench.spec(&["echo", "x"]);
        let begin = Instant::now();
        let container = bench.create(spec).await;
        let mut output = container
            .first_process()
            .take_io()
            .stdout
            .expect("attached");
        container.start().await.expect("started");
        let mut byte = [0];
        output.read_exact(&mut byte).await.expect("output");
        times.push(begin.elapsed());
        container.destroy().await.expect("destroyed");
    }
    times.sort();
    eprintln!(
        "start to first output, 100 in a row: median {:?}, least {:?}, most {:?}",
        times[50], times[0], times[99]
    );
    let state = bench.state.path();
    let slot = slot(state);
    let left = Traces::of(state, &slot);
    assert_eq!(left.processes, [""; 0]);
    let containers = state.join("run").join(&slot).join("containers");
    assert_eq!(fs::read_dir(containers).expect("listed").count(), 0);
    bench.engine.shutdown().await;
    wait_until("all traces go", || Traces::of(state, &slot).are_none());
}
