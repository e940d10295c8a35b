//! Durations as people type them: `90s`, `30m`, `24h`, `7d`.

use std::time::Duration;

use crate::cli::failure::Failure;

/// Units, and the seconds they have.
const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600)];

/// Ten years, in seconds.
const LONGEST: u64 = 10 * 365 * 24 * 3600;

/// The duration that `text`, the value of `option`, stands for: at least a second, at most ten years.
///
/// # Errors
///
/// When it is none.
pub(crate) fn parse(option: &str, text: &str) -> Result<Duration, Failure> {
    match parse_or_zero(option, text) {
        Ok(Duration::ZERO) => Err(invalid(option, text)),
        parsed => parsed,
    }
}

/// The same where no time at all is an answer, too: `0`, with a unit or without.
///
/// # Errors
///
/// When it is none.
pub(crate) fn parse_or_zero(option: &str, text: &str) -> Result<Duration, Failure> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let seconds = UNITS.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    seconds
        .filter(|seconds| *seconds <= LONGEST)
        .map(Duration::from_secs)
        .ok_or_else(|| invalid(option, text))
}

fn invalid(option: &str, text: &str) -> Failure {
    Failure::arguments(format!(
        "`{option} {text}` is not a duration: expected a number and a unit, as in 90s, 30m, 24h or 7d"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        for (text, seconds) in [("1s", 1), ("30m", 1800), ("24h", 86400), ("7d", 604_800)] {
            assert_eq!(parse("--expires", text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "5",
            "h",
            "0s",
            "-1h",
            "1.5h",
            "1w",
            "99999d",
            "1 h",
            "18446744073709551615d",
        ] {
            let failure = parse("--expires", text).expect_err(text);
            assert!(failure.to_string().contains("as in 90s"), "{failure}");
        }
    }

    #[test]
    fn no_time_is_a_duration_where_it_may_be() {
        for text in ["0", "0s", "0h"] {
            assert_eq!(parse_or_zero("--linger", text), Ok(Duration::ZERO));
            assert!(parse("--expires", text).is_err());
        }
        for text in ["", "00", "-0s", "5"] {
            assert!(parse_or_zero("--linger", text).is_err(), "{text}");
        }
    }
}
