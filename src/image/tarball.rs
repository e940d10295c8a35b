//! The entries of a tar, one after another, in bounded memory.
//!
//! Archives come from strangers, and the usual readers take long names and extended headers of any length into memory;
//! this one limits both, and the number of entries. It reads archives of *images*, whose few entries it never unpacks:
//! layers are tars too, but they are passed on unread.

use std::io::{self, Read, Seek, SeekFrom};

/// Size of a header, and what contents are padded to, in bytes.
const BLOCK: u64 = 512;

/// Longest extended header or long name, in bytes.
const MAX_EXTENSION: u64 = 64 * 1024;

/// Longest path, in bytes.
const MAX_PATH: usize = 1024;

/// Most entries of an archive: an image of 127 layers, Docker's limit, has about 500.
const MAX_ENTRIES: usize = 20_000;

/// What makes a tar unreadable.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(String),
}

/// What an entry is, as far as images care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A symbolic link, relative to the directory that it is in.
    Symlink(String),
    /// Another name of an earlier entry, relative to the root of the archive.
    HardLink(String),
    Other,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path as it is in the archive.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Length of the content, in bytes.
    pub(super) size: u64,
    /// Where the content begins, in bytes from the start of the archive.
    pub(super) offset: u64,
}

/// A reader that can leave out bytes.
pub(super) trait Skip: Read {
    fn skip(&mut self, length: u64) -> io::Result<()>;
}

/// Leaves out bytes by reading them.
pub(super) struct Streamed<R>(pub(super) R);

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Streamed<R> {
    fn skip(&mut self, length: u64) -> io::Result<()> {
        if io::copy(&mut self.0.by_ref().take(length), &mut io::sink())? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Leaves out bytes by seeking over them.
pub(super) struct Seeked<R> {
    reader: R,
    position: u64,
    length: u64,
}

impl<R: Seek> Seeked<R> {
    /// Begins at the start of `reader`.
    pub(super) fn new(mut reader: R) -> io::Result<Self> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        Ok(Self {
            reader,
            position: 0,
            length,
        })
    }
}

impl<R: Read> Read for Seeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.position += length as u64;
        Ok(length)
    }
}

impl<R: Read + Seek> Skip for Seeked<R> {
    fn skip(&mut self, length: u64) -> io::Result<()> {
        // Seeking beyond the end succeeds, so a truncated archive must be noticed here.
        let position = self
            .position
            .checked_add(length)
            .filter(|position| *position <= self.length)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.reader.seek(SeekFrom::Start(position))?;
        self.position = position;
        Ok(())
    }
}

/// Goes through the entries of a tar.
pub(super) struct Entries<R> {
    reader: R,
    /// Bytes of the archive that are behind us.
    position: u64,
    /// Bytes of the current entry's content that are ahead, and its padding.
    remaining: u64,
    padding: u64,
    count: usize,
}

/// What extended headers say of the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl<R: Skip> Entries<R> {
    /// Begins at the start of an archive.
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            position: 0,
            remaining: 0,
            padding: 0,
            count: 0,
        }
    }

    /// Goes on to the next entry, past what was not read of the last one's content.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extension = Extension::default();
        loop {
            self.finish_entry()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            self.count += 1;
            if self.count > MAX_ENTRIES {
                return Err(malformed(format!("it has more than {MAX_ENTRIES} entries")));
            }
            let size = header
                .entry_size()
                .map_err(|_| malformed("an entry's size is not a number"))?;
            self.begin_entry(size)?;
            match header.entry_type() {
                tar::EntryType::GNULongName => extension.path = Some(self.long_name(size)?),
                tar::EntryType::GNULongLink => extension.link = Some(self.long_name(size)?),
                tar::EntryType::XHeader => self.extended_header(size, &mut extension)?,
                // Global headers carry comments, such as the commit of an export.
                tar::EntryType::XGlobalHeader => {}
                kind => return self.entry(&header, kind, size, extension).map(Some),
            }
        }
    }

    /// The content of the entry that `next` returned last, as far as it is not read yet.
    pub(super) fn content(&mut self) -> Content<'_, R> {
        Content { entries: self }
    }

    /// The whole content of the current entry, if it is not longer than `limit` bytes.
    pub(super) fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, TarError> {
        if self.remaining > limit {
            return Err(malformed(format!(
                "an entry has {} bytes where at most {limit} are allowed",
                self.remaining
            )));
        }
        let mut content = Vec::new();
        self.content().read_to_end(&mut content)?;
        Ok(content)
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        kind: tar::EntryType,
        size: u64,
        extension: Extension,
    ) -> Result<Entry, TarError> {
        let size = match extension.size {
            Some(size) => {
                self.begin_entry(size)?;
                size
            }
            None => size,
        };
        let path = match extension.path {
            Some(path) => path,
            None => text(&header.path_bytes())?,
        };
        let link = match (extension.link, header.link_name_bytes()) {
            (Some(link), _) => link,
            (None, Some(link)) => text(&link)?,
            (None, None) => String::new(),
        };
        let kind = match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File,
            tar::EntryType::Symlink => Kind::Symlink(link),
            tar::EntryType::Link => Kind::HardLink(link),
            _ => Kind::Other,
        };
        Ok(Entry {
            path,
            kind,
            size,
            offset: self.position,
        })
    }

    /// Notes that the content of an entry begins here.
    fn begin_entry(&mut self, size: u64) -> Result<(), TarError> {
        self.remaining = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        self.position
            .checked_add(size)
            .and_then(|end| end.checked_add(self.padding))
            .map(|_| ())
            .ok_or_else(|| malformed("an entry's size is absurd"))
    }

    fn finish_entry(&mut self) -> io::Result<()> {
        let rest = self.remaining + self.padding;
        if rest > 0 {
            self.reader.skip(rest).map_err(truncated)?;
            self.position += rest;
            self.remaining = 0;
            self.padding = 0;
        }
        Ok(())
    }

    /// The next header, none at the end of the archive.
    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut length = 0;
        while length < block.len() {
            match self.reader.read(&mut block[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += length as u64;
        // The end is marked by a block of zeros; writers that leave it out are common enough to be accepted.
        if length == 0 || (length == block.len() && block.iter().all(|byte| *byte == 0)) {
            return Ok(None);
        }
        if length < block.len() {
            return Err(truncated(io::ErrorKind::UnexpectedEof.into()).into());
        }
        let sum: u32 = block[..148]
            .iter()
            .chain(&block[156..])
            .map(|byte| u32::from(*byte))
            .sum::<u32>()
            + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            return Err(malformed(
                "it is not a tar archive, or is damaged: a header has a wrong checksum",
            ));
        }
        Ok(Some(header))
    }

    fn long_name(&mut self, size: u64) -> Result<String, TarError> {
        let name = self.extension_content(size)?;
        text(name.split(|byte| *byte == 0).next().unwrap_or_default())
    }

    fn extended_header(&mut self, size: u64, extension: &mut Extension) -> Result<(), TarError> {
        let content = self.extension_content(size)?;
        for record in tar::PaxExtensions::new(&content) {
            let record = record.map_err(|_| malformed("an extended header is malformed"))?;
            match record.key_bytes() {
                b"path" => extension.path = Some(text(record.value_bytes())?),
                b"linkpath" => extension.link = Some(text(record.value_bytes())?),
                b"size" => {
                    let size = record.value().ok().and_then(|value| value.parse().ok());
                    extension.size =
                        Some(size.ok_or_else(|| malformed("an entry's size is not a number"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn extension_content(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(malformed(format!(
                "an extended header has {size} bytes, more than the {MAX_EXTENSION} allowed"
            )));
        }
        self.read_all(MAX_EXTENSION)
    }
}

/// The content of an entry.
pub(super) struct Content<'a, R> {
    entries: &'a mut Entries<R>,
}

impl<R: Skip> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.entries.remaining).unwrap_or(usize::MAX);
        let length = buffer.len().min(limit);
        if length == 0 {
            return Ok(0);
        }
        let read = self.entries.reader.read(&mut buffer[..length])?;
        if read == 0 {
            return Err(truncated(io::ErrorKind::UnexpectedEof.into()));
        }
        self.entries.remaining -= read as u64;
        self.entries.position += read as u64;
        Ok(read)
    }
}

fn malformed(reason: impl Into<String>) -> TarError {
    TarError::Malformed(reason.into())
}

fn truncated(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        io::Error::new(
            error.kind(),
            "it is truncated: it ends in the middle of an entry",
        )
    } else {
        error
    }
}

fn text(bytes: &[u8]) -> Result<String, TarError> {
    if bytes.len() > MAX_PATH {
        return Err(malformed(format!("a path is longer than {MAX_PATH} bytes")));
    }
    // A name that is no UTF-8 cannot be one that an image refers to, so it need not be kept exactly.
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// The path without `.` parts and slashes around it; none if it leaves the root or names it.
pub(super) fn normal_path(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, path, *content)
                .expect("write to memory");
        }
        builder.into_inner().expect("write to memory")
    }

    fn walk(bytes: &[u8]) -> Result<Vec<Entry>, TarError> {
        let mut entries = Entries::new(Streamed(bytes));
        let mut all = Vec::new();
        while let Some(entry) = entries.next()? {
            all.push(entry);
        }
        Ok(all)
    }

    #[test]
    fn entries_are_found_by_reading_and_by_seeking() {
        let long = format!("{}/layer.tar", "d".repeat(200));
        let bytes = archive(&[("a", b"one"), (&long, &[7; 2000]), ("b", b"")]);
        let streamed = walk(&bytes).expect("walk");
        assert_eq!(streamed.len(), 3);
        assert_eq!(streamed[1].path, long);
        assert_eq!(streamed[1].size, 2000);
        let start = usize::try_from(streamed[1].offset).expect("small");
        assert_eq!(bytes[start..start + 2000], [7; 2000]);

        let mut entries = Entries::new(Seeked::new(io::Cursor::new(&bytes)).expect("seek"));
        for expected in &streamed {
            assert_eq!(entries.next().expect("next").as_ref(), Some(expected));
        }
        assert_eq!(entries.next().expect("end"), None);
    }

    #[test]
    fn pax_headers_override_the_plain_one() {
        let path = format!("{}/x", "p".repeat(300));
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append_pax_extensions([("path", path.as_bytes())])
            .expect("write to memory");
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_path("short").expect("short");
        header.set_cksum();
        builder.append(&header, &b"x"[..]).expect("write to memory");
        let entries = walk(&builder.into_inner().expect("write to memory")).expect("walk");
        assert_eq!(entries[0].path, path);
    }

    #[test]
    fn truncation_is_noticed_at_every_length() {
        let bytes = archive(&[("a", &[1; 700]), ("b", &[2; 700])]);
        let end = bytes.len() - 1024;
        for length in 1..end {
            let complete = length % 512 == 0 && (length == 512 + 1024);
            assert_eq!(walk(&bytes[..length]).is_ok(), complete, "{length}");
            let cursor = Seeked::new(io::Cursor::new(&bytes[..length])).expect("seek");
            let mut entries = Entries::new(cursor);
            let outcome = loop {
                match entries.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            assert_eq!(outcome, complete, "{length}");
        }
    }

    #[test]
    fn huge_extensions_and_sizes_are_refused_without_reading_them() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = walk(header.as_bytes()).expect_err("huge name").to_string();
        assert!(error.contains("extended header"), "{error}");

        let mut header = tar::Header::new_gnu();
        header.set_path("a").expect("short");
        header.set_size(u64::MAX);
        header.set_cksum();
        assert!(walk(header.as_bytes()).is_err());
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        let mut bytes = archive(&[("a", b"one"), ("b", b"two")]);
        assert!(walk(&[0xff; 2048]).is_err());
        for index in 0..1536 {
            bytes[index] ^= 0x55;
            let _ = walk(&bytes);
            bytes[index] ^= 0x55;
        }
    }

    #[test]
    fn paths_are_made_normal_or_refused() {
        assert_eq!(normal_path("./a//b/."), Some("a/b".to_owned()));
        assert_eq!(normal_path("a/../b"), Some("b".to_owned()));
        assert_eq!(normal_path("/a"), Some("a".to_owned()));
        for path in ["..", "../a", "a/../../b", "", ".", "/"] {
            assert_eq!(normal_path(path), None, "{path}");
        }
    }
}
