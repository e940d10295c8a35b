//! Which layer a directory of an old `docker save` export holds.
//!
//! Before Docker 25, an export has a directory per layer, named by an id from the days before layers were named by their
//! content, and says which is which only at its end. But the id is a digest, over the directory's own `json` and the
//! *chain id* of the layer: the digest of the digests of all layers up to it. So for each layer of the image the id can be
//! calculated and compared, as soon as the `json` has been seen, which is before the layer itself.
//!
//! ```text
//! ID/VERSION  ID/json  ID/layer.tar      ID = sha256(json - id - os? + {layer_id: chain id, parent: "sha256:" parent})
//! ```

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use crate::ids::Digest;

/// The chain ids of layers, from the digests of their tars.
pub(super) fn chain_ids(layers: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(layers.len());
    for layer in layers {
        let id = match chain.last() {
            None => *layer,
            Some(below) => Digest::of(format!("{below} {layer}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

/// Which of the chain ids belongs to the directory `id` with this `json`; none if it is not made in this way.
pub(super) fn find_layer(id: &str, json: &[u8], chain: &[Digest]) -> Option<usize> {
    let id: Digest = id.parse().ok()?;
    let mut members = members(std::str::from_utf8(json).ok()?)?;
    members.remove("id");
    if let Some(parent) = members.get_mut("parent") {
        let digest: Digest = parent.trim_matches('"').parse().ok()?;
        *parent = format!("\"{digest}\"");
    }
    let mut without_os = members.clone();
    // The operating system is added to all but the topmost layer after their ids have been calculated.
    without_os.remove("os");
    let id_of = |members: &BTreeMap<String, String>, chain_id: &Digest| {
        let mut members = members.clone();
        members.insert("layer_id".to_owned(), format!("\"{chain_id}\""));
        Digest::of(to_json(&members).as_bytes())
    };
    chain
        .iter()
        .position(|chain_id| id_of(&members, chain_id) == id || id_of(&without_os, chain_id) == id)
}

/// The members of a JSON object with their values exactly as they are written, by name.
fn members(json: &str) -> Option<BTreeMap<String, String>> {
    let mut rest = json.trim().strip_prefix('{')?;
    let mut members = BTreeMap::new();
    loop {
        let mut names = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let name = names.next()?.ok()?;
        rest = rest[names.byte_offset()..]
            .trim_start()
            .strip_prefix(':')?
            .trim_start();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let (value, after) = rest.split_at(values.byte_offset());
        members.insert(name, value.trim_end().to_owned());
        match after.trim_start().strip_prefix(',') {
            Some(next) => rest = next,
            None => break,
        }
    }
    Some(members)
}

fn to_json(members: &BTreeMap<String, String>) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written by Docker 20.10 for an image of three layers, the third the same as the first.
    const BOTTOM: (&str, &str) = (
        "0a475a0f8eb780d617ffbe247d22041ecebd813b23d640cd65b278dd0a164acb",
        r#"{"id":"0a475a0f8eb780d617ffbe247d22041ecebd813b23d640cd65b278dd0a164acb","created":"1970-01-01T00:00:00Z","container_config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null},"os":"linux"}"#,
    );
    const MIDDLE: (&str, &str) = (
        "ef92576217fa84580ace8fb719fc8fd6ecee5b854507e00664acd1e0019f8f50",
        r#"{"id":"ef92576217fa84580ace8fb719fc8fd6ecee5b854507e00664acd1e0019f8f50","parent":"0a475a0f8eb780d617ffbe247d22041ecebd813b23d640cd65b278dd0a164acb","created":"1970-01-01T00:00:00Z","container_config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null},"os":"linux"}"#,
    );
    const TOP: (&str, &str) = (
        "006bc4dbe57f36aee542c4b007e5ff9d143b913a79e6cd74e5b18599005024d0",
        r##"{"id":"006bc4dbe57f36aee542c4b007e5ff9d143b913a79e6cd74e5b18599005024d0","parent":"ef92576217fa84580ace8fb719fc8fd6ecee5b854507e00664acd1e0019f8f50","created":"2026-11-20T03:43:25.511089269Z","container":"bf1c1635d276a8e08fd13265d33d970446d7db07b548140843ffb552aacfc4cb","container_config":{"Hostname":"bf1c1635d276","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"ExposedPorts":{"53/udp":{},"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=b"],"Cmd":["/bin/sh","-c","#(nop) ","CMD [\"/bin/sh\"]"],"Image":"sha256:1d071981ebfae74eb96bba302cfa9741a6185d5906b0c4bc6840fbda68d5b128","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{}},"docker_version":"20.10.24+dfsg1","config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"ExposedPorts":{"53/udp":{},"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=b"],"Cmd":["/bin/sh"],"Image":"sha256:1d071981ebfae74eb96bba302cfa9741a6185d5906b0c4bc6840fbda68d5b128","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null},"architecture":"amd64","os":"linux"}"##,
    );

    fn chain() -> Vec<Digest> {
        let layer = |hex: &str| hex.parse().expect("digest");
        let first = layer("0eed1f88969be6a87d11e57d041e0f51a0ff49025e8b8d96b02619c27680370a");
        let second = layer("73f3542fc48720d7b4d2d431a444358b67bdb145a7553336cf40d317dabc5256");
        chain_ids(&[first, second, first])
    }

    #[test]
    fn every_layer_is_found_by_its_directory() {
        for (expected, (id, json)) in [BOTTOM, MIDDLE, TOP].into_iter().enumerate() {
            assert_eq!(find_layer(id, json.as_bytes(), &chain()), Some(expected));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_guessed() {
        let (id, json) = MIDDLE;
        assert_eq!(find_layer(BOTTOM.0, json.as_bytes(), &chain()), None);
        assert_eq!(find_layer(id, json.as_bytes(), &chain()[..1]), None);
        assert_eq!(find_layer("l0", json.as_bytes(), &chain()), None);
        for json in [
            "",
            "{",
            "{}",
            "[]",
            "{\"a\":",
            "{\"a\" 1}",
            "{\"parent\":\"x\"}",
        ] {
            assert_eq!(find_layer(id, json.as_bytes(), &chain()), None, "{json}");
        }
    }
}
