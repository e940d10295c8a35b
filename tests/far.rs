//! A way to dial whose connections take their time.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tfnz::link::{Dial, Transport};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Bytes that a connection takes before they are on their way.
const BUFFER: usize = 1 << 20;

/// Dials another dialler; what the connections carry arrives as much later, in both directions.
pub(crate) struct Far<D> {
    pub(crate) inner: D,
    pub(crate) delay: Duration,
}

impl<D: Dial> Dial for Far<D> {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Transport>>> {
        Box::pin(async {
            let (there_from, there_to) = split(self.inner.dial().await?);
            let (here, ours) = duplex(BUFFER);
            let (here_from, here_to) = split(here);
            tokio::spawn(carry(here_from, there_to, self.delay));
            tokio::spawn(carry(there_from, here_to, self.delay));
            Ok(Box::new(ours) as Box<dyn Transport>)
        })
    }
}

/// Carries bytes one way, and then their end, until either side fails.
async fn carry(
    mut from: impl AsyncRead + Send + Unpin + 'static,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) {
    let (sender, mut on_their_way) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let packet = (Instant::now() + delay, buffer[..length].to_vec());
            if sender.send(packet).is_err() {
                break;
            }
        }
    });
    while let Some((arrival, packet)) = on_their_way.recv().await {
        sleep_until(arrival).await;
        if to.write_all(&packet).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
