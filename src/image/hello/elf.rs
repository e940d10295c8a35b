//! What an ELF file says about its libraries: its interpreter, its own name, and the names of those it needs.
//!
//! Only 64 and 32 bit files of this machine's byte order are read. All offsets come from the file and are checked, so a
//! damaged file is an error and no panic.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;

const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;

/// Longest table that is read, in bytes.
const MAX_TABLE: u64 = 4 * 1024 * 1024;

/// What a file says about its libraries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// Path of the program that loads this one; none for a library or a static program.
    pub(super) interpreter: Option<String>,
    /// Its own name as a library.
    pub(super) name: Option<String>,
    /// Names of the libraries it needs.
    pub(super) needed: Vec<String>,
}

struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

/// Where things are in headers of either word size.
struct Layout {
    word: usize,
    table_offset: usize,
    entry_size: usize,
    /// Offset, address and size in a program header.
    fields: [usize; 3],
}

const LAYOUT_64: Layout = Layout {
    word: 8,
    table_offset: 32,
    entry_size: 54,
    fields: [8, 16, 32],
};

const LAYOUT_32: Layout = Layout {
    word: 4,
    table_offset: 28,
    entry_size: 42,
    fields: [4, 8, 16],
};

/// Reads what `file` says about its libraries.
pub(super) fn links(file: &File) -> io::Result<Links> {
    let header = read(file, 0, 64)?;
    let layout = match header.get(..6) {
        Some([0x7f, b'E', b'L', b'F', class, order]) if *order == native_order() => match class {
            1 => &LAYOUT_32,
            2 => &LAYOUT_64,
            _ => return Err(malformed()),
        },
        _ => return Err(malformed()),
    };
    let segments = segments(file, &header, layout)?;
    let mut links = Links::default();
    if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
        let path = read(file, segment.offset, segment.size)?;
        links.interpreter = Some(text(&path, 0)?);
    }
    if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) {
        let table = read(file, segment.offset, segment.size)?;
        dynamic(file, &table, &segments, layout, &mut links)?;
    }
    Ok(links)
}

fn segments(file: &File, header: &[u8], layout: &Layout) -> io::Result<Vec<Segment>> {
    let start = number(header, layout.table_offset, layout.word)?;
    let entry_size = number(header, layout.entry_size, 2)?;
    let count = number(header, layout.entry_size + 2, 2)?;
    let table = read(file, start, entry_size * count)?;
    let [offset, address, size] = layout.fields;
    (0..count)
        .map(|index| {
            let start = usize::try_from(index * entry_size).map_err(|_| malformed())?;
            let entry = table.get(start..).ok_or_else(malformed)?;
            Ok(Segment {
                kind: number(entry, 0, 4)?,
                offset: number(entry, offset, layout.word)?,
                address: number(entry, address, layout.word)?,
                size: number(entry, size, layout.word)?,
            })
        })
        .collect()
}

fn dynamic(
    file: &File,
    table: &[u8],
    segments: &[Segment],
    layout: &Layout,
    links: &mut Links,
) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in table.chunks_exact(2 * layout.word) {
        let tag = number(entry, 0, layout.word)?;
        if tag == 0 {
            break;
        }
        entries.push((tag, number(entry, layout.word, layout.word)?));
    }
    let value = |tag| {
        entries
            .iter()
            .find(|(own, _)| *own == tag)
            .map(|(_, value)| *value)
    };
    let (Some(address), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
        return Ok(());
    };
    // The table is given by its address in memory, which a loaded segment maps to a place in the file.
    let offset = segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD)
        .find_map(|segment| {
            let distance = address.checked_sub(segment.address)?;
            (distance < segment.size).then(|| segment.offset.checked_add(distance))?
        })
        .ok_or_else(malformed)?;
    let strings = read(file, offset, size)?;
    for (tag, value) in &entries {
        match *tag {
            DT_NEEDED => links.needed.push(text(&strings, *value)?),
            DT_SONAME => links.name = Some(text(&strings, *value)?),
            _ => {}
        }
    }
    Ok(())
}

fn read(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    if length > MAX_TABLE {
        return Err(malformed());
    }
    let length = usize::try_from(length).map_err(|_| malformed())?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The unsigned number of `width` bytes at `start`, in this machine's byte order.
fn number(bytes: &[u8], start: usize, width: usize) -> io::Result<u64> {
    let bytes = bytes.get(start..start + width).ok_or_else(malformed)?;
    let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Ok(if cfg!(target_endian = "little") {
        bytes.iter().rev().fold(0, fold)
    } else {
        bytes.iter().fold(0, fold)
    })
}

/// The string that begins at `start` and ends with a zero byte.
fn text(bytes: &[u8], start: u64) -> io::Result<String> {
    let start = usize::try_from(start).map_err(|_| malformed())?;
    let bytes = bytes.get(start..).ok_or_else(malformed)?;
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| malformed())
}

fn native_order() -> u8 {
    if cfg!(target_endian = "little") { 1 } else { 2 }
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it is not an ELF file of this machine",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn this_program_names_its_loader_and_libraries() {
        let links = links(&File::open("/proc/self/exe").expect("open")).expect("read");
        if links.interpreter.is_none() {
            // A static program.
            assert!(links.needed.is_empty());
            return;
        }
        assert!(
            links.needed.iter().any(|name| name.starts_with("libc")),
            "{links:?}"
        );
    }

    #[test]
    fn damaged_files_are_errors_and_never_a_panic() {
        let whole = std::fs::read("/proc/self/exe").expect("read");
        let start = &whole[..whole.len().min(4096)];
        let mut file = tempfile::tempfile().expect("temporary file");
        for index in 0..start.len().min(1024) {
            let mut damaged = start.to_vec();
            damaged[index] ^= 0xff;
            file.set_len(0).expect("truncate");
            file.write_all_at(&damaged, 0).expect("write");
            file.flush().expect("flush");
            let _ = links(&file);
        }
        file.set_len(3).expect("truncate");
        assert!(links(&file).is_err());
    }
}
