//! `tf resources`: the nodes of the location, and what they have to offer.

use indicatif::BinaryBytes;

use super::{json, node_value, print_result, with_location};
use crate::cli::Context;
use crate::cli::args::Resources;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::table::table;
use crate::embedded::Purpose;
use crate::protocol::messages::NodeInfo;

pub(super) async fn run(context: &Context, options: &Resources) -> Result<Ending, Failure> {
    with_location(context, Purpose::Manage, async |location| {
        let nodes = location.ranked_nodes().await?;
        let nodes: Vec<NodeInfo> = nodes.iter().map(|node| node.info().clone()).collect();
        let text = if options.json {
            json(&nodes.iter().map(node_value).collect::<Vec<_>>())
        } else {
            rows(&nodes)
        };
        print_result(&context.printer, &text)
    })
    .await
}

fn rows(nodes: &[NodeInfo]) -> String {
    let rows = nodes.iter().map(|node| {
        [
            node.id.to_string(),
            node.hostname.clone(),
            format!("{}/{}", node.platform.os, node.platform.architecture),
            node.cpus.to_string(),
            format!("{:.2}", node.load),
            format!(
                "{} of {}",
                BinaryBytes(node.memory_free),
                BinaryBytes(node.memory)
            ),
            BinaryBytes(node.disk_free).to_string(),
            node.containers.to_string(),
            if node.mean_start.is_zero() {
                String::new()
            } else {
                format!("{} ms", node.mean_start.as_millis())
            },
        ]
    });
    let heading = [
        "NODE",
        "HOST",
        "PLATFORM",
        "CPUS",
        "LOAD",
        "MEMORY",
        "DISK",
        "CONTAINERS",
        "START",
    ];
    table(heading, rows.collect())
}
