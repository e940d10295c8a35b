//! Streams joined to connections and to each other.

use std::time::Duration;

use tfnz::link::{ByteStream, Inbound, Incoming, relay, splice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::common::PATIENCE;
use crate::pair::Pair;

/// More than all windows and buffers on the way hold.
const MUCH: usize = 40 << 20;

/// Bytes that a connection holds, which no record or buffer is a multiple of.
const NARROW: usize = 50_021;

/// Content in which every part is in one place only.
fn content(length: usize, seed: u64) -> Vec<u8> {
    let numbers = (0..).map(|number: u64| (number ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes: Vec<u8> = numbers
        .take(length / 8 + 1)
        .flat_map(u64::to_le_bytes)
        .collect();
    bytes.truncate(length);
    bytes
}

async fn arrived(incoming: &mut Incoming) -> ByteStream {
    match incoming.next().await.expect("the link is up") {
        Inbound::Stream(opened) => opened.accept::<()>().expect("its header").1,
        other => panic!("{other:?}"),
    }
}

/// Two links with a relay between them, as in a location, and the connections at both ends.
struct Way {
    near: DuplexStream,
    far: DuplexStream,
    _links: [Pair; 2],
    tasks: [JoinHandle<std::io::Result<()>>; 3],
}

async fn way() -> Way {
    let (mut first, mut second) = (Pair::memory().await, Pair::memory().await);
    let ours = first.client.open(&()).await.expect("a stream");
    let there = arrived(&mut first.server_incoming).await;
    let onward = second.client.open(&()).await.expect("a stream");
    let theirs = arrived(&mut second.server_incoming).await;
    let (near, near_end) = duplex(NARROW);
    let (far, far_end) = duplex(NARROW);
    Way {
        near,
        far,
        _links: [first, second],
        tasks: [
            tokio::spawn(splice(ours, near_end)),
            tokio::spawn(relay(there, onward)),
            tokio::spawn(splice(theirs, far_end)),
        ],
    }
}

#[tokio::test]
async fn much_goes_both_ways_at_once_and_each_way_ends_by_itself() {
    let way = way().await;
    let (mut near_in, mut near_out) = tokio::io::split(way.near);
    let (mut far_in, mut far_out) = tokio::io::split(way.far);
    let (there, back) = (content(MUCH, 1), content(MUCH + 7, 2));
    let (sent, answered) = (there.clone(), back.clone());
    tokio::spawn(async move {
        near_out.write_all(&sent).await.expect("it is taken");
        near_out.shutdown().await.expect("it ends");
    });
    let far = tokio::spawn(async move {
        let mut found = Vec::new();
        far_in.read_to_end(&mut found).await.expect("it comes");
        // Only now does the other way begin.
        far_out.write_all(&answered).await.expect("it is taken");
        far_out.shutdown().await.expect("it ends");
        found
    });
    let mut found = Vec::new();
    timeout(PATIENCE, near_in.read_to_end(&mut found))
        .await
        .expect("in time")
        .expect("it comes");
    assert!(found == back);
    assert!(far.await.expect("no panic") == there);
    for task in way.tasks {
        task.await.expect("no panic").expect("all has ended well");
    }
}

#[tokio::test]
async fn pieces_of_all_sizes_arrive_in_order() {
    let mut way = way().await;
    let bytes = content(1 << 20, 3);
    let mut rest = &bytes[..];
    let mut found = vec![0; bytes.len()];
    let mut read = 0;
    for size in [1, 13, 4096, 4097, 16_384, 32_768, 50_000].iter().cycle() {
        let (piece, after) = rest.split_at(rest.len().min(*size));
        rest = after;
        let end = read + piece.len();
        let (wrote, came) = tokio::join!(
            way.near.write_all(piece),
            way.far.read_exact(&mut found[read..end])
        );
        wrote.expect("it is taken");
        came.expect("it comes");
        read = end;
        if rest.is_empty() {
            break;
        }
    }
    assert!(found == bytes);
}

#[tokio::test]
async fn an_end_that_breaks_breaks_the_other() {
    let mut way = way().await;
    way.near.write_all(b"hello").await.expect("it is taken");
    way.far.read_exact(&mut [0; 5]).await.expect("it comes");
    way.tasks[2].abort();
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, way.near.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "it does not hang");
    assert!(rest.is_empty());
    let [first, second, _] = way.tasks;
    first.await.expect("no panic").expect_err("it broke");
    second.await.expect("no panic").expect_err("it broke");
}

#[tokio::test]
async fn a_reader_that_stalls_stops_the_writer() {
    let mut way = way().await;
    let piece = content(1 << 20, 4);
    let mut taken = 0;
    while let Ok(written) = timeout(Duration::from_secs(1), way.near.write(&piece)).await {
        taken += written.expect("it is taken");
        assert!(taken < 4 << 20, "nobody reads, and more and more is taken");
    }
}
