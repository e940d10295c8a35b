//! Archives that no decent program would write.

use tar::{EntryType, Header};

/// A tar under construction. Entries are written as they are told, sense or none.
#[derive(Default)]
pub(super) struct Archive(Vec<u8>);

impl Archive {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// An entry of type `kind` with this name, link and content. Long names get what GNU tar has for them.
    pub(super) fn entry(
        self,
        kind: EntryType,
        name: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
        content: impl AsRef<[u8]>,
    ) -> Self {
        self.with(kind, name, link, content, |_| ())
    }

    /// As [`Archive::entry`], with changes to the header before its checksum is made.
    pub(super) fn with(
        mut self,
        kind: EntryType,
        name: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
        content: impl AsRef<[u8]>,
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let (name, link, content) = (name.as_ref(), link.as_ref(), content.as_ref());
        for (kind, long) in [
            (EntryType::GNULongName, name),
            (EntryType::GNULongLink, link),
        ] {
            if long.len() > 100 {
                self.block(kind, b"././@LongLink", b"", &[long, b"\0"].concat(), |_| ());
            }
        }
        let short = |name: &[u8]| name[..name.len().min(100)].to_vec();
        self.block(kind, &short(name), &short(link), content, change);
        self
    }

    fn block(
        &mut self,
        kind: EntryType,
        name: &[u8],
        link: &[u8],
        content: &[u8],
        change: impl FnOnce(&mut Header),
    ) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(content.len() as u64);
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..link.len()].copy_from_slice(link);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// An extended header for the entry that follows.
    pub(super) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.block(EntryType::XHeader, b"pax", b"", &content, |_| ());
        self
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content)
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", "")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, "")
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, "")
    }

    pub(super) fn device(self, kind: EntryType, name: &str, major: u32, minor: u32) -> Self {
        self.with(kind, name, "", "", |header| {
            header.set_device_major(major).expect("a GNU header");
            header.set_device_minor(minor).expect("a GNU header");
        })
    }

    /// The archive with its end mark.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// The archive as it is so far.
    pub(super) fn torn(self) -> Vec<u8> {
        self.0
    }
}
