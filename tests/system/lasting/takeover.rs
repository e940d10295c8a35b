//! The next engine takes the containers back: all that was theirs still is.

use futures_util::FutureExt;
use nix::sys::signal::{Signal, kill};
use tfnz::node::engine::linux::LinuxEngine;
use tfnz::node::engine::{Adopted, Engine, Process};
use tfnz::protocol::container::{Exit, WindowSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::owner::Owner;
use crate::common::{PATIENCE, wait_until};
use crate::system::engine::bench::{connected, exec, finish, read_until, shell};
use crate::system::engine::traces::socket;

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_container_is_reached_and_can_be_worked_in() {
    let Some(mut owner) = Owner::new() else {
        return;
    };
    let id = owner.tell("make running while :; do nc -l -p 80 -e cat; done");
    owner.tell("exec sleep 4321");
    let place = owner.kill();

    let (engine, adopted) = place.adopt().await;
    let Adopted { container, .. } = &adopted[&id];
    let script = "grep -l '[4]321' /proc/[0-9]*/cmdline 2>/dev/null";
    let (found, _, _) = exec(&**container, shell(script)).await;
    assert_eq!(found, "", "a further process has outlived its engine");
    let mut stream = connected(&**container).await;
    stream.write_all(b"echo").await.expect("sent");
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.expect("echoed");
    assert_eq!(&reply, b"echo");
    // New ones have other addresses and ids.
    let ids = "cat /proc/self/uid_map";
    let fresh = place.asleep(&engine).await;
    assert_ne!(container.ip(), fresh.ip());
    assert_ne!(
        exec(&**container, shell(ids)).await,
        exec(&*fresh, shell(ids)).await
    );
    place.end(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_is_lost_that_nobody_has_read() {
    let Some(mut owner) = Owner::new() else {
        return;
    };
    // Each number has eight digits, and says where it is.
    let id = owner.tell("make running i=10000000; while echo -n $i; do i=$((i+8)); done; exit 3");
    let read = owner.tell("read 4000");
    let place = owner.kill();

    let (engine, adopted) = place.adopt().await;
    let first = adopted[&id].container.first_process();
    let mut stdout = first.take_io().stdout.expect("there");
    // More than a pipe holds: some was written before, and some after.
    let mut text = vec![0; 200_000];
    stdout.read_exact(&mut text).await.expect("read");
    let text = read + std::str::from_utf8(&text).expect("digits");
    for (place, number) in text.as_bytes().chunks(8).enumerate() {
        let expected = (10_000_000 + 8 * place).to_string();
        assert_eq!(number, expected.as_bytes(), "at {}", place * 8);
    }
    // It notices that nobody reads any more, although the shim could have.
    drop(stdout);
    assert_eq!(wait(first).await, Exit::Code(3));
    place.end(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_to_the_next_engine() {
    let Some(mut owner) = Owner::new() else {
        return;
    };
    let asleep = owner.tell("make asleep echo awake; exit 7");
    let missing = owner.tell("make program missing");
    let trap = "trap 'echo late; exit 5' TERM; echo up; while :; do sleep 0.01; done";
    let ended = owner.tell(&format!("make running {trap}"));
    assert_eq!(owner.tell("read 3"), "up");
    let place = owner.kill();
    // While nobody is there. The first process is the oldest, and hears the signal.
    let first = place.processes(&ended).into_iter().min();
    kill(first.expect("it runs"), Signal::SIGTERM).expect("sent");
    wait_until("it ends", || place.processes(&ended).is_empty());

    let (engine, mut adopted) = place.adopt().await;
    let Adopted {
        container, program, ..
    } = &adopted[&asleep];
    assert_eq!(program.args, ["sh", "-c", "echo awake; exit 7"]);
    let first = container.first_process();
    assert!(first.wait().now_or_never().is_none(), "it waits");
    container.start().await.expect("started");
    let outcome = finish(first.take_io(), first).await;
    assert_eq!(outcome, ("awake\n".into(), String::new(), Exit::Code(7)));

    let first = adopted[&ended].container.first_process();
    let outcome = finish(first.take_io(), first).await;
    assert_eq!(outcome, ("late\n".into(), String::new(), Exit::Code(5)));
    let first = adopted[&missing].container.first_process();
    // This is not in its status, and the engine that was killed had heard of it.
    match wait(first).await {
        Exit::NotFound(text) => assert!(text.contains("`missing`"), "{text}"),
        other => panic!("{other:?}"),
    }

    for id in [ended, asleep, missing] {
        let Adopted { container, .. } = adopted.remove(&id).expect("adopted");
        container.destroy().await.expect("destroyed");
        assert!(!place.containers().join(&id).exists());
    }
    place.end(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_terminals_are_handed_over() {
    let Some(mut owner) = Owner::new() else {
        return;
    };
    let cat = owner.tell("make running cat; exit 9");
    let talks = "stty size; read line; echo got $line; read line; stty size";
    let terminal = owner.tell(&format!("make terminal {talks}"));
    assert!(owner.tell("read 5").starts_with("11 22"));
    let closed = owner.tell("make running cat; echo over; sleep 1000");
    owner.tell("close");
    let place = owner.kill();

    let (engine, adopted) = place.adopt().await;
    let first = adopted[&cat].container.first_process();
    let mut io = first.take_io();
    let stdin = io.stdin.as_mut().expect("there");
    stdin.write_all(b"typed").await.expect("sent");
    // It sees the end of its input, although the shim had that open, too.
    let outcome = finish(io, first).await;
    assert_eq!(outcome, ("typed".into(), String::new(), Exit::Code(9)));

    let first = adopted[&closed].container.first_process();
    let mut io = first.take_io();
    assert!(io.stdin.is_none(), "it was closed");
    let stdout = io.stdout.as_mut().expect("there");
    read_until(&mut **stdout, "over\n").await;

    let first = adopted[&terminal].container.first_process();
    let mut io = first.take_io();
    let stdin = io.stdin.as_mut().expect("there");
    let stdout = io.stdout.as_mut().expect("there");
    stdin.write_all(b"typed\n").await.expect("sent");
    read_until(&mut **stdout, "got typed").await;
    let size = WindowSize {
        rows: 33,
        columns: 44,
    };
    first.resize(size).expect("resized");
    stdin.write_all(b"\n").await.expect("sent");
    read_until(&mut **stdout, "33 44").await;
    assert_eq!(wait(first).await, Exit::Code(0));
    place.end(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_stay_in_use_while_nobody_is_there() {
    let Some(mut owner) = Owner::new() else {
        return;
    };
    let id = owner.tell("make asleep true");
    let place = owner.kill();
    let layer = place.layer();
    let other = LinuxEngine::open(place.state()).expect("opened");
    other.drop_layers(&[layer]).await.expect("no error");
    assert!(other.has_layer(&layer), "it is in use");
    other.shutdown().await;

    let (engine, adopted) = place.adopt().await;
    engine.drop_layers(&[layer]).await.expect("no error");
    assert!(engine.has_layer(&layer), "it is in use");
    let Adopted { container, .. } = &adopted[&id];
    container.destroy().await.expect("destroyed");
    engine.drop_layers(&[layer]).await.expect("dropped");
    assert!(!engine.has_layer(&layer), "nobody uses it any more");
    place.end(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_survive_one_kill_after_the_other() {
    let Some(mut owner) = Owner::new() else {
        return;
    };
    let id = owner.tell("make running while :; do read line; echo got $line; done");
    for round in 0..3 {
        owner = owner.kill().next_owner();
        assert_eq!(owner.tell("adopt"), (1 + round).to_string());
        owner.tell("make asleep true");
    }
    let place = owner.kill();
    let (engine, adopted) = place.adopt().await;
    assert_eq!(adopted.len(), 4);
    let mut io = adopted[&id].container.first_process().take_io();
    let stdin = io.stdin.as_mut().expect("there");
    stdin.write_all(b"it\n").await.expect("sent");
    read_until(&mut **io.stdout.as_mut().expect("there"), "got it\n").await;
    // Dropped without a word: all ends at once, as nobody was killed.
    drop(engine);
    place.wait_until_no_process();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_containers_from_a_living_engine() {
    let Some(mut owner) = Owner::new() else {
        return;
    };
    let id = owner.tell("make running while :; do read line; echo got $line; done");
    let place = owner.place();
    let (second, adopted) = place.adopt().await;
    assert!(adopted.is_empty());
    // An embedded one does not, either, nor does the sweep of any.
    drop(LinuxEngine::open(place.state()).expect("opened"));
    second.prepare().await.expect("prepared");
    second.shutdown().await;
    assert!(!place.processes(&id).is_empty());
    assert!(socket(&place.slot).exists());
    owner.kill();
    drop(LinuxEngine::open(place.state()).expect("opened"));
    let (engine, adopted) = place.adopt().await;
    assert_eq!(adopted.keys().collect::<Vec<_>>(), [&id]);
    place.end(engine).await;
}

async fn wait(process: &dyn Process) -> Exit {
    let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
    ended.expect("ends in time")
}
