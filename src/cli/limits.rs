//! What a container may use, as `--memory`, `--cpus` and `--pids` give it.

use crate::cli::args::Run;
use crate::cli::failure::Failure;
use crate::protocol::container::Limits;
use crate::size::{self, thousandths};

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

/// Reads a size, the value of `option`.
///
/// # Errors
///
/// When it is none.
pub(crate) fn size(option: &str, text: &str) -> Result<u64, Failure> {
    size::parse(text).ok_or_else(|| {
        Failure::arguments(format!(
            "`{option} {text}` is not a size: expected a number and b, k, m, g or t, as in 512m"
        ))
    })
}

/// Reads the memory that a container gets.
fn memory(text: &str) -> Result<u64, Failure> {
    let bytes = size("--memory", text)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_refused() {
        assert_eq!(memory("6m"), Ok(6 << 20));
        assert!(memory("6x").is_err());
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
