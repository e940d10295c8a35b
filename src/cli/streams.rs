//! The streams between this process and the container's program, passed through unchanged.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How much is read at once, in bytes.
const CHUNK: usize = 64 << 10;

/// Writes all that `from` gives to `to`, each piece at once. Returns at the end of `from`, or when nobody reads what is
/// written; `from` is dropped then, which the writer at its other end can notice, as it would in a pipeline.
///
/// # Errors
///
/// When `to` fails in another way.
pub(crate) async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        // A stream that breaks has ended with the container or the session, which is told in another way.
        let length = from.read(&mut buffer).await.unwrap_or(0);
        if length == 0 {
            return Ok(());
        }
        let written = async {
            to.write_all(&buffer[..length]).await?;
            to.flush().await
        };
        match written.await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Writes standard input to `to`, and its end too. Returns when it has ended, or nobody reads it any more.
pub(crate) async fn feed(mut to: impl AsyncWrite + Unpin) {
    let mut stdin = tokio::io::stdin();
    // A program that has closed its standard input does not want the rest, and one that has ended is noticed elsewhere.
    let _ = tokio::io::copy(&mut stdin, &mut to).await;
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_passed_on_as_they_come() {
        let (mut program, from) = tokio::io::duplex(1024);
        let (to, mut screen) = tokio::io::duplex(1024);
        let passing = tokio::spawn(pass_on(from, to));
        let mut shown = [0; 7];
        for piece in [b"prompt>", b"\xff\0\r\nxyz"] {
            program.write_all(piece).await.expect("open");
            screen.read_exact(&mut shown).await.expect("open");
            assert_eq!(&shown, piece);
        }
        drop(program);
        assert!(passing.await.expect("no panic").is_ok());
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_the_end_for_the_writer() {
        let (mut program, from) = tokio::io::duplex(16);
        let (to, screen) = tokio::io::duplex(16);
        let passing = tokio::spawn(pass_on(from, to));
        drop(screen);
        while program.write_all(b"y\n").await.is_ok() {}
        assert!(passing.await.expect("no panic").is_ok());
    }
}
