//! The chunks that a layer's tar travels and is stored in.
//!
//! ```text
//! layer  = chunk* end
//! chunk  = compressed length: u32 LE, 1 to MAX_FRAME
//!          content length:    u32 LE, 1 to MAX_CONTENT
//!          one zstd frame of `compressed length` bytes that holds `content length` bytes
//! end    = eight zero bytes
//! ```
//!
//! Lengths are little-endian, as everything in zstd is. Each frame stands for itself, so a layer that was interrupted
//! goes on at any chunk's boundary, and frames are compressed and decompressed independently of one another.
//!
//! Both lengths are checked before anything is allocated, and a frame never yields more than it has declared: whoever
//! sends chunks decides neither how much memory nor how much time they cost.
//!
//! Nothing here reads or writes; `link::chunks` does so over streams, `location::layers` in files.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

/// Length of a chunk's header and of the end mark, in bytes.
pub const HEADER_LENGTH: usize = 8;

/// Most content that one chunk holds, in bytes.
pub const MAX_CONTENT: usize = 1 << 20;

/// Longest frame, in bytes: zstd's bound for content that cannot be compressed.
pub const MAX_FRAME: usize = frame_bound(MAX_CONTENT);

/// What follows the last chunk.
pub const END: [u8; HEADER_LENGTH] = [0; HEADER_LENGTH];

/// Compression level. The link is rarely slower than what level 1 yields, and no level above is as fast.
const LEVEL: i32 = 1;

/// `ZSTD_COMPRESSBOUND` for content of at least 128 KiB, where it can be a constant.
const fn frame_bound(content: usize) -> usize {
    content + (content >> 8)
}

/// What is wrong with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// The header names a length that no chunk has.
    #[error(
        "a chunk claims {content} bytes in {frame}, of which it may hold 1 to {MAX_CONTENT} in 1 to {MAX_FRAME}"
    )]
    Length {
        /// Length of the frame, in bytes.
        frame: u32,
        /// Length of the content, in bytes.
        content: u32,
    },
    /// The frame is not one zstd frame that holds what the header says.
    #[error("a chunk's frame does not hold the {content} bytes that its header names")]
    Frame {
        /// Length of the content according to the header, in bytes.
        content: u32,
    },
}

impl From<BadChunk> for io::Error {
    fn from(bad: BadChunk) -> Self {
        Self::new(io::ErrorKind::InvalidData, bad)
    }
}

/// The start of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    frame: u32,
    content: u32,
}

impl Header {
    /// Reads a header; `None` is the end of the layer.
    ///
    /// # Errors
    ///
    /// When it names lengths that no chunk has.
    pub fn parse(bytes: [u8; HEADER_LENGTH]) -> Result<Option<Self>, BadChunk> {
        let [f0, f1, f2, f3, c0, c1, c2, c3] = bytes;
        let frame = u32::from_le_bytes([f0, f1, f2, f3]);
        let content = u32::from_le_bytes([c0, c1, c2, c3]);
        if bytes == END {
            return Ok(None);
        }
        let possible = |length: u32, most: usize| length != 0 && length as usize <= most;
        if possible(frame, MAX_FRAME) && possible(content, MAX_CONTENT) {
            Ok(Some(Self { frame, content }))
        } else {
            Err(BadChunk::Length { frame, content })
        }
    }

    /// The header as it is sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LENGTH] {
        let [f0, f1, f2, f3] = self.frame.to_le_bytes();
        let [c0, c1, c2, c3] = self.content.to_le_bytes();
        [f0, f1, f2, f3, c0, c1, c2, c3]
    }

    /// Length of the frame that follows, in bytes: at most [`MAX_FRAME`].
    #[must_use]
    pub fn frame_length(self) -> usize {
        self.frame as usize
    }

    /// Length of the content that the frame holds, in bytes: at most [`MAX_CONTENT`].
    #[must_use]
    pub fn content_length(self) -> usize {
        self.content as usize
    }

    /// Length of header and frame together, in bytes.
    #[must_use]
    pub fn chunk_length(self) -> usize {
        HEADER_LENGTH + self.frame_length()
    }
}

/// Makes chunks. Keeps the compressor's memory from one to the next.
pub struct Encoder {
    compressor: Compressor<'static>,
}

impl Encoder {
    /// A new encoder.
    ///
    /// # Errors
    ///
    /// When zstd refuses its parameters.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(LEVEL)?,
        })
    }

    /// Replaces what `chunk` has by the chunk of `content`, which is 1 to [`MAX_CONTENT`] bytes long.
    ///
    /// # Errors
    ///
    /// When zstd fails, which it does for lack of memory only.
    ///
    /// # Panics
    ///
    /// When the content's length is not that of a chunk's.
    pub fn encode(&mut self, content: &[u8], chunk: &mut Vec<u8>) -> io::Result<Header> {
        assert!(
            (1..=MAX_CONTENT).contains(&content.len()),
            "a chunk holds 1 to {MAX_CONTENT} bytes, not {}",
            content.len()
        );
        chunk.clear();
        chunk.resize(HEADER_LENGTH + zstd_safe::compress_bound(content.len()), 0);
        let frame = self
            .compressor
            .compress_to_buffer(content, &mut chunk[HEADER_LENGTH..])?;
        chunk.truncate(HEADER_LENGTH + frame);
        let fits = |length: usize| u32::try_from(length).expect("both lengths are below 2 MiB");
        let header = Header {
            frame: fits(frame),
            content: fits(content.len()),
        };
        chunk[..HEADER_LENGTH].copy_from_slice(&header.to_bytes());
        Ok(header)
    }
}

/// Reads chunks. Keeps the decompressor's memory from one to the next.
pub struct Decoder {
    decompressor: Decompressor<'static>,
}

impl Decoder {
    /// A new decoder.
    ///
    /// # Errors
    ///
    /// When zstd refuses its parameters.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            decompressor: Decompressor::new()?,
        })
    }

    /// Replaces what `content` has by what `frame` holds, exactly as long as `header` says.
    ///
    /// # Errors
    ///
    /// When the frame holds anything else; `content` is empty then.
    pub fn decode(
        &mut self,
        header: Header,
        frame: &[u8],
        content: &mut Vec<u8>,
    ) -> Result<(), BadChunk> {
        content.clear();
        let bad = BadChunk::Frame {
            content: header.content,
        };
        // Several frames in a row, or frames to skip, would decompress as well: the same content could then be sent in
        // any number of ways.
        if frame.len() != header.frame_length()
            || !frame.starts_with(&zstd_safe::MAGICNUMBER.to_le_bytes())
            || zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len())
        {
            return Err(bad);
        }
        content.resize(header.content_length(), 0);
        match self
            .decompressor
            .decompress_to_buffer(frame, content.as_mut_slice())
        {
            Ok(length) if length == header.content_length() => Ok(()),
            Ok(_) | Err(_) => {
                content.clear();
                Err(bad)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(content: &[u8]) -> Vec<u8> {
        let mut chunk = Vec::new();
        let mut encoder = Encoder::new().expect("zstd takes its parameters");
        encoder.encode(content, &mut chunk).expect("it encodes");
        chunk
    }

    /// Reads a whole layer, as a peer would that keeps to the limits.
    fn decoded(mut layer: &[u8]) -> Result<Vec<u8>, Option<BadChunk>> {
        let mut decoder = Decoder::new().expect("zstd takes its parameters");
        let (mut whole, mut content) = (Vec::new(), Vec::new());
        loop {
            let (header, rest) = layer.split_first_chunk().ok_or(None)?;
            let Some(header) = Header::parse(*header)? else {
                return Ok(whole);
            };
            let (frame, rest) = rest.split_at_checked(header.frame_length()).ok_or(None)?;
            decoder.decode(header, frame, &mut content)?;
            assert_eq!(content.len(), header.content_length());
            whole.extend_from_slice(&content);
            layer = rest;
        }
    }

    /// What zstd makes of some content may change with its version; that these bytes are read as they are must not.
    #[test]
    fn a_known_layer_is_read_for_ever() {
        let hex = "17 00 00 00 \
                   26 00 00 00 \
                   28 b5 2f fd 20 26 75 00 00 40 6c 61 79 65 72 73 2c 20 01 00 13 0b 17 \
                   00 00 00 00 \
                   00 00 00 00";
        let layer: Vec<u8> = hex
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("a hexadecimal byte"))
            .collect();
        assert_eq!(
            decoded(&layer),
            Ok(b"layers, layers, layers, layers, layers".to_vec())
        );
        assert_eq!(
            Header::parse(*layer.first_chunk().expect("a header")),
            Ok(Some(Header {
                frame: 23,
                content: 38
            }))
        );
    }

    #[test]
    fn a_header_is_two_little_endian_numbers() {
        let chunk = encoded(&vec![7; 0x01_0203]);
        let frame = u32::try_from(chunk.len() - HEADER_LENGTH).expect("a small number");
        assert_eq!(chunk[..4], frame.to_le_bytes());
        assert_eq!(chunk[4..8], [0x03, 0x02, 0x01, 0x00]);
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        let header = |frame: usize, content: usize| {
            let header = Header {
                frame: u32::try_from(frame).expect("a small number"),
                content: u32::try_from(content).expect("a small number"),
            };
            Header::parse(header.to_bytes())
        };
        assert_eq!(header(0, 0), Ok(None));
        assert!(header(1, 1).is_ok());
        assert!(header(MAX_FRAME, MAX_CONTENT).is_ok());
        for (frame, content) in [
            (0, 1),
            (1, 0),
            (MAX_FRAME + 1, 1),
            (1, MAX_CONTENT + 1),
            (u32::MAX as usize, u32::MAX as usize),
        ] {
            assert!(header(frame, content).is_err(), "{frame} {content}");
        }
    }

    #[test]
    fn the_longest_frame_is_zstds_own_bound() {
        assert_eq!(MAX_FRAME, zstd_safe::compress_bound(MAX_CONTENT));
    }

    #[test]
    fn a_frame_that_holds_more_than_it_declares_is_refused() {
        let mut chunk = encoded(&vec![0; MAX_CONTENT]);
        chunk[4..8].copy_from_slice(&1000_u32.to_le_bytes());
        assert_eq!(
            decoded(&chunk),
            Err(Some(BadChunk::Frame { content: 1000 }))
        );
    }

    #[test]
    fn a_frame_that_holds_less_than_it_declares_is_refused() {
        let mut chunk = encoded(b"little");
        chunk[4..8].copy_from_slice(&7_u32.to_le_bytes());
        assert_eq!(decoded(&chunk), Err(Some(BadChunk::Frame { content: 7 })));
    }

    #[test]
    fn two_frames_in_one_chunk_are_refused() {
        let (first, second) = (encoded(b"first"), encoded(b"second"));
        let frames = [&first[HEADER_LENGTH..], &second[HEADER_LENGTH..]].concat();
        let header = Header {
            frame: u32::try_from(frames.len()).expect("a small number"),
            content: 11,
        };
        let chunk = [&header.to_bytes()[..], &frames].concat();
        assert_eq!(decoded(&chunk), Err(Some(BadChunk::Frame { content: 11 })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn content_comes_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 0..5)) {
            let mut layer: Vec<u8> = parts.iter().flat_map(|part| encoded(part)).collect();
            layer.extend_from_slice(&END);
            prop_assert_eq!(decoded(&layer), Ok(parts.concat()));
        }

        #[test]
        fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decoded(&bytes);
        }

        #[test]
        fn a_frame_of_random_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 1..300), content in 1..2000_u32) {
            let header = Header { frame: u32::try_from(bytes.len()).expect("a small number"), content };
            let _ = decoded(&[&header.to_bytes()[..], &bytes].concat());
            let with_magic = [&header.to_bytes()[..], &zstd_safe::MAGICNUMBER.to_le_bytes(), &bytes].concat();
            let _ = decoded(&with_magic);
        }

        #[test]
        fn flipped_and_truncated_chunks_do_not_panic(
            content in prop::collection::vec(0..4_u8, 1..2000),
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..4),
            length in any::<prop::sample::Index>(),
        ) {
            let mut layer = encoded(&content);
            layer.extend_from_slice(&END);
            for (place, bits) in flips {
                let place = place.index(layer.len());
                layer[place] ^= bits;
            }
            layer.truncate(length.index(layer.len() + 1));
            if let Ok(found) = decoded(&layer) {
                prop_assert!(found.len() <= MAX_CONTENT);
            }
        }
    }
}
