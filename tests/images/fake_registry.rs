//! A registry that is played by the tests, and behaves as it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::Value;
use tfnz::ids::Digest;
use tfnz::image::reference::Reference;
use tfnz::image::registry::{self, RegistryError, Settings};
use tfnz::image::{Image, Platform};

use crate::common::http::{Request, Response, serve};
use crate::common::images::Entries;

/// How a registry treats its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Good,
    /// Never sends parts of a blob.
    NoRanges,
    /// Breaks every answer of a blob off after this many bytes.
    Breaks(usize),
    /// Wants a token, which a user and password are given for.
    Tokens,
    /// Flips a bit in the middle of each layer.
    Damages,
    /// Goes on sending after the end of a blob.
    TooMuch,
}

/// A registry with one repository, `app`, of which `latest` is the given document.
pub(super) struct FakeRegistry {
    pub(super) reference: Reference,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeRegistry {
    pub(super) fn new(entries: &Entries, behaviour: Behaviour) -> Self {
        let index: Value = serde_json::from_slice(&entries.files["index.json"]).expect("valid");
        let top = index["manifests"][0]["digest"]
            .as_str()
            .expect("a digest")
            .to_owned();
        let blobs: BTreeMap<String, Vec<u8>> = entries
            .files
            .iter()
            .filter_map(|(name, content)| {
                Some((
                    format!("sha256:{}", name.strip_prefix("blobs/sha256/")?),
                    content.clone(),
                ))
            })
            .collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = requests.clone();
        let address = serve(move |request| {
            noted
                .lock()
                .expect("no panic while it was held")
                .push(request.clone());
            respond(request, &blobs, &top, behaviour)
        });
        Self {
            reference: format!("{address}/app").parse().expect("a name"),
            requests,
        }
    }

    pub(super) async fn image(&self, platform: &Platform) -> Result<Image, RegistryError> {
        registry::image(&self.reference, platform, &Settings::default()).await
    }

    /// The `Range` headers of all requests for this blob.
    pub(super) fn ranges(&self, digest: &Digest) -> Vec<Option<String>> {
        let requests = self.requests.lock().expect("no panic while it was held");
        let requests = requests
            .iter()
            .filter(|request| request.path.ends_with(&digest.to_string()));
        requests
            .map(|request| request.headers.get("range").cloned())
            .collect()
    }
}

fn respond(
    request: &Request,
    blobs: &BTreeMap<String, Vec<u8>>,
    top: &str,
    behaviour: Behaviour,
) -> Response {
    let host = &request.headers["host"];
    if behaviour == Behaviour::Tokens {
        let authorization = request.headers.get("authorization").map(String::as_str);
        if request.path.starts_with("/token") {
            let login = base64::engine::general_purpose::STANDARD.encode("user:secret");
            let right = authorization == Some(&format!("Basic {login}"));
            assert!(
                !right || request.path.contains("scope=repository%3Aapp%3Apull"),
                "{}",
                request.path
            );
            return if right {
                Response::new(200, r#"{"token":"the-token"}"#)
            } else {
                Response::new(401, "wrong password")
            };
        }
        if authorization != Some("Bearer the-token") {
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="test""#);
            return Response::new(
                401,
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#,
            )
            .header("WWW-Authenticate", challenge);
        }
    }
    if request.path == "/v2/" {
        return Response::new(200, "{}");
    }
    let (kind, name) = match request
        .path
        .strip_prefix("/v2/app/")
        .and_then(|path| path.split_once('/'))
    {
        Some(("manifests", "latest")) => ("manifests", top),
        Some((kind, name)) => (kind, name),
        None => ("", ""),
    };
    let Some(content) = blobs.get(name) else {
        return Response::new(
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#,
        );
    };
    let mut content = content.clone();
    if kind == "manifests" || content.starts_with(b"{") {
        return Response::new(200, content).header("Docker-Content-Digest", name);
    }
    if behaviour == Behaviour::Damages {
        let middle = content.len() / 2;
        content[middle] ^= 1;
    }
    if behaviour == Behaviour::TooMuch {
        content.extend(b"more".repeat(100_000));
    }
    let start = request
        .headers
        .get("range")
        .filter(|_| behaviour != Behaviour::NoRanges)
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
    let status = if start.is_some() { 206 } else { 200 };
    let mut response = Response::new(status, &content[start.unwrap_or(0)..]);
    if let Behaviour::Breaks(after) = behaviour
        && response.body.len() > after
    {
        response.cut = Some(after);
    }
    response
}
