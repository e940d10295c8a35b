//! Links over memory and TCP: calls, streams, and what a link does about peers that misbehave.

use std::time::{Duration, Instant};

use tfnz::link::{ByteStream, Inbound, Link};
use tfnz::protocol::messages::{Call as _, ListNodes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::pair::{Pair, tcp};

/// Answers `ListNodes` and echoes streams.
fn serve(mut incoming: tfnz::link::Incoming) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(inbound) = incoming.next().await {
            match inbound {
                Inbound::Call(call) if call.kind() == ListNodes::KIND => {
                    let (_, reply) = call.decode::<ListNodes>().expect("well-formed");
                    reply.send(Ok(Vec::new()));
                }
                Inbound::Call(call) => call.unknown(),
                Inbound::Notice(_) => {}
                Inbound::Stream(opened) => {
                    let ((), mut stream) = opened.accept::<()>().expect("well-formed");
                    tokio::spawn(async move {
                        let mut sink = tokio::io::sink();
                        let _ = tokio::io::copy(&mut stream, &mut sink).await;
                        let _ = stream.shutdown().await;
                    });
                }
            }
        }
    })
}

async fn send(link: &Link, length: usize) -> ByteStream {
    let mut stream = link.open(&()).await.expect("a stream");
    let block = vec![7; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let count = block.len().min(left);
        stream
            .write_all(&block[..count])
            .await
            .expect("the link is up");
        left -= count;
    }
    stream.shutdown().await.expect("the link is up");
    stream
}

async fn measure(pair: Pair) -> (f64, Duration) {
    let server = serve(pair.server_incoming);
    let calls = 20_000;
    for _ in 0..1000 {
        pair.client.call(&ListNodes {}).await.expect("an answer");
    }
    let start = Instant::now();
    for _ in 0..calls {
        pair.client.call(&ListNodes {}).await.expect("an answer");
    }
    let round_trip = start.elapsed() / calls;
    let mut best = 0_f64;
    for _ in 0..3 {
        let start = Instant::now();
        let mut stream = send(&pair.client, 4 << 30).await;
        let end = stream.read(&mut [0]).await.expect("the end");
        assert_eq!(end, 0);
        best = best.max(4.0 * 1.073_741_824 / start.elapsed().as_secs_f64());
    }
    pair.client.close().await;
    server.await.expect("it ends with the link");
    (best, round_trip)
}

#[ignore = "a measurement: run it alone, with --release and --nocapture"]
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "a measurement is for reading")]
async fn throughput() {
    let (rate, round_trip) = measure(tcp().await.expect("loopback")).await;
    println!("TCP: {rate:.2} GB/s one stream, round trip of a call {round_trip:?}");
    let (rate, round_trip) = measure(Pair::memory().await).await;
    println!("memory: {rate:.2} GB/s one stream, round trip of a call {round_trip:?}");
}
