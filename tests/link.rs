//! Links over memory and TCP: calls, streams, and what a link does about peers that misbehave.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tfnz::ids::ContainerId;
use tfnz::link::{ByteStream, CallError, CloseReason, Inbound, Incoming, PendingCall, memory};
use tfnz::protocol::container::{ContainerSpec, Exit, PrebootFile};
use tfnz::protocol::messages::{
    Call, ContainerEnded, Create, DescribeImage, Destroy, Fault, FaultCode, ListNodes, Wake,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::common::PATIENCE;
use crate::far::Far;
use crate::pair::{Pair, tcp};

async fn next_call(incoming: &mut Incoming) -> PendingCall {
    match incoming.next().await {
        Some(Inbound::Call(call)) => call,
        other => panic!("a call, not {other:?}"),
    }
}

async fn next_stream(incoming: &mut Incoming) -> ByteStream {
    match incoming.next().await {
        Some(Inbound::Stream(opened)) => opened.accept::<()>().expect("well-formed").1,
        other => panic!("a stream, not {other:?}"),
    }
}

/// A stream that the client has opened, at both ends.
async fn stream(pair: &mut Pair) -> (ByteStream, ByteStream) {
    let ours = pair.client.open(&()).await.expect("the link is up");
    (ours, next_stream(&mut pair.server_incoming).await)
}

fn wake() -> Wake {
    Wake {
        container: ContainerId::random(),
    }
}

fn fault<T: std::fmt::Debug>(result: Result<T, CallError>) -> Fault {
    match result {
        Err(CallError::Fault(fault)) => fault,
        other => panic!("a fault, not {other:?}"),
    }
}

/// In memory the end of a link is seen at once, and from both directions.
#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_is_heard_by_a_peer_that_is_talking() {
    for _ in 0..300 {
        let pair = Pair::memory().await;
        let client = pair.client.clone();
        let talking = tokio::spawn(async move {
            let container = ContainerId::random();
            let exit = Exit::Code(0);
            let notice = ContainerEnded { container, exit };
            while client.notify(&notice).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        pair.server.close().await;
        let reason = timeout(PATIENCE, pair.client.closed()).await;
        assert_eq!(reason.expect("it hears of it"), CloseReason::Clean);
        talking.await.expect("no panic");
    }
}

#[tokio::test]
async fn calls_work_over_tcp_in_both_directions() {
    let mut pair = tcp().await.expect("loopback");
    let (asked, ()) = tokio::join!(pair.client.call(&ListNodes {}), async {
        let call = next_call(&mut pair.server_incoming).await;
        assert_eq!(call.kind(), ListNodes::KIND);
        let (_, reply) = call.decode::<ListNodes>().expect("well-formed");
        reply.send(Ok(Vec::new()));
    });
    assert_eq!(asked, Ok(Vec::new()));
    let call = wake();
    let (asked, ()) = tokio::join!(pair.server.call(&call), async {
        let pending = next_call(&mut pair.client_incoming).await;
        let (received, reply) = pending.decode::<Wake>().expect("well-formed");
        assert_eq!(received, call);
        reply.send(Err(Fault::new(FaultCode::NotFound, "no such container")));
    });
    assert_eq!(fault(asked).code, FaultCode::NotFound);
    pair.client.close().await;
    assert_eq!(pair.server.closed().await, CloseReason::Clean);
}

#[tokio::test]
async fn a_call_that_cannot_be_served_is_answered_and_the_link_goes_on() {
    let mut pair = Pair::memory().await;
    let (call, refused) = (wake(), Fault::new(FaultCode::Forbidden, "not yours"));
    let ((unknown, malformed, dropped, undone), ()) = tokio::join!(
        async {
            (
                pair.client.call(&call).await,
                pair.client.call(&call).await,
                pair.client.call(&call).await,
                pair.client.call(&call).await,
            )
        },
        async {
            next_call(&mut pair.server_incoming).await.unknown();
            let call = next_call(&mut pair.server_incoming).await;
            assert!(call.decode::<DescribeImage>().is_err());
            drop(next_call(&mut pair.server_incoming).await);
            let call = next_call(&mut pair.server_incoming).await;
            call.refuse(refused.clone());
        }
    );
    assert_eq!(fault(unknown).code, FaultCode::UnknownMessage);
    assert_eq!(fault(malformed).code, FaultCode::Malformed);
    assert_eq!(fault(dropped).code, FaultCode::Internal);
    assert_eq!(fault(undone), refused);
    drop(pair.server_incoming);
    let deaf = pair.client.call(&call).await;
    assert_eq!(fault(deaf).code, FaultCode::UnknownMessage);
    let refused = pair
        .client
        .open(&())
        .await
        .expect("the link is up")
        .read(&mut [0])
        .await;
    assert_eq!(
        refused.expect_err("reset").kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let mut pair = Pair::memory().await;
    let calls: Vec<_> = (0..100)
        .map(|number| {
            let link = pair.client.clone();
            tokio::spawn(async move {
                let name = number.to_string();
                let call = DescribeImage { name };
                (number, fault(link.call(&call).await).message)
            })
        })
        .collect();
    // One that nobody waits for any more.
    let gone = wake();
    assert!(
        timeout(Duration::from_millis(10), pair.client.call(&gone))
            .await
            .is_err()
    );
    let mut pending = Vec::new();
    while pending.len() < 101 {
        pending.push(next_call(&mut pair.server_incoming).await);
    }
    for call in pending.into_iter().rev() {
        if let Ok(DescribeImage { name }) = call.peek() {
            call.refuse(Fault::new(FaultCode::NotFound, name));
        } else {
            call.unknown();
        }
    }
    for call in calls {
        let (number, message) = call.await.expect("no panic");
        assert_eq!(number.to_string(), message);
    }
}

#[tokio::test]
async fn a_call_in_the_middle_is_passed_on_unread() {
    let (mut front, mut back) = (Pair::memory().await, Pair::memory().await);
    let call = wake();
    let container = call.container.clone();
    let ended = ContainerEnded {
        container,
        exit: Exit::Code(7),
    };
    let (answered, passed, ()) = tokio::join!(
        front.client.call(&call),
        async {
            let pending = next_call(&mut front.server_incoming).await;
            pending.relay(&back.client).await
        },
        async {
            let pending = next_call(&mut back.server_incoming).await;
            let (received, reply) = pending.decode::<Wake>().expect("well-formed");
            assert_eq!(received, call);
            reply.send(Ok(()));
        }
    );
    assert_eq!((answered, passed), (Ok(()), Ok(())));
    back.server.notify(&ended).await.expect("the link is up");
    let Some(Inbound::Notice(notice)) = back.client_incoming.next().await else {
        panic!("a notice");
    };
    notice.relay(&front.server).await.expect("the link is up");
    let Some(Inbound::Notice(notice)) = front.client_incoming.next().await else {
        panic!("a notice");
    };
    assert_eq!(notice.decode(), Ok(ended));
    // The node goes away in the middle of a call.
    let (answered, ()) = tokio::join!(front.client.call(&call), async {
        let pending = next_call(&mut front.server_incoming).await;
        let (passed, ()) = tokio::join!(pending.relay(&back.client), back.server.close());
        assert!(matches!(passed, Err(CallError::Closed(_))));
    });
    assert_eq!(fault(answered).code, FaultCode::Internal);
}

#[tokio::test]
async fn a_long_message_arrives_and_one_that_is_too_long_is_not_sent() {
    let mut pair = Pair::memory().await;
    let mut call = Create {
        container: ContainerId::random(),
        image: crate::wire::description(),
        spec: ContainerSpec::default(),
    };
    let file = |length| PrebootFile {
        path: "/file".to_owned(),
        mode: 0o644,
        content: vec![7; length],
    };
    call.spec.files = vec![file(30_000_000)];
    let (answered, ()) = tokio::join!(pair.client.call(&call), async {
        let pending = next_call(&mut pair.server_incoming).await;
        let (received, _reply) = pending.decode::<Create>().expect("well-formed");
        assert!(received == call);
    });
    assert_eq!(fault(answered).code, FaultCode::Internal);
    call.spec.files.push(file(40_000_000));
    let answered = pair.client.call(&call).await;
    assert!(matches!(answered, Err(CallError::TooLong(_))));
}

#[tokio::test]
async fn notices_wait_for_a_peer_that_does_not_take_them() {
    let mut pair = Pair::memory().await;
    let (notice, mut sent) = (
        ContainerEnded {
            container: ContainerId::random(),
            exit: Exit::Lost("x".repeat(1000)),
        },
        0,
    );
    while timeout(Duration::from_millis(200), pair.client.notify(&notice))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 20_000, "they pile up somewhere");
    }
    // Streams are not held up by it.
    let mut stream = pair.client.open(&()).await.expect("the link is up");
    stream.write_all(b"hello").await.expect("the link is up");
    let mut received = 0;
    let mut theirs = None;
    while theirs.is_none() || received < sent {
        match timeout(PATIENCE, pair.server_incoming.next())
            .await
            .expect("it goes on")
        {
            Some(Inbound::Notice(_)) => received += 1,
            Some(Inbound::Stream(opened)) => theirs = Some(opened),
            other => panic!("nothing else was sent: {other:?}"),
        }
    }
}

#[tokio::test]
async fn each_direction_of_a_stream_ends_by_itself() {
    let mut pair = Pair::memory().await;
    let (mut ours, mut theirs) = stream(&mut pair).await;
    ours.write_all(b"question").await.expect("up");
    ours.shutdown().await.expect("up");
    let mut text = String::new();
    theirs.read_to_string(&mut text).await.expect("its end");
    theirs.write_all(b"answer").await.expect("up");
    theirs.shutdown().await.expect("up");
    drop(theirs);
    ours.read_to_string(&mut text).await.expect("its end");
    assert_eq!(text, "questionanswer");
    assert!(ours.write(b"more").await.is_err());
}

#[tokio::test]
async fn a_dropped_stream_is_noticed_by_those_who_wait_for_it() {
    let mut pair = Pair::memory().await;
    let (ours, mut theirs) = stream(&mut pair).await;
    let waiting = tokio::spawn(async move { theirs.read(&mut [0]).await });
    tokio::task::yield_now().await;
    drop(ours);
    let error = waiting.await.expect("no panic").expect_err("no clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let (ours, mut theirs) = stream(&mut pair).await;
    let waiting = tokio::spawn(async move { theirs.write_all(&vec![7; 10_000_000]).await });
    tokio::task::yield_now().await;
    ours.reset();
    let error = waiting.await.expect("no panic").expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    // The reader goes after it has said all it has to say.
    let (mut ours, mut theirs) = stream(&mut pair).await;
    ours.write_all(b"bye").await.expect("up");
    ours.shutdown().await.expect("up");
    let waiting = tokio::spawn(async move {
        let written = theirs.write_all(&vec![7; 10_000_000]).await;
        let mut text = String::new();
        (
            written,
            theirs.read_to_string(&mut text).await.map(|_| text),
        )
    });
    tokio::task::yield_now().await;
    drop(ours);
    let (written, read) = waiting.await.expect("no panic");
    assert_eq!(
        written.expect_err("nobody reads").kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(read.expect("a clean end"), "bye");
}

#[tokio::test]
async fn a_header_that_cannot_be_read_resets_its_stream() {
    let mut pair = Pair::memory().await;
    let mut ours = pair.client.open("text").await.expect("up");
    let Some(Inbound::Stream(opened)) = pair.server_incoming.next().await else {
        panic!("a stream");
    };
    assert!(opened.accept::<u32>().is_err());
    let error = ours.read(&mut [0]).await.expect_err("no clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn stalled_streams_leave_the_others_alone() {
    let mut pair = Pair::memory().await;
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let (mut ours, theirs) = stream(&mut pair).await;
        let writer = tokio::spawn(async move { ours.write_all(&vec![7; 1 << 20]).await });
        stalled.push((writer, theirs));
    }
    let (mut ours, mut theirs) = stream(&mut pair).await;
    let reader = tokio::spawn(async move {
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).await.map(|_| bytes.len())
    });
    ours.write_all(&vec![7; 50 << 20]).await.expect("up");
    ours.shutdown().await.expect("up");
    let read = timeout(PATIENCE, reader).await.expect("it goes on");
    assert_eq!(read.expect("no panic").expect("its end"), 50 << 20);
    for (writer, theirs) in stalled {
        assert!(!writer.is_finished());
        drop(theirs);
        let written = timeout(PATIENCE, writer).await.expect("it is told");
        assert!(written.expect("no panic").is_err());
    }
}

/// Bytes that are taken for a reader which has kept up with 64 MiB, and then reads no more.
async fn taken_for_a_stalled_reader(pair: &mut Pair) -> usize {
    const KEPT_UP: usize = 64 << 20;
    let (mut ours, mut theirs) = stream(pair).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let writer = tokio::spawn(async move {
        while let Ok(length) = ours.write(&[7; 1 << 14]).await {
            counter.fetch_add(length, Ordering::Relaxed);
        }
    });
    let mut kept_up = (&mut theirs).take(KEPT_UP as u64);
    let copied = tokio::io::copy(&mut kept_up, &mut tokio::io::sink()).await;
    copied.expect("the link is up");
    // The clock of the test goes on when nothing else does.
    tokio::time::sleep(Duration::from_mins(1)).await;
    writer.abort();
    taken.load(Ordering::Relaxed) - KEPT_UP
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_costs_what_the_line_has_use_for() {
    let mut near = Pair::memory().await;
    let taken = taken_for_a_stalled_reader(&mut near).await;
    assert!(taken <= 2 << 20, "{taken} bytes");

    let (dial, listener) = memory();
    let far = Far {
        inner: dial,
        delay: Duration::from_millis(100),
    };
    let mut far = Pair::over(far, listener, Duration::from_mins(2)).await;
    // Until both know how long the line is.
    let (mut ours, mut theirs) = stream(&mut far).await;
    ours.write_all(b"hello").await.expect("the link is up");
    theirs.read_exact(&mut [0; 5]).await.expect("they arrive");
    let taken = taken_for_a_stalled_reader(&mut far).await;
    assert!((4 << 20..16 << 20).contains(&taken), "{taken} bytes");
}

#[tokio::test]
async fn opening_waits_while_very_many_streams_are_open() {
    let mut pair = Pair::memory().await;
    let mut open = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), pair.client.open(&())).await {
        open.push(stream.expect("up"));
        assert!(open.len() < 100_000);
    }
    assert!(open.len() >= 1000, "{}", open.len());
    let link = pair.client.clone();
    let waiting = tokio::spawn(async move { link.open(&()).await.map(drop) });
    // The rest of the link does not mind.
    let (answered, ()) = tokio::join!(pair.client.call(&ListNodes {}), async {
        loop {
            match pair.server_incoming.next().await {
                Some(Inbound::Call(call)) => break call.unknown(),
                Some(Inbound::Stream(_)) => {}
                other => panic!("nothing else was sent: {other:?}"),
            }
        }
    });
    assert_eq!(fault(answered).code, FaultCode::UnknownMessage);
    open.pop();
    let opened = timeout(PATIENCE, waiting).await.expect("it goes on");
    assert_eq!(opened.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn calls_that_wait_learn_of_the_end() {
    let mut pair = Pair::memory().await;
    let link = pair.client.clone();
    let container = ContainerId::random();
    let waiting = tokio::spawn(async move { link.call(&Destroy { container }).await });
    let pending = next_call(&mut pair.server_incoming).await;
    pair.server.close().await;
    let answered = waiting.await.expect("no panic");
    assert!(
        matches!(answered, Err(CallError::Closed(_))),
        "{answered:?}"
    );
    pending.unknown();
    assert_eq!(pair.client.closed().await, CloseReason::Clean);
    assert!(pair.client_incoming.next().await.is_none());
}
