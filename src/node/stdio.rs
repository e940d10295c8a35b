//! Standard streams of processes on their way over a link.
//!
//! A stream belongs to its process for as long as that lives. If the link ends in the middle, what was read and not yet
//! handed to the link is kept, and whoever opens the stream next goes on there.

use std::io;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};

use super::container::{Input, Lent, Output, Stream};

/// How much is read at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// Why a stream is carried no further.
enum End {
    /// It has ended, in good order.
    Finished,
    /// The client does not want the rest, or has none.
    GivenUp,
    /// The link has ended, and the client may come back on another one.
    Interrupted,
}

impl End {
    /// What an error of the link's stream says about the client: a reset is its decision.
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset => Self::GivenUp,
            _ => Self::Interrupted,
        }
    }
}

/// Carries a standard stream one way until it ends.
pub(super) async fn carry(mut link: impl AsyncRead + AsyncWrite + Unpin, mut lent: Lent) {
    match lent.stream() {
        Stream::In(input) => match feed(&mut link, input).await {
            End::Interrupted => return,
            End::Finished | End::GivenUp => {
                // It fails if the process has ended.
                let _ = input.writer.shutdown().await;
                lent.use_up();
            }
        },
        Stream::Out(output) => match drain(output, &mut link).await {
            // Its end can be read again, should it not arrive.
            End::Interrupted | End::Finished => {}
            End::GivenUp => lent.use_up(),
        },
    }
    let _ = link.shutdown().await;
}

/// Gives a process what comes over the link.
async fn feed(link: &mut (impl AsyncRead + Unpin), input: &mut Input) -> End {
    input.unwritten.reserve(CHUNK);
    loop {
        while input.unwritten.has_remaining() {
            match input.writer.write(&input.unwritten).await {
                Ok(written) if written > 0 => input.unwritten.advance(written),
                // The process has closed its end. What is still typed has nowhere to go, and nobody is hindered by that.
                _ => {
                    input.unwritten.clear();
                    return match copy(link, &mut sink()).await {
                        Ok(_) => End::Finished,
                        Err(error) => End::of(&error),
                    };
                }
            }
        }
        match link.read_buf(&mut input.unwritten).await {
            Ok(0) => return End::Finished,
            Ok(_) => {}
            Err(error) => return End::of(&error),
        }
    }
}

/// Sends what a process writes.
async fn drain(output: &mut Output, link: &mut (impl AsyncWrite + Unpin)) -> End {
    loop {
        while output.unsent.has_remaining() {
            match link.write(&output.unsent).await {
                Ok(sent) => output.unsent.advance(sent),
                Err(error) => return End::of(&error),
            }
        }
        output.unsent.reserve(CHUNK);
        match output.reader.read_buf(&mut output.unsent).await {
            // An error is a terminal whose last process has ended, on Linux.
            Ok(0) | Err(_) => return End::Finished,
            Ok(_) => {}
        }
    }
}
