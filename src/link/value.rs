//! One value on a byte stream: how an upload is answered.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest encoded value, in bytes.
const MAX_LENGTH: u32 = 64 * 1024;

/// Writes a value: its length as a big-endian `u32`, then its CBOR.
///
/// # Errors
///
/// When the stream fails.
pub async fn write_value<T: Serialize + Sync>(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> io::Result<()> {
    let mut frame = vec![0; 4];
    ciborium::into_writer(value, &mut frame).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4)
        .ok()
        .filter(|length| *length <= MAX_LENGTH);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame).await
}

/// Reads a value that [`write_value`] wrote.
///
/// # Errors
///
/// When the stream fails, ends early, or holds something else.
pub async fn read_value<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<T> {
    let length = stream.read_u32().await?;
    if length > MAX_LENGTH {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a value of {length} bytes is too long"),
        ));
    }
    let mut encoded = Vec::new();
    stream.take(length.into()).read_to_end(&mut encoded).await?;
    ciborium::from_reader(encoded.as_slice())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
