//! Names of images, read the way Docker reads them.
//!
//! `nginx` means `docker.io/library/nginx:latest`; `localhost:5000/app@sha256:…` names a registry, a repository and an
//! exact content. Only names are read here: whether such an image exists, others find out.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::ids::Digest;

/// Registry of a name that has none.
pub const DOCKER_HUB: &str = "docker.io";

/// Tag of a name that has neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// Longest registry and repository together, in characters.
const MAX_NAME: usize = 255;

/// Longest tag, in characters.
const MAX_TAG: usize = 128;

/// A name of an image with all that Docker leaves out filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of an image: {reason}")]
pub struct InvalidReference {
    text: String,
    reason: String,
}

impl Reference {
    /// Host and port of the registry; [`DOCKER_HUB`] stands for Docker Hub, whatever its hosts are called.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. A name with a digest need not have one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest that it must be, if the name says so.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether the registry is this machine, as its name alone tells: the only case in which plain HTTP is used.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => return rest.split(']').next() == Some("::1"),
            None => self.registry.split(':').next().unwrap_or_default(),
        };
        host == "localhost"
            || host
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// The name as people write it: without what Docker fills in.
    #[must_use]
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        let text = text
            .strip_prefix("docker.io/library/")
            .or_else(|| text.strip_prefix("docker.io/"))
            .unwrap_or(&text);
        if self.digest.is_some() {
            return text.to_owned();
        }
        text.strip_suffix(":latest").unwrap_or(text).to_owned()
    }
}

impl fmt::Display for Reference {
    /// Writes the canonical name: registry, repository, tag and digest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|reason| InvalidReference {
            text: text.to_owned(),
            reason,
        })
    }
}

/// The image id that the text is, if it is a whole one: Docker reads 64 hexadecimal digits as an id, never as a name.
#[must_use]
pub fn image_id(text: &str) -> Option<Digest> {
    text.parse().ok()
}

/// Whether the text can be the start of an image id.
#[must_use]
pub fn may_be_short_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (4..=64).contains(&hex.len())
        && hex
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if image_id(text).is_some() {
        return Err(
            "it is an image id; names have other characters than hexadecimal digits".to_owned(),
        );
    }
    let (rest, digest) = match text.split_once('@') {
        None => (text, None),
        Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
    };
    // A colon after the last slash begins a tag; one before it belongs to the registry's port.
    let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[path_start..].find(':') {
        None => (rest, None),
        Some(colon) => {
            let (name, tag) = rest.split_at(path_start + colon);
            (name, Some(&tag[1..]))
        }
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, repository) = split_registry(name)?;
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(format!("it is longer than {MAX_NAME} characters"));
    }
    let tag = match (tag, digest) {
        (None, None) => Some(DEFAULT_TAG),
        (tag, _) => tag,
    };
    Ok(Reference {
        registry,
        repository,
        tag: tag.map(str::to_owned),
        digest,
    })
}

fn parse_digest(text: &str) -> Result<Digest, String> {
    match text.split_once(':') {
        Some(("sha256", _)) => text.parse().map_err(|error| format!("{error}")),
        Some((algorithm, _)) => Err(format!(
            "the digest algorithm `{algorithm}` is not supported, only sha256 is"
        )),
        None => {
            Err("after `@`, a digest is expected (`sha256:` and 64 hexadecimal digits)".to_owned())
        }
    }
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag
            .bytes()
            .all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if valid {
        return Ok(());
    }
    Err(format!(
        "the tag `{tag}` must be 1 to {MAX_TAG} letters, digits, `_`, `.` or `-`, and begin with none of the last two"
    ))
}

/// Splits the name into registry and repository, both complete and valid.
fn split_registry(name: &str) -> Result<(String, String), String> {
    let is_registry = |part: &str| {
        part == "localhost"
            || part.contains(['.', ':', '['])
            || part.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (first, path),
        _ => (DOCKER_HUB, name),
    };
    let registry = if registry == "index.docker.io" {
        DOCKER_HUB
    } else {
        registry
    };
    check_registry(registry)?;
    for component in path.split('/') {
        check_component(component)?;
    }
    let repository = if registry == DOCKER_HUB && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    Ok((registry.to_owned(), repository))
}

fn check_registry(registry: &str) -> Result<(), String> {
    let invalid = || format!("`{registry}` is not a host name with an optional port");
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
            ("", rest)
        }
        None => registry
            .find(':')
            .map_or((registry, ""), |colon| registry.split_at(colon)),
    };
    if let Some(port) = port.strip_prefix(':') {
        let number = port.parse::<u16>().map_err(|_| invalid())?;
        if number == 0 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
    } else if !port.is_empty() {
        return Err(invalid());
    }
    if registry.starts_with('[') {
        return Ok(());
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if host.split('.').all(label) {
        Ok(())
    } else {
        Err(invalid())
    }
}

/// Checks one part of the path between slashes: runs of lower case letters and digits, joined by `.`, `_`, `__` or dashes.
fn check_component(component: &str) -> Result<(), String> {
    if component.is_empty() {
        return Err("a part between slashes is empty".to_owned());
    }
    if component.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("the repository must be in lower case".to_owned());
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators_valid = component
        .split(|character: char| u8::try_from(character).is_ok_and(plain))
        .filter(|separator| !separator.is_empty())
        .all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        });
    let bytes = component.as_bytes();
    let ends_plain = plain(bytes[0]) && plain(bytes[bytes.len() - 1]);
    if separators_valid && ends_plain {
        return Ok(());
    }
    Err(format!(
        "`{component}` must be lower case letters and digits, with single `.`, `_`, `__` or dashes only between them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn canonical(text: &str) -> String {
        text.parse::<Reference>()
            .unwrap_or_else(|error| panic!("{error}"))
            .to_string()
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("user/app", "docker.io/user/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("ghcr.io/Owner-less/app", ""),
            ("quay.io/a/b__c.d-e", "quay.io/a/b__c.d-e:latest"),
            ("REGISTRY/app", "REGISTRY/app:latest"),
            ("a/b/c", "docker.io/a/b/c:latest"),
        ] {
            if expected.is_empty() {
                assert!(text.parse::<Reference>().is_err(), "{text}");
            } else {
                assert_eq!(canonical(text), expected);
            }
        }
    }

    #[test]
    fn digests_stand_in_for_the_default_tag() {
        assert_eq!(
            canonical(&format!("nginx@sha256:{HEX}")),
            format!("docker.io/library/nginx@sha256:{HEX}")
        );
        assert_eq!(
            canonical(&format!("localhost:5000/x:y@sha256:{HEX}")),
            format!("localhost:5000/x:y@sha256:{HEX}")
        );
    }

    #[test]
    fn malformed_names_are_refused_with_a_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("Nginx", "lower case"),
            ("nginx:", "tag"),
            ("nginx:-x", "tag"),
            ("nginx:a:b", "tag"),
            ("/nginx", "empty"),
            ("nginx/", "empty"),
            ("a//b", "empty"),
            ("../containers", "`..`"),
            ("a/../b", "`..`"),
            ("a..b", "`a..b`"),
            ("-a", "`-a`"),
            ("a_", "`a_`"),
            ("a?b=c", "`a?b=c`"),
            ("a%2e", "`a%2e`"),
            ("näh", "`näh`"),
            ("localhost:/x", "port"),
            ("localhost:99999/x", "port"),
            ("localhost:+5/x", "port"),
            ("[::1/x", "port"),
            ("nginx@sha256:1234", "digest"),
            ("nginx@md5:d41d8cd98f00b204e9800998ecf8427e", "only sha256"),
            ("nginx@", "digest"),
            (HEX, "image id"),
        ] {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(
            "a/".repeat(150)
                .trim_end_matches('/')
                .parse::<Reference>()
                .is_err()
        );
        assert!(
            format!("a:{}", "t".repeat(129))
                .parse::<Reference>()
                .is_err()
        );
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (text, expected) in [
            ("localhost/x", true),
            ("localhost:5000/x", true),
            ("127.0.0.1:5000/x", true),
            ("127.9.9.9/x", true),
            ("[::1]:5000/x", true),
            ("[::2]:5000/x", false),
            ("localhost.example.org/x", false),
            ("127.0.0.1.example.org/x", false),
            ("10.0.0.1:5000/x", false),
            ("nginx", false),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn familiar_names_leave_out_what_docker_fills_in() {
        for text in [
            "nginx",
            "nginx:1",
            "user/app",
            "localhost:5000/app",
            "localhost:5000/app:v1",
        ] {
            assert_eq!(text.parse::<Reference>().expect(text).familiar(), text);
        }
    }

    #[test]
    fn ids_and_their_starts_are_told_from_names() {
        assert_eq!(image_id(HEX), Some(Digest::of(b"")));
        assert!(may_be_short_id(&HEX[..12]));
        assert!(!may_be_short_id("nginx"));
        assert!(!may_be_short_id("abc"));
    }
}
