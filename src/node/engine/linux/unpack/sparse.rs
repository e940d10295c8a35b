//! Sparse files: which parts of a file its content in the archive belongs to.
//!
//! GNU tar has four ways to say so. They all end in the same map here, which is checked once.

use std::io::BufRead;

use tar::{GnuExtSparseHeader, GnuSparseHeader};

use super::entries::{Entries, Malformed, ReadError, numeric};
use super::pax::{Records, number};

/// Most pieces that a file may have.
const MAX_PIECES: usize = 1 << 18;

/// Longest number in a map that is part of the content, in digits.
const MAX_DIGITS: usize = 20;

/// A piece of a file that has content. What lies between pieces is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its length, in bytes.
    pub length: u64,
}

/// Where a sparse file has content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The pieces, in ascending order.
    pub pieces: Vec<Piece>,
    /// Length of the file, in bytes.
    pub size: u64,
}

impl Map {
    /// Checks that the pieces are in order, within the file, and as long together as the content.
    fn checked(pieces: Vec<Piece>, size: u64, content: u64) -> Result<Self, Malformed> {
        let (mut end, mut total) = (0, 0_u64);
        for piece in &pieces {
            let next = piece.offset.checked_add(piece.length);
            match next {
                Some(next) if piece.offset >= end && next <= size => end = next,
                _ => return Err(Malformed("a sparse file has overlapping pieces")),
            }
            // Cannot overflow: pieces do not overlap.
            total += piece.length;
        }
        if total != content {
            return Err(Malformed(
                "a sparse file's pieces are not as long as its content",
            ));
        }
        Ok(Self { pieces, size })
    }
}

fn push(pieces: &mut Vec<Piece>, piece: Piece) -> Result<(), Malformed> {
    if pieces.len() == MAX_PIECES {
        return Err(Malformed("a sparse file has too many pieces"));
    }
    pieces.push(piece);
    Ok(())
}

/// The map of GNU tar's own entry type: four pieces in the header, more in blocks that follow it.
pub(super) fn old(
    entries: &mut Entries<impl BufRead>,
    header: &tar::Header,
    content: u64,
) -> Result<Map, ReadError> {
    let header = header
        .as_gnu()
        .ok_or(Malformed("a sparse file is not in GNU tar's format"))?;
    let mut pieces = Vec::new();
    add_old(&mut pieces, &header.sparse)?;
    let mut more = header.is_extended();
    while more {
        let mut block = GnuExtSparseHeader::new();
        entries.read_block(block.as_mut_bytes())?;
        add_old(&mut pieces, block.sparse())?;
        more = block.is_extended();
    }
    let size = unsigned(&header.realsize)?;
    Ok(Map::checked(pieces, size, content)?)
}

fn add_old(pieces: &mut Vec<Piece>, found: &[GnuSparseHeader]) -> Result<(), Malformed> {
    for piece in found {
        if piece.offset[0] == 0 || piece.numbytes[0] == 0 {
            break;
        }
        let piece = Piece {
            offset: unsigned(&piece.offset)?,
            length: unsigned(&piece.numbytes)?,
        };
        push(pieces, piece)?;
    }
    Ok(())
}

fn unsigned(field: &[u8]) -> Result<u64, Malformed> {
    let bad = Malformed("a sparse file has a number that is none");
    u64::try_from(numeric(field).ok_or(bad)?).map_err(|_| bad)
}

/// The map that extended headers announce, if they do.
pub(super) fn pax(
    entries: &mut Entries<impl BufRead>,
    records: &Records,
) -> Result<Option<Map>, ReadError> {
    let missing = Malformed("a sparse file does not say how long it is");
    let size = || {
        let size = records.sparse(b"realsize").or(records.sparse(b"size"));
        number(size.ok_or(missing)?)
    };
    let version = (records.sparse(b"major"), records.sparse(b"minor"));
    let pieces = match version {
        (Some(b"1"), Some(b"0")) => in_content(entries)?,
        (None, None) | (Some(b"0"), Some(b"0" | b"1")) => match records.sparse(b"map") {
            Some(map) => listed(map.split(|byte| *byte == b','))?,
            None if records.sparse(b"numblocks").is_some() => {
                let mut numbers = Vec::new();
                for (key, value) in &records.sparse {
                    // They come in turn, as they do in the other versions.
                    if key == b"offset" || key == b"numbytes" {
                        numbers.push(value.as_slice());
                    }
                }
                listed(numbers.into_iter())?
            }
            None => return Ok(None),
        },
        _ => return Err(Malformed("a sparse file is of an unknown version").into()),
    };
    Ok(Some(Map::checked(pieces, size()?, entries.remaining())?))
}

/// Offsets and lengths in turn.
fn listed<'a>(mut numbers: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Piece>, Malformed> {
    let mut pieces = Vec::new();
    while let Some(offset) = numbers.next() {
        if offset.is_empty() {
            break;
        }
        let length = numbers
            .next()
            .ok_or(Malformed("a sparse file's last piece has no length"))?;
        let piece = Piece {
            offset: number(offset)?,
            length: number(length)?,
        };
        push(&mut pieces, piece)?;
    }
    Ok(pieces)
}

/// The map at the start of the content: one number a line, the first being how many pieces follow, padded to a block.
fn in_content(entries: &mut Entries<impl BufRead>) -> Result<Vec<Piece>, ReadError> {
    let before = entries.remaining();
    let count = line(entries)?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        let piece = Piece {
            offset: line(entries)?,
            length: line(entries)?,
        };
        push(&mut pieces, piece)?;
    }
    while !(before - entries.remaining()).is_multiple_of(tar_block()) {
        next_byte(entries)?;
    }
    Ok(pieces)
}

const fn tar_block() -> u64 {
    super::entries::BLOCK as u64
}

fn line(entries: &mut Entries<impl BufRead>) -> Result<u64, ReadError> {
    let mut digits = Vec::with_capacity(MAX_DIGITS);
    loop {
        match next_byte(entries)? {
            b'\n' if !digits.is_empty() => return Ok(number(&digits)?),
            byte if digits.len() < MAX_DIGITS => digits.push(byte),
            _ => return Err(Malformed("a sparse file has a number that is none").into()),
        }
    }
}

fn next_byte(entries: &mut Entries<impl BufRead>) -> Result<u8, ReadError> {
    let byte = *entries
        .content()?
        .first()
        .ok_or(Malformed("a sparse file's map is longer than its content"))?;
    entries.consume(1);
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, length: u64) -> Piece {
        Piece { offset, length }
    }

    #[test]
    fn pieces_must_be_in_order_within_the_file_and_add_up() {
        assert!(Map::checked(vec![piece(0, 1), piece(1, 2), piece(9, 0)], 9, 3).is_ok());
        for (pieces, size, content) in [
            (vec![piece(1, 1), piece(0, 1)], 9, 2),
            (vec![piece(0, 2), piece(1, 1)], 9, 3),
            (vec![piece(8, 2)], 9, 2),
            (vec![piece(u64::MAX, 2)], u64::MAX, 2),
            (vec![piece(0, 2)], 9, 3),
        ] {
            assert!(
                Map::checked(pieces.clone(), size, content).is_err(),
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn a_list_has_offsets_and_lengths_in_turn() {
        let read = |text: &str| listed(text.as_bytes().split(|byte| *byte == b','));
        assert_eq!(read("0,3,10,4"), Ok(vec![piece(0, 3), piece(10, 4)]));
        assert_eq!(read(""), Ok(Vec::new()));
        assert!(read("0,3,10").is_err());
        assert!(read("0,-3").is_err());
    }
}
