//! Compressed content: which compression it is, told by its first bytes, and its content as a stream.
//!
//! Media types are not asked: they are wrong too often, and an archive before Docker 25 has none.

use std::io::{self, BufReader, Read};

/// Bytes that are read from the source at a time.
const BUFFER: usize = 128 * 1024;

/// Compression of some content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// Tells the compression by the first bytes of the content; four are enough for those that are supported.
    pub(super) fn of(start: &[u8]) -> io::Result<Self> {
        let unsupported = |name| {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is compressed with {name}, expected gzip, zstd or no compression"),
            ))
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // The second form is a frame that decoders skip; some writers put one first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => unsupported("bzip2"),
            [0xfd, b'7', b'z', b'X', ..] => unsupported("xz"),
            _ => Ok(Self::Plain),
        }
    }
}

/// Reads the uncompressed form of what another reader yields, whichever compression that has.
///
/// At its end, the inner reader has been read to its end too, so that a digest over it covers all of it. Memory is the
/// buffer, and the window of zstd: 8 MiB at all usual levels, 128 MiB at most.
pub(super) struct Decoder<R: Read> {
    inner: Inner<R>,
}

/// The first bytes, which have been looked at, and all that follows.
type Source<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

enum Inner<R: Read> {
    Plain(Source<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Source<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Source<R>>),
}

impl<R: Read> Decoder<R> {
    /// Reads as much of the source as it takes to tell the compression.
    pub(super) fn new(mut reader: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(4);
        reader.by_ref().take(4).read_to_end(&mut start)?;
        let compression = Compression::of(&start)?;
        let source = io::Cursor::new(start).chain(reader);
        let source = BufReader::with_capacity(BUFFER, source);
        let inner = match compression {
            Compression::Plain => Inner::Plain(source),
            Compression::Gzip => {
                Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source)))
            }
            Compression::Zstd => Inner::Zstd(zstd::stream::read::Decoder::with_buffer(source)?),
        };
        Ok(Self { inner })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let (read, rest): (_, &mut dyn Read) = match &mut self.inner {
            Inner::Plain(reader) => return reader.read(buffer),
            Inner::Gzip(decoder) => (decoder.read(buffer)?, decoder.get_mut()),
            Inner::Zstd(decoder) => (decoder.read(buffer)?, decoder.get_mut()),
        };
        if read == 0 {
            io::copy(rest, &mut io::sink())?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn decoded(content: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decoder::new(content)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).expect("write to memory");
        encoder.finish().expect("write to memory")
    }

    #[test]
    fn every_compression_is_told_by_its_start() {
        let content = b"some content".repeat(1000);
        let zstd = zstd::encode_all(&content[..], 1).expect("encode");
        for compressed in [content.clone(), gzip(&content), zstd] {
            assert_eq!(decoded(&compressed).expect("decode"), content);
        }
        assert_eq!(decoded(b"").expect("empty"), b"");
    }

    #[test]
    fn joined_gzip_members_are_one_stream() {
        let joined = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decoded(&joined).expect("decode"), b"one two");
    }

    #[test]
    fn truncated_content_is_an_error() {
        let content = b"some content".repeat(1000);
        let zstd = zstd::encode_all(&content[..], 1).expect("encode");
        for compressed in [gzip(&content), zstd] {
            assert!(decoded(&compressed[..compressed.len() / 2]).is_err());
        }
    }

    #[test]
    fn unsupported_compressions_are_named() {
        let error = decoded(&[0xfd, b'7', b'z', b'X', b'Z', 0]).expect_err("xz");
        assert!(error.to_string().contains("xz"), "{error}");
    }
}
