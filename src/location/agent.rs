//! The front end for nodes: one link to each, on which the broker calls it and it reports.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::broker::{Broker, Event};
use crate::ids::NodeId;
use crate::link::{Inbound, Incoming, Link, Malformed, OpenedStream, PendingNotice, Status};
use crate::protocol::messages::{
    Capacity, ContainerEnded, Holding, NodeInfo, Notice, ProcessEnded, StreamHeader, UnpackProgress,
};

/// How long a node may take to say what it is.
const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest name of a machine that is passed on, in characters: more than names of machines can have.
const LONGEST_HOSTNAME: usize = 255;

/// Serves a node until its link ends.
pub(crate) async fn serve(link: Link, mut incoming: Incoming, broker: Broker, node: NodeId) {
    let introduced = tokio::time::timeout(INTRODUCTION_TIMEOUT, introduction(&mut incoming)).await;
    let (info, holding) = match introduced {
        Ok(Ok(Some(introduced))) => introduced,
        Ok(Ok(None)) => {
            // As one does that only joins, to serve later.
            tracing::info!("node {node} connected and left again");
            return;
        }
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("node {node} connected and did not say what it is");
            return link.close().await;
        }
    };
    let info = known(&node, info);
    tracing::info!("node {node} ({}) is here", info.hostname);
    broker.node_arrived(&link, info, &holding);

    let mut tasks = JoinSet::new();
    tasks.spawn(watch(link.clone(), broker.clone(), node.clone()));
    while let Some(inbound) = incoming.next().await {
        while tasks.try_join_next().is_some() {}
        match inbound {
            Inbound::Notice(notice) => report(&notice, &node, &link, &broker),
            Inbound::Stream(stream) => {
                let (node, broker) = (node.clone(), broker.clone());
                tasks.spawn(async move { send_layer(stream, &node, &broker).await });
            }
            Inbound::Call(call) => call.unknown(),
        }
    }
    tasks.shutdown().await;
    tracing::info!("node {node} has gone");
    broker.node_left(&link, &node);
}

/// Passes on whether the node's connection is up.
async fn watch(link: Link, broker: Broker, node: NodeId) {
    let mut status = link.status();
    let mut away = false;
    // The sender lives as long as the link. Whoever is too slow to see a short loss has missed nothing.
    while let Ok(now) = status
        .wait_for(|now| matches!(now, Status::Down { .. }) != away)
        .await
    {
        if matches!(*now, Status::Closed(_)) {
            return;
        }
        drop(now);
        away = !away;
        broker.node_wavered(&link, &node);
    }
}

/// What a node says of itself, under the name that it is known by. All clients are told, and it ends up on their terminals.
fn known(node: &NodeId, info: NodeInfo) -> NodeInfo {
    let hostname = info.hostname.chars().filter(|char| !char.is_control());
    NodeInfo {
        id: node.clone(),
        hostname: hostname.take(LONGEST_HOSTNAME).collect(),
        ..info
    }
}

/// What the node says of itself first; nothing if it leaves before.
async fn introduction(incoming: &mut Incoming) -> Result<Option<(NodeInfo, Holding)>, Malformed> {
    let mut holding = Holding::default();
    while let Some(inbound) = incoming.next().await {
        let Inbound::Notice(notice) = inbound else {
            continue;
        };
        match notice.kind() {
            Holding::KIND => holding = notice.decode()?,
            Capacity::KIND => {
                let capacity: Capacity = notice.decode()?;
                return Ok(Some((capacity.node, holding)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Handles one report. What cannot be read is passed over: the node may be newer.
fn report(notice: &PendingNotice, node: &NodeId, link: &Link, broker: &Broker) {
    match notice.kind() {
        Capacity::KIND => {
            if let Ok(capacity) = notice.decode::<Capacity>() {
                broker.node_changed(link, known(node, capacity.node));
            }
        }
        ContainerEnded::KIND => {
            if let Ok(ContainerEnded { container, exit }) = notice.decode() {
                broker.node_reports(
                    node,
                    &container,
                    Event::ContainerEnded(container.clone(), exit),
                );
            }
        }
        ProcessEnded::KIND => {
            if let Ok(ProcessEnded {
                container,
                process,
                exit,
            }) = notice.decode()
            {
                broker.node_reports(
                    node,
                    &container,
                    Event::ProcessEnded(container.clone(), process, exit),
                );
            }
        }
        UnpackProgress::KIND => {
            if let Ok(UnpackProgress {
                container,
                layer,
                done,
            }) = notice.decode()
            {
                broker.node_reports(
                    node,
                    &container,
                    Event::UnpackProgress(container.clone(), layer, done),
                );
            }
        }
        other => tracing::debug!("node {node} sent an unknown notice {other}"),
    }
}

/// Sends a node a layer that one of its containers needs. Whatever fails resets the stream, by dropping it.
async fn send_layer(opened: OpenedStream, node: &NodeId, broker: &Broker) {
    let Ok((StreamHeader::Fetch { layer }, mut stream)) = opened.accept() else {
        return;
    };
    if !broker.node_needs(node, &layer) {
        return tracing::warn!(
            "node {node} asked for layer {}, which none of its containers has",
            layer.short()
        );
    }
    let sent = async {
        let mut content = broker.images().layers().open_layer(&layer)?;
        tokio::io::copy_buf(&mut content, &mut stream).await?;
        stream.shutdown().await
    };
    if let Err(error) = sent.await {
        tracing::warn!(
            "layer {} was not sent to node {node}: {error}",
            layer.short()
        );
    }
}
