//! A reader that checks what it reads: its digest and its length.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::compression::Decoder;
use crate::ids::Digest;

/// Content that is not what its digest says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its content is damaged: it has the digest {found}, expected {expected}")]
pub struct WrongContent {
    /// The digest that names it.
    pub expected: Digest,
    /// The digest that it has.
    pub found: Digest,
}

/// Passes on what another reader yields, and fails at its end if the digest is another than expected.
pub(super) struct Verified<R> {
    reader: R,
    hasher: Sha256,
    expected: Digest,
}

impl<R: Read> Verified<R> {
    pub(super) fn new(reader: R, expected: Digest) -> Self {
        Self {
            reader,
            hasher: Sha256::new(),
            expected,
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        if length > 0 {
            self.hasher.update(&buffer[..length]);
        } else if !buffer.is_empty() {
            let found = Digest::new(self.hasher.clone().finalize().into());
            let expected = self.expected;
            if found != expected {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    WrongContent { expected, found },
                ));
            }
        }
        Ok(length)
    }
}

/// The uncompressed tar of a layer, verified on the way: the blob by its digest if it has one, else the tar itself.
pub(super) fn layer_tar<'a>(
    content: impl Read + Send + 'a,
    blob: Option<Digest>,
    layer: Digest,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match blob {
        Some(blob) => Box::new(Decoder::new(Verified::new(content, blob))?),
        None => Box::new(Verified::new(Decoder::new(content)?, layer)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_content_passes_and_wrong_content_fails_at_its_end() {
        let content = b"content";
        let mut out = Vec::new();
        Verified::new(&content[..], Digest::of(content))
            .read_to_end(&mut out)
            .expect("right content");
        assert_eq!(out, content);

        let mut out = Vec::new();
        let error = Verified::new(&content[..], Digest::of(b"other"))
            .read_to_end(&mut out)
            .expect_err("wrong content");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
