//! `tf cache`: images that the location keeps.

use std::collections::BTreeMap;
use std::time::SystemTime;

use indicatif::BinaryBytes;

use super::{json, print_result, with_location};
use crate::cli::Context;
use crate::cli::args::CacheVerb;
use crate::cli::bars::Bars;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::table::{ago, table};
use crate::embedded::Purpose;
use crate::ids::Digest;
use crate::protocol::messages::CachedImage;

pub(super) async fn run(context: &Context, verb: CacheVerb) -> Result<Ending, Failure> {
    match verb {
        CacheVerb::Add { image } => add(context, &image).await,
        CacheVerb::Ls { json } => list(context, json).await,
        CacheVerb::Rm { images } => remove(context, &images).await,
    }
}

async fn add(context: &Context, name: &str) -> Result<Ending, Failure> {
    with_location(context, Purpose::Manage, async |location| {
        let image = location.resolve(name).await?;
        let bars = Bars::with_summary(&context.printer);
        let kept = location.cache_image(&image, &bars).await;
        bars.clear();
        kept?;
        let id = image.description.id.short();
        context
            .printer
            .info(format_args!("the location keeps {name} ({id})"));
        Ok(Ending::Done)
    })
    .await
}

async fn list(context: &Context, as_json: bool) -> Result<Ending, Failure> {
    with_location(context, Purpose::Manage, async |location| {
        let mut images = location.cached_images().await?;
        images.sort_by_key(|image| std::cmp::Reverse(image.last_used));
        let text = if as_json {
            json(&images)
        } else {
            listing(&images, SystemTime::now())
        };
        print_result(&context.printer, &text)
    })
    .await
}

/// Removes all that can be removed, and says what could not.
async fn remove(context: &Context, names: &[String]) -> Result<Ending, Failure> {
    with_location(context, Purpose::Manage, async |location| {
        let mut ending = Ending::Done;
        for name in names {
            match location.remove_image(name).await {
                Ok(removed) => context.printer.note(format_args!(
                    "removed {name} ({}), {} freed",
                    removed.id.short(),
                    BinaryBytes(removed.freed)
                )),
                Err(error) => {
                    context.printer.error(Failure::from(error));
                    ending = Ending::Failed;
                }
            }
        }
        Ok(ending)
    })
    .await
}

/// The images, one a line, and what they take together.
fn listing(images: &[CachedImage], now: SystemTime) -> String {
    let rows = images.iter().map(|image| {
        // One from a file may have none.
        let names: Vec<&str> = image.names.iter().map(|name| familiar(name)).collect();
        [
            names.join(","),
            image.description.id.short(),
            BinaryBytes(image.size).to_string(),
            BinaryBytes(image.unique).to_string(),
            if image.kept { "yes" } else { "no" }.to_owned(),
            ago(now, image.last_used),
        ]
    });
    let heading = ["IMAGE", "ID", "SIZE", "FREES", "KEPT", "USED"];
    let table = table(heading, rows.collect());
    format!("{table}{} altogether\n", BinaryBytes(altogether(images)))
}

/// Space that all images take together, with layers that several of them have counted once.
fn altogether(images: &[CachedImage]) -> u64 {
    let layers: BTreeMap<Digest, u64> = images
        .iter()
        .flat_map(|image| image.description.layers.iter().zip(&image.stored))
        .map(|(layer, stored)| (layer.digest, *stored))
        .collect();
    layers.values().sum()
}

/// A canonical name without the parts that Docker does not show either.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::image::{Description, ImageConfig, Layer, Platform};

    /// An image of layers with these names, each of a MiB at the location.
    fn image(name: &str, layers: &[&str], unique: u64) -> CachedImage {
        let layers: Vec<Layer> = layers
            .iter()
            .map(|layer| Layer {
                digest: Digest::of(layer.as_bytes()),
                size: None,
            })
            .collect();
        CachedImage {
            size: (layers.len() as u64) << 20,
            stored: vec![1 << 20; layers.len()],
            description: Description {
                id: Digest::of(name.as_bytes()),
                platform: Platform::host(),
                layers,
                config: ImageConfig::default(),
            },
            names: vec![format!("docker.io/library/{name}")],
            unique: unique << 20,
            kept: true,
            last_used: 1000,
        }
    }

    #[test]
    fn shared_layers_are_counted_once() {
        let images = [
            image("web:latest", &["base", "web"], 1),
            image("db:15", &["base", "db"], 1),
        ];
        assert_eq!(altogether(&images), 3 << 20);
        let text = listing(&images, UNIX_EPOCH + Duration::from_secs(1120));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["IMAGE", "ID", "SIZE", "FREES", "KEPT", "USED"]
        );
        assert!(lines[1].starts_with("web:latest  "), "{text}");
        assert!(
            lines[1].ends_with("2.00 MiB  1.00 MiB  yes   2 minutes ago"),
            "{text}"
        );
        assert!(lines[2].starts_with("db:15       "), "{text}");
        assert_eq!(lines[3], "3.00 MiB altogether");
    }

    #[test]
    fn names_are_shown_as_docker_shows_them() {
        assert_eq!(familiar("docker.io/library/nginx:1"), "nginx:1");
        assert_eq!(familiar("docker.io/me/web:1"), "me/web:1");
        assert_eq!(familiar("ghcr.io/library/web:1"), "ghcr.io/library/web:1");
    }
}
