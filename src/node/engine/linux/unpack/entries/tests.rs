//! Tests of reading archives, good and damaged.

use proptest::prelude::*;

use super::*;

/// An archive with something of everything that has its own code here.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut append = |kind, name: &str, content: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(1000);
        header.set_gid(1 << 30);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        if kind == EntryType::GNUSparse {
            let header = header.as_gnu_mut().expect("a GNU header");
            header.set_real_size(5000);
            header.sparse[0].set_offset(100);
            header.sparse[0].set_length(content.len() as u64);
        }
        builder
            .append_data(&mut header, name, content)
            .expect("it is written to memory");
    };
    append(EntryType::Directory, "dir/", b"");
    append(EntryType::Regular, "dir/file", &[b'x'; 1000]);
    append(EntryType::Regular, &"long/".repeat(50), b"content");
    append(EntryType::GNUSparse, "sparse", &[b'y'; 700]);
    let records: [(&str, &[u8]); 3] = [
        ("path", b"from the extended header"),
        ("mtime", b"-1.5"),
        ("SCHILY.xattr.user.a", b"1\n2"),
    ];
    builder.append_pax_extensions(records).expect("written");
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    header.set_link_name("target").expect("short");
    header.set_cksum();
    builder.append(&header, &b""[..]).expect("written");
    builder.into_inner().expect("written")
}

/// All entries with their content.
fn read(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ReadError> {
    let mut entries = Entries::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry()? {
        let mut content = Vec::new();
        loop {
            let ready = entries.content()?;
            let length = ready.len();
            if length == 0 {
                break;
            }
            content.extend_from_slice(ready);
            entries.consume(length);
        }
        found.push((entry, content));
    }
    Ok(found)
}

#[test]
fn entries_are_read_in_order() {
    let found = read(&archive()).expect("a good archive");
    let names: Vec<_> = found
        .iter()
        .map(|(entry, content)| (entry.name.as_slice(), entry.kind, content.len()))
        .collect();
    let long = "long/".repeat(50);
    assert_eq!(
        names,
        [
            (&b"dir/"[..], Kind::Directory, 0),
            (b"dir/file", Kind::File, 1000),
            (long.as_bytes(), Kind::File, 7),
            (b"sparse", Kind::File, 700),
            (b"from the extended header", Kind::Symlink, 0),
        ]
    );
    let (file, _) = &found[1];
    assert_eq!((file.mode, file.uid, file.gid), (0o4755, 1000, 1 << 30));
    assert_eq!(file.mtime.seconds, 1_000_000_000);
    let (sparse, _) = &found[3];
    assert_eq!(sparse.sparse.as_ref().map(|map| map.size), Some(5000));
    let (link, _) = &found[4];
    assert_eq!(link.link, b"target");
    assert_eq!(link.mtime.seconds, -2);
    assert_eq!(link.xattrs, [(b"user.a".to_vec(), b"1\n2".to_vec())]);
}

#[test]
fn content_that_nobody_reads_is_skipped() {
    let archive = archive();
    let mut entries = Entries::new(&archive[..]);
    let mut count = 0;
    while entries.next_entry().expect("a good archive").is_some() {
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn numbers_are_octal_or_binary() {
    for (field, number) in [
        (&b"0000644\0"[..], Some(0o644)),
        (b"   644 \0", Some(0o644)),
        (b"77777777", Some(0o7777_7777)),
        (b"\0\0\0\0", Some(0)),
        (b"        ", Some(0)),
        (b"\x80\0\0\x01\0", Some(256)),
        (b"\xff\xff\xff\xfe", Some(-2)),
        (b"\xbf\xff", Some(0x3fff)),
        (b"0x10\0", None),
        (b"-1\0", None),
        (b"8\0", None),
        (b"\xa0\0\0\0\0\0\0\0\0\0\0\0", None),
        (b"", None),
    ] {
        assert_eq!(numeric(field), number, "{field:?}");
    }
}

#[test]
fn links_and_directories_have_no_content_whatever_they_say() {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Link);
    header.set_size(1 << 30);
    header.set_cksum();
    let archive = [&header.as_bytes()[..], &archive()].concat();
    assert_eq!(read(&archive).expect("a good archive").len(), 6);
}

proptest! {
    #[test]
    fn damaged_archives_do_not_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
        fix in any::<bool>(),
    ) {
        let mut archive = archive();
        for (place, byte) in flips {
            let place = place.index(archive.len());
            archive[place] = byte;
            if fix {
                // Most damage is found by the checksum: make it pass.
                let start = place / BLOCK * BLOCK;
                let mut header = Header::from_byte_slice(&archive[start..start + BLOCK]).clone();
                if header.as_gnu().is_some() || header.as_ustar().is_some() {
                    header.set_cksum();
                    archive[start..start + BLOCK].copy_from_slice(header.as_bytes());
                }
            }
        }
        archive.truncate(length.index(archive.len() + 1));
        let _ = read(&archive);
    }

    #[test]
    fn a_header_of_random_bytes_does_not_panic(
        bytes in prop::collection::vec(any::<u8>(), BLOCK..4 * BLOCK),
        kind in prop::sample::select(&b"\x0001234567SxgLK"[..]),
        ustar in any::<bool>(),
    ) {
        let mut bytes = bytes;
        let mut header = Header::from_byte_slice(&bytes[..BLOCK]).clone();
        header.as_old_mut().linkflag = [kind];
        header.as_old_mut().size = *b"00000000700\0";
        header.as_old_mut().uid = [0; 8];
        header.as_old_mut().gid = [0; 8];
        header.as_old_mut().mode = [0; 8];
        header.as_old_mut().mtime = [0; 12];
        let magic: &[u8; 8] = if ustar { b"ustar\x0000" } else { b"ustar  \0" };
        header.as_mut_bytes()[257..265].copy_from_slice(magic);
        header.set_cksum();
        bytes[..BLOCK].copy_from_slice(header.as_bytes());
        let _ = read(&bytes);
    }
}
