use std::future::poll_fn;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// Takes what comes into `arrived`, as far as `most`, and says that it has it.
async fn receive(
    receiving: &mut Receiving,
    stream: &mut DuplexStream,
    arrived: &mut Vec<u8>,
    most: usize,
) {
    poll_fn(|cx| {
        loop {
            if receiving.poll_tell(stream, cx)?.is_pending() || arrived.len() >= most {
                return Poll::Pending;
            }
            match poll_read_buf(Pin::new(&mut *stream), cx, arrived)? {
                Poll::Ready(0) => return receiving.poll_finish(stream, cx),
                Poll::Ready(length) => receiving.add(length),
                Poll::Pending => {
                    let _ = receiving.poll_tell_idle(stream, cx)?;
                    return Poll::Pending;
                }
            }
        }
    })
    .await
    .expect("it does not break");
}

/// Polls so many times at most.
async fn polls<T>(future: impl Future<Output = T>, mut times: usize) -> Option<T> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(None);
        }
        times -= 1;
        // However little there is to do, it is looked at again.
        cx.waker().wake_by_ref();
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[derive(Debug, Clone, Copy)]
enum Opener {
    Sender,
    Receiver,
}

/// Carries bytes over one link after the other, of which each lasts for so many polls, and the last one to the end.
async fn carry(given: &[u8], opener: Opener, lives: Vec<usize>) -> Vec<u8> {
    let (mut sending, mut receiving) = (Sending::new(), Receiving::new());
    let (budget, mut source) = (Budget::default(), given);
    let mut arrived = Vec::new();
    for life in lives.into_iter().chain([usize::MAX]) {
        let (mut here, mut there) = duplex(50_000);
        let resume = match opener {
            Opener::Sender => {
                receiving.begin(Some(sending.position()));
                Resume::AsTold
            }
            Opener::Receiver => {
                receiving.begin(Some(receiving.position()));
                Resume::From(receiving.position())
            }
        };
        sending.begin(resume).expect("it can be");
        let sent = poll_fn(|cx| sending.poll(&mut source, &mut here, &budget, cx));
        let received = receive(&mut receiving, &mut there, &mut arrived, usize::MAX);
        let both = async { tokio::join!(sent, received).0 };
        if let Some(done) = polls(both, life).await {
            done.expect("it does not break");
            break;
        }
    }
    arrived
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_byte_arrives_once(
        length in 0_usize..2_000_000,
        lives in proptest::collection::vec(0_usize..40, 0..10),
        sender_opens: bool,
    ) {
        let given: Vec<_> = (0..length).map(|index| (index % 251).to_le_bytes()[0]).collect();
        let opener = if sender_opens { Opener::Sender } else { Opener::Receiver };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let arrived = runtime.block_on(carry(&given, opener, lives));
        prop_assert!(arrived == given, "{} of {}", arrived.len(), given.len());
    }
}

/// Sends without end to somebody who takes `most` bytes and then nothing. Returns what is kept, in bytes.
async fn stall(sending: &mut Sending, budget: &Budget, most: usize) -> usize {
    // All that the links on the way hold.
    let (mut here, mut there) = duplex(64 * MOST);
    sending.begin(Resume::From(0)).expect("from the start");
    let mut receiving = Receiving::new();
    receiving.begin(Some(0));
    let (mut source, mut arrived) = (tokio::io::repeat(7), Vec::new());
    let sent = poll_fn(|cx| sending.poll(&mut source, &mut here, budget, cx));
    let received = receive(&mut receiving, &mut there, &mut arrived, most);
    let both = async { tokio::join!(sent, received) };
    assert!(polls(both, 10_000).await.is_none());
    assert!(arrived.len() >= most);
    sending.backlog.as_ref().map_or(0, Backlog::held)
}

#[tokio::test]
async fn what_is_kept_for_whoever_stalls_is_bounded() {
    let budget = Budget::new(MOST);
    let mut first = Sending::new();
    let kept = stall(&mut first, &budget, 20_000_000).await;
    assert!((MOST / 2..MOST + CHUNK).contains(&kept), "{kept}");
    // What is left of the budget is for the others, and the least they have in any case.
    let mut others = [(); 3].map(|()| Sending::new());
    for other in &mut others {
        assert!(stall(other, &budget, 0).await >= LEAST);
    }
    let held = |sending: &Sending| sending.backlog.as_ref().map_or(0, Backlog::held);
    let all: usize = others.iter().map(held).sum::<usize>() + held(&first);
    assert!(all <= MOST + 4 * (LEAST + 2 * CHUNK), "{all}");
    drop((first, others));
    assert_eq!(budget.0.available_permits(), MOST);
}

#[tokio::test]
async fn whoever_has_nothing_to_send_keeps_little() {
    let budget = Budget::new(MOST);
    let mut sending = Sending::new();
    sending.begin(Resume::From(0)).expect("from the start");
    let mut receiving = Receiving::new();
    receiving.begin(Some(0));
    let (mut here, mut there) = duplex(MOST);
    let (mut program, mut source) = duplex(MOST);
    let mut arrived = Vec::new();
    program.write_all(&vec![7; MOST / 2]).await.expect("room");
    {
        let sent = poll_fn(|cx| sending.poll(&mut source, &mut here, &budget, cx));
        let received = receive(&mut receiving, &mut there, &mut arrived, usize::MAX);
        let both = async { tokio::join!(sent, received) };
        assert!(polls(both, 10_000).await.is_none());
    }
    assert_eq!(arrived.len(), MOST / 2);
    assert_eq!(budget.0.available_permits(), MOST);
    let backlog = sending.backlog.as_mut().expect("there from the start");
    assert!(backlog.held() < usize::try_from(TELL_IDLE).expect("it is small"));
}

#[tokio::test]
async fn who_does_not_count_gets_the_bytes_and_nothing_is_kept() {
    let mut sending = Sending::new();
    sending.begin(Resume::Uncounted).expect("always");
    let given = vec![7; 3 * LEAST];
    let mut source = &given[..];
    let (mut here, mut there) = duplex(1000);
    let mut arrived = Vec::new();
    let budget = Budget::new(0);
    let reading = async {
        there.read_to_end(&mut arrived).await.expect("its end");
        there.shutdown().await.expect("open");
    };
    let sent = poll_fn(|cx| sending.poll(&mut source, &mut here, &budget, cx));
    tokio::join!(sent, reading).0.expect("all");
    assert_eq!(arrived, given);
    assert_eq!(sending.backlog.map(|backlog| backlog.held()), Some(0));
}

#[tokio::test]
async fn counts_that_cannot_be_are_refused() {
    let mut sending = Sending::new();
    assert!(sending.begin(Resume::From(1)).is_err());
    sending.begin(Resume::From(0)).expect("from the start");
    let (mut here, mut there) = duplex(1000);
    there
        .write_all(&u64::MAX.to_be_bytes())
        .await
        .expect("room");
    let (mut source, budget) = (&b"abc"[..], Budget::new(0));
    let sent = poll_fn(|cx| sending.poll(&mut source, &mut here, &budget, cx));
    assert!(sent.await.is_err());
    // One that an earlier process has begun is believed once.
    let mut sending = Sending::continued();
    sending.begin(Resume::From(7)).expect("nobody knows better");
    assert_eq!(sending.position(), 7);
    assert!(sending.begin(Resume::From(6)).is_err());
}
