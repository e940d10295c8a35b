//! Names of entries: where in the layer they are, and what the ones that begin with `.wh.` mean.
//!
//! Names are cleaned by their text alone, as Docker does: `./a//b/` and `/a/x/../b` are `a/b`. What is left has
//! neither a `..` nor a leading slash, and yet may lead through symbolic links; `tree` sees to those.

use super::entries::Malformed;

/// Longest name, in bytes: what the kernel takes as a path, with its final NUL.
pub const MAX_NAME: usize = 4095;

/// Longest part of a name between slashes, in bytes.
const MAX_PART: usize = 255;

/// Start of a name that hides another.
const WHITEOUT: &[u8] = b".wh.";

/// Start of names that only the union file system had a use for which layers were first made with.
const META: &[u8] = b".wh..wh.";

/// Name that hides all that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A place in a layer, as a relative path without `.` and `..`. The layer's root is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// What is there.
    Content(Name),
    /// What lower layers have under this name is gone.
    Whiteout(Name),
    /// What lower layers have in this directory is gone.
    Opaque(Name),
    /// Nothing.
    Ignored,
}

impl Name {
    /// Cleans the name of an entry, or what a hard link leads to.
    ///
    /// # Errors
    ///
    /// When it leads out of the layer, or is nothing that the kernel would take.
    pub fn clean(raw: &[u8]) -> Result<Self, Malformed> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in raw.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if parts.pop().is_none() {
                        return Err(Malformed("it leads out of the layer"));
                    }
                }
                _ if part.contains(&0) => return Err(Malformed("its name has a NUL in it")),
                _ if part.len() > MAX_PART => {
                    return Err(Malformed("a part of its name is longer than 255 bytes"));
                }
                _ => parts.push(part),
            }
        }
        let name = parts.join(&b'/');
        if name.len() > MAX_NAME {
            return Err(Malformed("its name is longer than 4095 bytes"));
        }
        Ok(Self(name))
    }

    /// The path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Path of the directory it is in, and the last part of its name; `None` for the layer's root.
    #[must_use]
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (b"", &self.0),
        })
    }
}

impl Role {
    /// What the entry called `raw` is about.
    ///
    /// # Errors
    ///
    /// When the name leads out of the layer, hides something that cannot be hidden, or is nothing that the kernel would
    /// take.
    pub fn of(raw: &[u8]) -> Result<Self, Malformed> {
        let name = Name::clean(raw)?;
        if name
            .as_bytes()
            .split(|byte| *byte == b'/')
            .any(|part| part.starts_with(META) && part != OPAQUE)
        {
            return Ok(Self::Ignored);
        }
        let Some((parent, last)) = name.split() else {
            return Ok(Self::Content(name));
        };
        if last == OPAQUE {
            return Ok(Self::Opaque(Name(parent.to_vec())));
        }
        Ok(match last.strip_prefix(WHITEOUT) {
            Some(b"" | b"." | b"..") => {
                return Err(Malformed("it hides something that has no name"));
            }
            Some(hidden) => {
                let hidden = match parent {
                    b"" => hidden.to_vec(),
                    _ => [parent, hidden].join(&b'/'),
                };
                Self::Whiteout(Name(hidden))
            }
            None => Self::Content(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(raw: &str) -> Result<String, Malformed> {
        let name = Name::clean(raw.as_bytes())?;
        Ok(String::from_utf8(name.0).expect("it was text before"))
    }

    #[test]
    fn names_are_cleaned_by_their_text() {
        for (raw, name) in [
            ("", ""),
            (".", ""),
            ("/", ""),
            ("./", ""),
            ("a/..", ""),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("a/x/../b", "a/b"),
            ("a/.../b", "a/.../b"),
        ] {
            assert_eq!(clean(raw).as_deref(), Ok(name), "{raw}");
        }
    }

    #[test]
    fn names_that_lead_out_or_cannot_be_are_refused() {
        let long = "x".repeat(256);
        let deep = "x/".repeat(3000);
        for raw in [
            "..",
            "../a",
            "a/../..",
            "/..",
            "/a/../../b",
            "a\0b",
            &long,
            &deep,
        ] {
            assert!(clean(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn whiteouts_hide_what_they_name() {
        let name = |text: &str| Name(text.as_bytes().to_vec());
        for (raw, role) in [
            ("a/b", Role::Content(name("a/b"))),
            ("./", Role::Content(name(""))),
            (".wh.a", Role::Whiteout(name("a"))),
            ("a/.wh.b/", Role::Whiteout(name("a/b"))),
            (".wh.a/b", Role::Content(name(".wh.a/b"))),
            (".wh....", Role::Whiteout(name("..."))),
            (".wh..wh..opq", Role::Opaque(name(""))),
            ("a/b/.wh..wh..opq", Role::Opaque(name("a/b"))),
            (".wh..wh.aufs", Role::Ignored),
            (".wh..wh.plnk/12.34", Role::Ignored),
        ] {
            assert_eq!(Role::of(raw.as_bytes()), Ok(role), "{raw}");
        }
        for raw in [".wh.", ".wh..", ".wh...", "a/.wh...", "a/.wh.", "../.wh.a"] {
            assert!(Role::of(raw.as_bytes()).is_err(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_out(parts in prop::collection::vec("(\\.|\\.\\.|\\.wh\\.|[a./]{0,6}|\\.wh\\.[.a]{0,3})", 0..8)) {
            let raw = parts.join("/");
            if let Ok(Role::Content(name) | Role::Whiteout(name) | Role::Opaque(name)) = Role::of(raw.as_bytes()) {
                let text = name.as_bytes();
                prop_assert!(!text.starts_with(b"/"));
                if !text.is_empty() {
                    for part in text.split(|byte| *byte == b'/') {
                        prop_assert!(!matches!(part, b"" | b"." | b".."), "{raw}");
                    }
                }
            }
        }
    }
}
