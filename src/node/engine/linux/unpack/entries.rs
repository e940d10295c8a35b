//! The entries of a tar, read once from front to back in constant memory.
//!
//! The `tar` crate knows the layout of headers. Its own iteration over entries is not used for layers, since it reads
//! extended headers of any length into memory, takes line ends inside them for ends of records, and knows one of the
//! four kinds of sparse files. Where readers of tars disagree, this one reads what Docker would, so that nobody can
//! show two of them different images.
//!
//! Nothing here touches files: it takes bytes and gives names and numbers, none of which are to be trusted.

use std::borrow::Cow;
use std::io::{self, BufRead};

use tar::{EntryType, Header};

use super::pax::Records;
use super::sparse::{self, Map};

/// Length of a header, and what content is padded to, in bytes.
pub const BLOCK: usize = 512;

/// Most bytes of one extended header or long name.
const MAX_EXTENSION: u64 = 1 << 20;

/// What is wrong with an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Why the next entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The archive is broken.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The input failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A point in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file, whose content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A further name of another entry.
    HardLink,
    /// A character device.
    Character {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// An entry without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name as it stands in the archive.
    pub name: Vec<u8>,
    /// What a link leads to, as it stands in the archive; empty for others.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id bits and sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Time,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where a sparse file has its content.
    pub sparse: Option<Map>,
}

/// Reads the entries of the archive that `R` yields.
pub struct Entries<R> {
    input: R,
    /// What is left of the current entry's content, in bytes.
    left: u64,
    /// What follows the content up to the next header, in bytes.
    padding: u64,
}

impl<R: BufRead> Entries<R> {
    /// The entries of the archive that begins where `input` is.
    pub fn new(input: R) -> Self {
        Self {
            input,
            left: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` at the end of the archive. What is left of the content of the one before is skipped.
    ///
    /// # Errors
    ///
    /// When the archive is broken or the input fails. There is no going on after that.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        // One after the other: their sum might not be a number.
        let (left, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        self.skip(left)?;
        self.skip(padding)?;
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        let mut extended = false;
        loop {
            let Some(header) = self.header()? else {
                if extended {
                    return Err(Malformed("it ends after an extended header").into());
                }
                return Ok(None);
            };
            let size = size(&header)?;
            match header.entry_type() {
                EntryType::XHeader => records = Records::parse(&self.extension(size)?)?,
                EntryType::GNULongName => long_name = Some(c_string(&self.extension(size)?)),
                EntryType::GNULongLink => long_link = Some(c_string(&self.extension(size)?)),
                // Docker ignores them too.
                EntryType::XGlobalHeader => self.skip(padded(size)?)?,
                _ => {
                    let names = (long_name, long_link);
                    return self.entry(&header, size, records, names).map(Some);
                }
            }
            extended = true;
        }
    }

    /// What the input has ready of the current entry's content; nothing at its end.
    ///
    /// # Errors
    ///
    /// When the archive ends inside the content or the input fails.
    pub fn content(&mut self) -> Result<&[u8], ReadError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let ready = self.input.fill_buf()?;
        if ready.is_empty() {
            return Err(TORN.into());
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(&ready[..ready.len().min(most)])
    }

    /// Goes on by `length` bytes of what [`Entries::content`] has given.
    pub fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.left -= length as u64;
    }

    /// What is left of the current entry's content in the archive, in bytes.
    pub fn remaining(&self) -> u64 {
        self.left
    }

    /// The next block, which must be there.
    pub(super) fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<(), ReadError> {
        if self.try_block(block)? {
            Ok(())
        } else {
            Err(TORN.into())
        }
    }

    /// The next block; `false` if the input ends before it.
    fn try_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, ReadError> {
        let mut filled = 0;
        while filled < BLOCK {
            let ready = self.input.fill_buf()?;
            if ready.is_empty() {
                return if filled == 0 {
                    Ok(false)
                } else {
                    Err(TORN.into())
                };
            }
            let length = ready.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&ready[..length]);
            self.input.consume(length);
            filled += length;
        }
        Ok(true)
    }

    /// The next header; `None` at the end: two blocks of zeros, one at the end of the input, or the end of the input.
    fn header(&mut self) -> Result<Option<Header>, ReadError> {
        let mut header = Header::new_old();
        if !self.try_block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if is_zero(header.as_bytes()) {
            return if !self.try_block(header.as_mut_bytes())? || is_zero(header.as_bytes()) {
                Ok(None)
            } else {
                Err(Malformed("something follows its end").into())
            };
        }
        check_sum(&header)?;
        Ok(Some(header))
    }

    /// The content of an extended header or a long name.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        if size > MAX_EXTENSION {
            return Err(Malformed("an extended header is longer than a mebibyte").into());
        }
        self.left = size;
        let mut content = Vec::new();
        loop {
            let ready = self.content()?;
            let length = ready.len();
            if length == 0 {
                break;
            }
            content.extend_from_slice(ready);
            self.consume(length);
        }
        self.skip(padded(size)? - size)?;
        Ok(content)
    }

    fn skip(&mut self, mut length: u64) -> Result<(), ReadError> {
        while length > 0 {
            let ready = self.input.fill_buf()?.len();
            if ready == 0 {
                return Err(TORN.into());
            }
            let step = ready.min(usize::try_from(length).unwrap_or(usize::MAX));
            self.input.consume(step);
            length -= step as u64;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        records: Records,
        (long_name, long_link): (Option<Vec<u8>>, Option<Vec<u8>>),
    ) -> Result<Entry, ReadError> {
        let given = |name: Option<Vec<u8>>| name.filter(|name| !name.is_empty());
        let fields = header.as_old();
        let size = records.size.unwrap_or(size);
        let mut name = given(long_name)
            .or_else(|| records.path.clone())
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = kind(header, &name)?;
        let mut sparse = None;
        if kind == Kind::File {
            // The pieces of the oldest format come before the content, and its length counts from after them.
            if header.entry_type() == EntryType::GNUSparse {
                sparse = Some(sparse::old(self, header, size)?);
            }
            self.left = size;
            self.padding = padded(size)? - size;
            if sparse.is_none() && !records.sparse.is_empty() {
                sparse = sparse::pax(self, &records)?;
                if let (Some(_), Some(real)) = (&sparse, records.sparse(b"name")) {
                    name = c_string(real);
                }
            }
        }
        let mtime = match records.mtime {
            Some(mtime) => mtime,
            None => Time {
                seconds: numeric(&fields.mtime).ok_or(BAD_NUMBER)?,
                nanoseconds: 0,
            },
        };
        let mode = numeric(&fields.mode).ok_or(BAD_NUMBER)?;
        Ok(Entry {
            link: match kind {
                Kind::Symlink | Kind::HardLink => given(long_link)
                    .or(records.linkpath)
                    .or_else(|| header.link_name_bytes().map(Cow::into_owned))
                    .unwrap_or_default(),
                _ => Vec::new(),
            },
            kind,
            mode: u32::try_from(mode & 0o7777).expect("twelve bits"),
            uid: owner(records.uid, &fields.uid)?,
            gid: owner(records.gid, &fields.gid)?,
            mtime,
            xattrs: records.xattrs,
            sparse,
            name,
        })
    }
}

const TORN: Malformed = Malformed("it ends in the middle of an entry");
const BAD_NUMBER: Malformed = Malformed("a header has a number that is none");

fn kind(header: &Header, name: &[u8]) -> Result<Kind, Malformed> {
    let device = || {
        let number = |field: &[u8]| {
            let number = numeric(field).ok_or(BAD_NUMBER)?;
            u32::try_from(number).map_err(|_| BAD_NUMBER)
        };
        let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
            (Some(header), _) => (&header.dev_major, &header.dev_minor),
            (_, Some(header)) => (&header.dev_major, &header.dev_minor),
            _ => return Err(Malformed("a device has no number")),
        };
        Ok((number(major)?, number(minor)?))
    };
    Ok(match header.entry_type() {
        // What tars were like before there were types of entries.
        EntryType::Regular if header.as_old().linkflag == [0] && name.ends_with(b"/") => {
            Kind::Directory
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => {
            let (major, minor) = device()?;
            Kind::Character { major, minor }
        }
        EntryType::Block => {
            let (major, minor) = device()?;
            Kind::Block { major, minor }
        }
        _ => return Err(Malformed("an entry is of an unknown type")),
    })
}

fn size(header: &Header) -> Result<u64, Malformed> {
    let size = numeric(&header.as_old().size).ok_or(BAD_NUMBER)?;
    u64::try_from(size).map_err(|_| BAD_NUMBER)
}

fn padded(size: u64) -> Result<u64, Malformed> {
    size.checked_next_multiple_of(BLOCK as u64)
        .ok_or(BAD_NUMBER)
}

fn owner(extended: Option<u64>, field: &[u8]) -> Result<u32, Malformed> {
    let id = match extended {
        Some(id) => id,
        None => numeric(field)
            .and_then(|id| u64::try_from(id).ok())
            .ok_or(BAD_NUMBER)?,
    };
    match u32::try_from(id) {
        // The highest number means "leave it" to the kernel.
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Malformed("an owner's number is out of range")),
    }
}

/// A number of a header: octal digits with blanks around, or binary if the highest bit is set. An empty field is 0.
pub(super) fn numeric(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        let end = field.iter().position(|byte| *byte == 0);
        let digits = field[..end.unwrap_or(field.len())].trim_ascii();
        return digits.iter().try_fold(0_i64, |number, digit| match digit {
            b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
            _ => None,
        });
    }
    // Big-endian and signed; the bit that says so is not part of the number.
    let sign = if first & 0x40 == 0 { 0 } else { -1 };
    let first = i64::from(first & 0x3f) | (sign << 6);
    rest.iter().try_fold(first, |number, byte| {
        number.checked_mul(256)?.checked_add(i64::from(*byte))
    })
}

/// The sum of a header's bytes, which some have taken as signed, with blanks in place of the sum itself.
fn check_sum(header: &Header) -> Result<(), Malformed> {
    let bytes = header.as_bytes();
    let others = || bytes[..148].iter().chain(&bytes[156..]);
    let blanks = 8 * i64::from(b' ');
    let unsigned: i64 = others().map(|byte| i64::from(*byte)).sum();
    let signed: i64 = others().map(|byte| i64::from(byte.cast_signed())).sum();
    match numeric(&header.as_old().cksum) {
        Some(sum) if sum == unsigned + blanks || sum == signed + blanks => Ok(()),
        _ => Err(Malformed("a header's checksum is wrong")),
    }
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn c_string(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes[..end.unwrap_or(bytes.len())].to_vec()
}

#[cfg(test)]
mod tests;
