//! Records of a PAX extended header: `LENGTH KEY=VALUE\n`, where the length counts the whole record.
//!
//! Values are arbitrary bytes and may hold line ends (access lists and capabilities do), so records are told apart by
//! their lengths alone.

use super::entries::{Malformed, Time};

/// Prefix of the records that carry extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// Prefix of the records that say where a sparse file has its content.
const SPARSE: &[u8] = b"GNU.sparse.";

/// What an extended header says of the entry that follows. What it does not say is in the entry's own header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Name of the entry.
    pub path: Option<Vec<u8>>,
    /// What a link leads to.
    pub linkpath: Option<Vec<u8>>,
    /// Length of the content in the archive, in bytes.
    pub size: Option<u64>,
    /// Owner.
    pub uid: Option<u64>,
    /// Group.
    pub gid: Option<u64>,
    /// Time of the last change.
    pub mtime: Option<Time>,
    /// Extended attributes, in order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What follows `GNU.sparse.`, and its value, in order: one version of the format repeats keys.
    pub sparse: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Records {
    /// Reads the content of an extended header.
    ///
    /// # Errors
    ///
    /// When a record's length is not what it says, or a value that matters is not what it should be.
    pub fn parse(mut text: &[u8]) -> Result<Self, Malformed> {
        let mut records = Self::default();
        while !text.is_empty() {
            let (key, value, rest) =
                split_record(text).ok_or(Malformed("an extended header has a torn record"))?;
            records.take(key, value)?;
            text = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        // An empty value takes back what an earlier header said.
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| name(value)).transpose()?,
            b"linkpath" => self.linkpath = given.then(|| name(value)).transpose()?,
            b"size" => self.size = given.then(|| number(value)).transpose()?,
            b"uid" => self.uid = given.then(|| number(value)).transpose()?,
            b"gid" => self.gid = given.then(|| number(value)).transpose()?,
            b"mtime" => self.mtime = given.then(|| time(value)).transpose()?,
            _ => {
                if let Some(attribute) = key.strip_prefix(XATTR) {
                    self.xattrs.push((attribute.to_vec(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix(SPARSE) {
                    self.sparse.push((key.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// The last value of `GNU.sparse.` and `key`.
    #[must_use]
    pub fn sparse(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.sparse.iter().rev().find(|(found, _)| found == key);
        found.map(|(_, value)| value.as_slice())
    }
}

/// Key and value of the first record, and what follows it.
fn split_record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // A length has at most seven digits, since the whole header is at most a mebibyte.
    let space = text.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&text[..space]).ok()?).ok()?;
    let (record, rest) = text.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

fn name(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    if value.contains(&0) {
        return Err(Malformed("a name in an extended header has a NUL in it"));
    }
    Ok(value.to_vec())
}

/// A decimal number without a sign.
pub(super) fn number(value: &[u8]) -> Result<u64, Malformed> {
    let bad = Malformed("an extended header has a number that is none");
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    let text = str::from_utf8(value).map_err(|_| bad)?;
    text.parse().map_err(|_| bad)
}

/// Seconds since the epoch with an optional sign and fraction.
fn time(value: &[u8]) -> Result<Time, Malformed> {
    let bad = Malformed("an extended header has a time that is none");
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let dot = value.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match dot {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    if whole.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    let seconds = i64::try_from(number(whole)?).map_err(|_| bad)?;
    let nanoseconds = (0..9).fold(0, |nanoseconds, place| {
        let digit = fraction.get(place).map_or(0, |digit| digit - b'0');
        nanoseconds * 10 + u32::from(digit)
    });
    // The kernel counts nanoseconds upwards, before the epoch too.
    Ok(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_line_ends_and_equals_signs() {
        let records = Records::parse(b"31 SCHILY.xattr.user.a=1\n2=3\n\0\n12 path=abc\n")
            .expect("two records");
        assert_eq!(
            records.xattrs,
            [(b"user.a".to_vec(), b"1\n2=3\n\0".to_vec())]
        );
        assert_eq!(records.path, Some(b"abc".to_vec()));
    }

    #[test]
    fn times_before_the_epoch_count_upwards() {
        let at = |text: &str| {
            let Time {
                seconds,
                nanoseconds,
            } = time(text.as_bytes()).expect("a time");
            (seconds, nanoseconds)
        };
        assert_eq!(at("12"), (12, 0));
        assert_eq!(at("12.5"), (12, 500_000_000));
        assert_eq!(at("12.0000000019"), (12, 1));
        assert_eq!(at("-1"), (-1, 0));
        assert_eq!(at("-1.25"), (-2, 750_000_000));
        for text in ["", "-", ".5", "1.x", "+1", "99999999999999999999", "1e3"] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn torn_records_are_refused() {
        for text in [
            &b"x"[..],
            b"12 path=abc",
            b"13 path=abc\n",
            b"11 path=abc\n",
            b"3 \n",
            b"5 =a\n",
            b"99999999999999999999 path=abc\n",
            b"0 path=abc\n",
            b"-1 path=abc\n",
            b" path=abc\n",
        ] {
            assert!(
                Records::parse(text).is_err(),
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn names_with_a_nul_are_refused() {
        assert!(Records::parse(b"13 path=a\0bc\n").is_err());
    }

    #[test]
    fn an_empty_value_takes_an_earlier_one_back() {
        let records = Records::parse(b"9 size=3\n8 size=\n").expect("two records");
        assert_eq!(records.size, None);
    }
}
