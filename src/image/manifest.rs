//! The JSON documents of images: index, manifest and configuration of OCI, `manifest.json` of `docker save`.
//!
//! They come from strangers: whatever does not fit is an error in words, and nothing in them is used as a path.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::{Description, ImageConfig, Layer, Platform};
use crate::ids::Digest;

/// Longest document, in bytes: what registries accept for a manifest.
pub(super) const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;

/// Most manifests that are looked at for one image.
pub(super) const MAX_MANIFESTS: usize = 1000;

/// How deep an index may be nested in others.
pub(super) const MAX_DEPTH: usize = 4;

const ATTESTATION: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");

/// A reference from one document to another, or to a layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<DescriptorPlatform>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// Platform of a descriptor.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct DescriptorPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Descriptor {
    /// Whether this is an image, or an index of images: not a statement about one (provenance, bill of materials).
    pub(super) fn may_be_image(&self) -> bool {
        let (key, value) = ATTESTATION;
        let unknown = self
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" || platform.architecture == "unknown");
        self.annotations.get(key).map(String::as_str) != Some(value) && !unknown
    }

    /// The platform, where the descriptor says it.
    pub(super) fn platform(&self) -> Option<Platform> {
        self.platform.as_ref().map(|platform| {
            new_platform(
                &platform.os,
                &platform.architecture,
                platform.variant.as_deref(),
            )
        })
    }
}

/// A platform with an empty variant meaning none.
pub(super) fn new_platform(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant
            .filter(|variant| !variant.is_empty())
            .map(str::to_owned),
    }
}

/// An index or a manifest. Their media types are not asked: they are optional, and which it is shows in what it has.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

/// A manifest of one image.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    /// The lowest first.
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct RawDocument {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads an index or a manifest.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let raw: RawDocument = parse(json)?;
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) if manifests.len() <= MAX_MANIFESTS => {
                Ok(Self::Index(manifests))
            }
            (Some(manifests), None, None) => Err(format!(
                "it lists {} manifests, more than the {MAX_MANIFESTS} allowed",
                manifests.len()
            )),
            (None, Some(config), Some(layers)) => Ok(Self::Manifest(Manifest { config, layers })),
            _ => Err(
                "expected an index (`manifests`) or a manifest (`config` and `layers`)".to_owned(),
            ),
        }
    }
}

/// One image of a `manifest.json`, as `docker save` writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    /// Where the configuration is in the archive.
    pub(super) config: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) repo_tags: Vec<String>,
    /// Where the layers are in the archive, the lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) layers: Vec<String>,
}

/// Reads a `manifest.json`.
pub(super) fn saved_images(json: &[u8]) -> Result<Vec<SavedImage>, String> {
    parse(json)
}

#[derive(Deserialize)]
struct RawConfig {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<RunConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

/// How a container is started, in the words of Docker's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    exposed_ports: serde_json::Map<String, serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    volumes: serde_json::Map<String, serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    stop_signal: String,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}

/// Reads an image's configuration into its description; sizes of layers are not known from it.
pub(super) fn describe(config: &[u8]) -> Result<Description, String> {
    let raw: RawConfig = parse(config)?;
    let run = raw.config.unwrap_or_default();
    Ok(Description {
        id: Digest::of(config),
        platform: new_platform(&raw.os, &raw.architecture, raw.variant.as_deref()),
        layers: raw
            .rootfs
            .diff_ids
            .into_iter()
            .map(|digest| Layer { digest, size: None })
            .collect(),
        config: ImageConfig {
            env: run.env,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            working_dir: run.working_dir,
            user: run.user,
            exposed_ports: ports(run.exposed_ports.into_iter().map(|(name, _)| name)),
            volumes: run.volumes.into_iter().map(|(path, _)| path).collect(),
            stop_signal: run.stop_signal,
            labels: run.labels,
        },
    })
}

/// Reads the ports that an image exposes. One that is no port is left out: it is a hint of the image's author, and the
/// image runs without it.
pub(super) fn ports(
    names: impl Iterator<Item = String>,
) -> std::collections::BTreeSet<super::Port> {
    names
        .filter_map(|name| {
            name.parse()
                .inspect_err(|error| {
                    tracing::warn!("an exposed port of the image is ignored: {error}");
                })
                .ok()
        })
        .collect()
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| format!("{error}"))
}

/// Reads `null`, which Go writes for what is empty, as the default.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Port, Transport};

    #[test]
    fn a_configuration_of_docker_is_read_with_its_nulls() {
        let json = br#"{"architecture":"amd64","os":"linux","variant":"",
            "config":{"Env":["A=b"],"Cmd":["/bin/sh"],"Entrypoint":null,"WorkingDir":"/srv","User":"app",
                "ExposedPorts":{"80/tcp":{},"53/udp":{},"nonsense":{}},"Volumes":null,"Labels":{"a":"b"},
                "StopSignal":"SIGQUIT","OnBuild":null,"ArgsEscaped":true},
            "rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
            "history":[{"created":"1970-01-01T00:00:00Z"}]}"#;
        let description = describe(json).expect("valid");
        assert_eq!(description.id, Digest::of(json));
        assert_eq!(description.platform.to_string(), "linux/amd64");
        assert_eq!(description.layers[0].digest, Digest::of(b""));
        let config = description.config;
        assert_eq!(config.env, ["A=b"]);
        assert_eq!(config.cmd, ["/bin/sh"]);
        assert!(config.entrypoint.is_empty());
        assert_eq!(config.working_dir, "/srv");
        assert_eq!(config.user, "app");
        assert_eq!(config.stop_signal, "SIGQUIT");
        assert_eq!(config.labels["a"], "b");
        let dns = Port {
            number: 53,
            transport: Transport::Udp,
        };
        assert_eq!(config.exposed_ports, [Port::tcp(80), dns].into());
    }

    #[test]
    fn documents_are_told_apart_by_what_they_have() {
        let descriptor = format!(r#"{{"digest":"{}","size":2}}"#, Digest::of(b""));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#);
        assert!(
            matches!(Document::parse(index.as_bytes()), Ok(Document::Index(list)) if list.len() == 1)
        );
        let manifest = format!(r#"{{"config":{descriptor},"layers":[{descriptor}]}}"#);
        assert!(matches!(
            Document::parse(manifest.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        for wrong in ["{}", "[]", "", "null", r#"{"manifests":[],"layers":[]}"#] {
            assert!(Document::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn digests_that_are_paths_are_refused() {
        let json = r#"{"manifests":[{"digest":"sha256:../../../../etc/shadow","size":1}]}"#;
        assert!(Document::parse(json.as_bytes()).is_err());
    }

    #[test]
    fn attestations_are_no_images() {
        let with = |extra: &str| {
            let json = format!(r#"{{"digest":"{}","size":2{extra}}}"#, Digest::of(b""));
            serde_json::from_str::<Descriptor>(&json).expect("valid")
        };
        assert!(with("").may_be_image());
        assert!(
            !with(r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#)
                .may_be_image()
        );
        assert!(!with(r#","platform":{"os":"unknown","architecture":"unknown"}"#).may_be_image());
    }
}
