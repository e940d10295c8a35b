//! Sizes as people type them: `512m`, `1g`, `1.5GiB`, `67108864`. Units are powers of 1024, as for Docker.

/// The number of bytes that `text` stands for, if it is a size.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let unit_at = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(unit_at);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let bytes = thousandths(number)?.checked_mul(1 << shift)? / 1000;
    u64::try_from(bytes).ok()
}

/// Reads a decimal number with at most three places, as thousandths.
pub(crate) fn thousandths(text: &str) -> Option<u128> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && places.is_empty() || places.len() > 3 {
        return None;
    }
    // `parse` would let a sign pass.
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    let number = |digits: &str| {
        if digits.is_empty() {
            Some(0)
        } else {
            digits.parse::<u64>().ok().map(u128::from)
        }
    };
    Some(number(whole)? * 1000 + number(&format!("{places:0<3}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, size) in [
            ("0", 0),
            ("8388608", 8 << 20),
            ("8388608b", 8 << 20),
            ("6m", 6 << 20),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("512mb", 512 << 20),
            ("512MiB", 512 << 20),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            ("65536k", 64 << 20),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse(text), Some(size), "{text}");
        }
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        for text in [
            "",
            "m",
            ".",
            ".m",
            "-1g",
            "+1g",
            "1 g",
            "1x",
            "1gm",
            "1.2.3g",
            "1.2345g",
            "g1",
            "1e9",
            "ü",
            "99999999999999999999",
            "18446744073709551615t",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
