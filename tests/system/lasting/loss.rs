//! Nobody takes the containers back, in time or at all: they end, and nothing is left.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tfnz::node::engine::linux::LinuxEngine;
use tfnz::node::engine::{Engine, EngineError};
use tfnz::protocol::container::Exit;

use super::owner::{LONG, Owner};
use crate::common::{installed, wait_until};
use crate::system::engine::bench::{OUTPUT, finish, program, skip, state_directory};
use crate::system::engine::traces::Traces;
use crate::system::machine::Machine;

#[tokio::test(flavor = "multi_thread")]
async fn containers_end_with_the_lease() {
    let lease = Duration::from_millis(300);
    let Some(mut owner) = Owner::with_lease(lease) else {
        return;
    };
    owner.tell("make running sleep 1000");
    owner.tell("make asleep true");
    let killed = Instant::now();
    let place = owner.kill();
    place.wait_until_no_process();
    assert!(killed.elapsed() >= lease, "{:?}", killed.elapsed());
    let (engine, adopted) = place.adopt().await;
    assert!(adopted.is_empty());
    place.end(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_back_is_ended_and_replaced() {
    let Some(mut owner) = Owner::new().filter(|_| installed("ip")) else {
        return;
    };
    let id = owner.tell("make running sleep 1000");
    let place = owner.kill();
    // Somebody has taken the containers off the network.
    let link = format!("tfnz-{}", place.slot);
    let deleted = Command::new("ip").args(["link", "delete", &link]).status();
    assert!(deleted.expect("ip runs").success());

    let (engine, adopted) = place.adopt().await;
    assert!(adopted.is_empty());
    assert_eq!(place.processes(&id), []);
    place.assert_works(&engine).await;
    place.end(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_in_the_middle_of_taking_back_leaves_a_working_engine() {
    let Some(mut owner) = Owner::new() else {
        return;
    };
    let id = owner.tell("make running sleep 1000");
    let place = owner.kill();
    let engine = LinuxEngine::open_lasting(place.state(), LONG).expect("opened");
    // Begun, and dropped.
    assert!(engine.adopt().now_or_never().is_none());
    assert!(engine.adopt().await.expect("adopted").is_empty());
    wait_until("it ends", || place.processes(&id).is_empty());
    place.assert_works(&engine).await;
    place.end(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_half_made_is_cleared_away() {
    if skip() {
        return;
    }
    let state = Arc::new(state_directory());
    for round in 0..8_u32 {
        let mut owner = Owner::start(&state, LONG);
        owner.say("churn");
        for _ in 0..=round % 3 {
            owner.read("made");
        }
        // At another place each time, of the ten milliseconds or so that one takes.
        std::thread::sleep(Duration::from_micros(u64::from(round) * 1_300));
        let place = owner.kill();
        let (engine, adopted) = place.adopt().await;
        // Two that are there for good, and one or two that come or go.
        assert!((1..=4).contains(&adopted.len()), "{}", adopted.len());
        // One may have been about to be destroyed.
        let mut living = 0;
        for adopted in adopted.values() {
            let echo = adopted.container.exec(program(&["echo", "here"]), OUTPUT);
            match echo.await {
                Ok(process) => {
                    let (text, _, exit) = finish(process.take_io(), &*process).await;
                    assert_eq!((text.as_str(), exit), ("here\n", Exit::Code(0)));
                    living += 1;
                }
                Err(EngineError::Ended) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(living + 1 >= adopted.len(), "{living}");
        wait_until("nobody else runs", || {
            Traces::of(place.state(), &place.slot).processes.len() == living
        });
        let directories = fs::read_dir(place.containers()).expect("listed");
        let listed = directories.count();
        assert!(listed <= adopted.len(), "{listed} of {}", adopted.len());
        place.end(engine).await;
    }
}

#[test]
fn nothing_is_left_on_the_machine() {
    let Some(machine) = Machine::new().filter(|_| !skip()) else {
        return;
    };
    let state = Arc::new(state_directory());
    let before = machine.inventory();

    let mut owner = Owner::start_on(&machine, &state, LONG);
    owner.tell("make running sleep 1000");
    owner.tell("exec sleep 1000");
    owner.tell("make asleep true");
    owner.kill();
    assert_ne!(machine.inventory(), before, "they run on");
    let mut next = Owner::start_on(&machine, &state, LONG);
    assert_eq!(next.tell("adopt"), "2");
    next.tell("make running sleep 1000");
    next.tell("shutdown");
    next.end();
    machine.assert_as_before(&before, "after an orderly end");

    // Nobody comes but for the sweep, when the lease is over.
    let lease = Duration::from_millis(200);
    let mut owner = Owner::start_on(&machine, &state, lease);
    owner.tell("make running sleep 1000");
    owner.kill();
    wait_until("the containers end", || {
        !machine
            .shell("cat /proc/[0-9]*/comm 2>/dev/null || :")
            .contains("tf-shim")
    });
    let mut next = Owner::start_on(&machine, &state, LONG);
    assert_eq!(next.tell("adopt"), "0");
    next.tell("shutdown");
    next.end();
    machine.assert_as_before(&before, "after the lease");
}
