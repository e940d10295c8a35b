//! Names of services. Pure.

use crate::cli::failure::Failure;

/// Longest name: names of units have at most 255 bytes.
const MAX: usize = 200;

/// A name that was asked for.
///
/// # Errors
///
/// When it cannot be part of a unit's name.
pub(super) fn checked(name: &str) -> Result<String, Failure> {
    if !name.is_empty() && name.len() <= MAX && name.chars().all(is_plain) && !name.starts_with('.')
    {
        return Ok(name.to_owned());
    }
    Err(Failure::arguments(format!(
        "`{}` is not a name for a service: expected up to {MAX} letters, digits, `-`, `_` and `.`, which is not the first",
        name.escape_debug()
    )))
}

/// The name of an image's service, if none was asked for: the last part of the image's name, without tag and digest.
///
/// # Errors
///
/// When the image has no name.
pub(super) fn of_image(image: &str) -> Result<String, Failure> {
    let last = image
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(image);
    let name = last.split(['@', ':']).next().unwrap_or(last);
    let name = [".tar.gz", ".tar"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    checked(name).map_err(|_| {
        Failure::arguments(format!("`{image}` does not say what to call the service"))
            .hint("say it with --name NAME")
    })
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gives_its_service_a_name() {
        for (image, name) in [
            ("nginx", "nginx"),
            ("nginx:1.29", "nginx"),
            ("localhost:5000/team/web@sha256:00", "web"),
            ("./web.tar", "web"),
            ("/srv/layout/", "layout"),
        ] {
            assert_eq!(of_image(image).as_deref(), Ok(name), "{image}");
        }
        for image in [".", "..", "/", ""] {
            assert!(of_image(image).is_err(), "{image}");
        }
    }

    #[test]
    fn a_name_stays_in_its_directory_and_is_no_option() {
        for bad in [
            "",
            "a/b",
            "../a",
            ".a",
            "a b",
            "a@b",
            "a\n",
            "ü",
            "%h",
            &"a".repeat(201),
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        assert_eq!(checked("a-b_c.1").as_deref(), Ok("a-b_c.1"));
    }
}
