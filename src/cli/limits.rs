//! What a container may use, as `--memory`, `--cpus` and `--pids` give it.

use crate::cli::args::Run;
use crate::cli::failure::Failure;
use crate::protocol::container::Limits;

/// The least memory that a container gets along with: what Docker asks for, too.
const LEAST_MEMORY: u64 = 6 << 20;

/// Reads the options that limit a container.
///
/// # Errors
///
/// A value that is no number, has an unknown unit, or is so small that nothing could run.
pub(crate) fn parse(options: &Run) -> Result<Limits, Failure> {
    Ok(Limits {
        memory: options.memory.as_deref().map(memory).transpose()?,
        millicpus: options.cpus.as_deref().map(millicpus).transpose()?,
        pids: options.pids,
    })
}

/// Reads a size as Docker writes it: `512m`, `1g`, `1.5GiB`, `67108864`. Units are powers of 1024.
fn memory(text: &str) -> Result<u64, Failure> {
    let invalid = || {
        Failure::arguments(format!(
            "`--memory {text}` is not a size: expected a number and b, k, m or g, as in 512m"
        ))
    };
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
        _ => return Err(invalid()),
    };
    let thousandths = thousandths(number).ok_or_else(invalid)?;
    let bytes = thousandths
        .checked_mul(1 << shift)
        .map(|product| product / 1000)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(invalid)?;
    if bytes < LEAST_MEMORY {
        return Err(Failure::arguments(format!(
            "`--memory {text}` is too little for a container: expected at least 6m"
        )));
    }
    Ok(bytes)
}

/// Reads a number of processors: `2`, `0.5`, `1.25`.
fn millicpus(text: &str) -> Result<u64, Failure> {
    thousandths(text)
        .and_then(|number| u64::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| {
            Failure::arguments(format!(
                "`--cpus {text}` is not a number of processors: expected one above 0, in steps of 0.001, as in 1.5"
            ))
        })
}

/// Reads a decimal number with at most three places, as thousandths.
fn thousandths(text: &str) -> Option<u128> {
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
    fn memory_is_read_as_docker_reads_it() {
        for (text, bytes) in [
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
            assert_eq!(memory(text), Ok(bytes), "{text}");
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
            let message = memory(text).expect_err(text).to_string();
            assert!(message.contains("expected a number and"), "{message}");
        }
        for text in ["0", "1", "5m", "0.001g"] {
            let message = memory(text).expect_err(text).to_string();
            assert!(message.contains("at least 6m"), "{message}");
        }
    }

    #[test]
    fn processors_come_in_thousandths() {
        for (text, number) in [
            ("2", 2000),
            ("0.5", 500),
            (".5", 500),
            ("1.", 1000),
            ("0.001", 1),
        ] {
            assert_eq!(millicpus(text), Ok(number), "{text}");
        }
        for text in [
            "", ".", "0", "0.000", "0.0001", "-1", "1m", "NaN", "inf", "1,5",
        ] {
            assert!(millicpus(text).is_err(), "{text}");
        }
    }
}
