//! Which of the platforms that an image was made for is the right one.

use super::Platform;

/// An image that cannot run where it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the image is made for {}, but is to run on {wanted}: build or pull it for that platform \
     (`docker build --platform {wanted} ...`, `docker pull --platform {wanted} ...`)",
    list(.available)
)]
pub struct WrongPlatform {
    /// What the image is made for.
    pub available: Vec<Platform>,
    /// What runs it.
    pub wanted: Platform,
}

/// Checks that an image for `image` runs on `wanted`.
pub(super) fn check(image: &Platform, wanted: &Platform) -> Result<(), WrongPlatform> {
    if wanted.runs(image) {
        return Ok(());
    }
    Err(WrongPlatform {
        available: vec![image.clone()],
        wanted: wanted.clone(),
    })
}

/// The candidates that suit `wanted` best: several only if nothing tells them apart.
///
/// The exact variant goes before none, none before another one, and the processor's own architecture before one that it
/// can run as well.
pub(super) fn best<T>(
    candidates: Vec<(Platform, T)>,
    wanted: &Platform,
) -> Result<Vec<T>, WrongPlatform> {
    let rank = |platform: &Platform| {
        let architecture = platform.architecture == wanted.architecture;
        let variant = if platform.variant == wanted.variant {
            2
        } else {
            u8::from(platform.variant.is_none() || is_default_variant(platform))
        };
        wanted.runs(platform).then_some((architecture, variant))
    };
    let Some(highest) = candidates
        .iter()
        .filter_map(|(platform, _)| rank(platform))
        .max()
    else {
        let mut available: Vec<_> = candidates
            .into_iter()
            .map(|(platform, _)| platform)
            .collect();
        available.dedup();
        return Err(WrongPlatform {
            available,
            wanted: wanted.clone(),
        });
    };
    Ok(candidates
        .into_iter()
        .filter(|(platform, _)| rank(platform) == Some(highest))
        .map(|(_, candidate)| candidate)
        .collect())
}

/// Whether the variant says no more than the architecture.
fn is_default_variant(platform: &Platform) -> bool {
    matches!(
        (platform.architecture.as_str(), platform.variant.as_deref()),
        ("arm64", Some("v8")) | ("amd64", Some("v1"))
    )
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<_> = platforms.iter().map(ToString::to_string).collect();
    match names.split_last() {
        None => "no platform at all".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform {
            os: parts.next().expect("os"),
            architecture: parts.next().expect("architecture"),
            variant: parts.next(),
        }
    }

    fn choose<'a>(candidates: &[&'a str], wanted: &str) -> Result<Vec<&'a str>, WrongPlatform> {
        let candidates = candidates
            .iter()
            .map(|text| (platform(text), *text))
            .collect();
        best(candidates, &platform(wanted))
    }

    #[test]
    fn the_most_fitting_platform_is_chosen() {
        for (candidates, wanted, expected) in [
            ("linux/arm64 linux/amd64", "linux/amd64", "linux/amd64"),
            ("linux/386 linux/amd64", "linux/amd64", "linux/amd64"),
            ("linux/386 linux/arm64", "linux/amd64", "linux/386"),
            ("windows/amd64 linux/amd64", "linux/amd64", "linux/amd64"),
            ("linux/amd64/v3 linux/amd64", "linux/amd64", "linux/amd64"),
            (
                "linux/amd64/v3 linux/amd64/v1",
                "linux/amd64",
                "linux/amd64/v1",
            ),
            (
                "linux/arm64/v9 linux/arm64/v8",
                "linux/arm64",
                "linux/arm64/v8",
            ),
            ("linux/arm/v6 linux/arm/v7", "linux/arm/v7", "linux/arm/v7"),
        ] {
            let candidates: Vec<_> = candidates.split(' ').collect();
            assert_eq!(choose(&candidates, wanted), Ok(vec![expected]));
        }
    }

    #[test]
    fn no_fitting_platform_is_an_error_that_names_all() {
        let error = choose(&["linux/arm64", "linux/s390x"], "linux/amd64").expect_err("none fits");
        let text = error.to_string();
        for part in [
            "linux/arm64 and linux/s390x",
            "run on linux/amd64",
            "--platform linux/amd64",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
