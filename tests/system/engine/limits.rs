//! What a container may take of the machine.

use tfnz::ids::ContainerId;
use tfnz::node::engine::Engine;
use tfnz::protocol::container::Exit;

use super::bench::{Bench, exec, program, read_until, shell};
use crate::common::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_ends_at_its_limit() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut spec = bench.spec(&["sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 1000"]);
    spec.limits.pids = Some(50);
    let bomb = bench.create(spec).await;
    let mut errors = bomb.first_process().take_io().stderr.expect("attached");
    bomb.start().await.expect("started");
    read_until(&mut *errors, "fork").await;
    // Others are none the worse.
    let (text, _, exit) = bench.run(bench.spec(&["echo", "well"])).await;
    assert_eq!((text.as_str(), exit), ("well\n", Exit::Code(0)));
    bomb.destroy().await.expect("destroyed");
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_limit_ends_a_process() {
    let Some(bench) = Bench::new().await else {
        return;
    };
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
    let Some(bench) = Bench::new().await else {
        return;
    };
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
    let Some(bench) = Bench::new().await else {
        return;
    };
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
    let Some(bench) = Bench::new().await else {
        return;
    };
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
