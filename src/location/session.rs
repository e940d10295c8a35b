//! The front end for clients that speak the native protocol: one link, one session.
//!
//! Calls and streams are handled at the same time, each in a task of the session's. What concerns a container is checked
//! against the session and passed to the node; the node's answer goes back as it is.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, Event, Session, call_node};
use super::limits::turn_away;
use super::upload;
use crate::ids::{ContainerId, UserId};
use crate::link::{Closed, Inbound, Incoming, Link, OpenedStream, PendingCall, answer, relay};
use crate::protocol::messages::{
    Call, ContainerBack, ContainerEnded, ContainerInfo, Continue, DescribeImage, Destroy,
    EnsureImage, Exec, ListContainers, ListImages, ListNodes, MissingLayers, NodeChanged, NodeLeft,
    ProcessEnded, RemoveImage, Resize, Signal, Spawn, Stop, StreamHeader, UnpackProgress, WaitTcp,
    Wake,
};

/// Most calls and streams that one session may have open at once.
const MAX_TASKS: usize = 4096;

/// Serves a client until its link ends or is to end, then frees what it owned.
pub(crate) async fn serve(
    link: Link,
    mut incoming: Incoming,
    broker: Broker,
    user: UserId,
    agent: String,
    ending: CancellationToken,
) {
    let _room = match broker.images().limits().session(&user).await {
        Ok(room) => room,
        Err(why) => {
            turn_away(incoming, why).await;
            return link.close().await;
        }
    };
    let (session, events) = broker.open_session(link.session().clone(), user, agent);
    let session = Arc::new(session);
    let mut tasks = JoinSet::new();
    tasks.spawn(forward_events(link, events));
    loop {
        // Somebody who is shown out gets no more of anything, also while the link says its goodbye.
        let inbound = tokio::select! {
            biased;
            () = ending.cancelled() => break,
            inbound = incoming.next() => inbound,
        };
        let Some(inbound) = inbound else { break };
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= MAX_TASKS {
            // Dropping it answers a call with a fault and resets a stream.
            tracing::warn!("a session has {MAX_TASKS} calls and streams open: one more is refused");
            continue;
        }
        let session = Arc::clone(&session);
        match inbound {
            Inbound::Call(call) => drop(tasks.spawn(async move { handle(call, &session).await })),
            Inbound::Stream(stream) => {
                drop(tasks.spawn(async move { carry(stream, &session).await }));
            }
            // Clients have no notices to give; a newer one may, and is not hindered.
            Inbound::Notice(_) => {}
        }
    }
    tasks.shutdown().await;
    session.end().await;
}

/// Sends the client its events. Ends the link when the client does not keep up with them.
async fn forward_events(link: Link, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        if notify(&link, event).await.is_err() {
            return;
        }
    }
    link.close().await;
}

async fn notify(link: &Link, event: Event) -> Result<(), Closed> {
    match event {
        Event::NodeChanged(node) => link.notify(&NodeChanged { node }).await,
        Event::NodeLeft(node) => link.notify(&NodeLeft { node }).await,
        Event::ContainerEnded(container, exit) => {
            link.notify(&ContainerEnded { container, exit }).await
        }
        Event::ProcessEnded(container, process, exit) => {
            link.notify(&ProcessEnded {
                container,
                process,
                exit,
            })
            .await
        }
        Event::ContainerBack(container, processes_ended) => {
            link.notify(&ContainerBack {
                container,
                processes_ended,
            })
            .await
        }
        Event::UnpackProgress(container, layer, done) => {
            link.notify(&UnpackProgress {
                container,
                layer,
                done,
            })
            .await
        }
    }
}

/// Handles one call.
async fn handle(call: PendingCall, session: &Session) {
    let (broker, user) = (session.broker(), session.user());
    let images = broker.images();
    match call.kind() {
        ListNodes::KIND => answer(call, async |_: ListNodes| Ok(broker.ranked_nodes())).await,
        EnsureImage::KIND => {
            answer(call, async |ensure: EnsureImage| {
                let missing = images
                    .ensure(
                        user,
                        session.pins(),
                        ensure.description,
                        ensure.names,
                        ensure.keep,
                    )
                    .await?;
                Ok(MissingLayers { missing })
            })
            .await;
        }
        DescribeImage::KIND => {
            answer(call, async |describe: DescribeImage| {
                images.find(user, &describe.name).await
            })
            .await;
        }
        ListImages::KIND => answer(call, async |_: ListImages| images.list(user).await).await,
        RemoveImage::KIND => {
            answer(call, async |remove: RemoveImage| {
                let (removed, layers) = images.remove(user, &remove.name).await?;
                broker.drop_layers(layers).await;
                Ok(removed)
            })
            .await;
        }
        Spawn::KIND => {
            answer(call, async |spawn: Spawn| {
                session
                    .spawn(spawn.container, spawn.node, spawn.image, spawn.spec)
                    .await
            })
            .await;
        }
        Destroy::KIND => {
            answer(call, async |destroy: Destroy| {
                session.destroy(destroy.container).await
            })
            .await;
        }
        ListContainers::KIND => {
            answer(call, async |_: ListContainers| {
                Ok(list_containers(session).await)
            })
            .await;
        }
        Stop::KIND => answer(call, async |stop: Stop| session.stop(&stop.container).await).await,
        Continue::KIND => {
            answer(call, async |message: Continue| {
                session.take_over(message.session).await
            })
            .await;
        }
        Wake::KIND => pass_on::<Wake>(call, session).await,
        Exec::KIND => pass_on::<Exec>(call, session).await,
        Signal::KIND => pass_on::<Signal>(call, session).await,
        Resize::KIND => pass_on::<Resize>(call, session).await,
        WaitTcp::KIND => pass_on::<WaitTcp>(call, session).await,
        _ => call.unknown(),
    }
}

/// The user's containers, with names of their images where they have some.
async fn list_containers(session: &Session) -> Vec<ContainerInfo> {
    let mut containers = session.containers();
    for container in &mut containers {
        container.image_name = session
            .broker()
            .images()
            .name(session.user(), container.image)
            .await;
    }
    containers
}

/// Passes a call that concerns a container to its node.
async fn pass_on<C: Call + OfContainer>(call: PendingCall, session: &Session) {
    answer(call, async |message: C| {
        let node = session.node_of(message.container()).await?;
        call_node(&node, &message).await
    })
    .await;
}

/// A call that concerns one container.
trait OfContainer {
    fn container(&self) -> &ContainerId;
}

macro_rules! of_container {
    ($($call:ty),*) => {
        $(impl OfContainer for $call {
            fn container(&self) -> &ContainerId {
                &self.container
            }
        })*
    };
}

of_container!(Wake, Exec, Signal, Resize, WaitTcp);

/// Handles one stream. Whatever fails resets it, by dropping it.
async fn carry(opened: OpenedStream, session: &Session) {
    let (header, stream) = match opened.accept::<StreamHeader>() {
        Ok(accepted) => accepted,
        Err(malformed) => return tracing::debug!("a client's stream was refused: {malformed}"),
    };
    match &header {
        StreamHeader::Tunnel { container, .. } | StreamHeader::Stdio { container, .. } => {
            let Ok(node) = session.node_of(container).await else {
                return;
            };
            let Ok(onward) = node.open(&header).await else {
                return;
            };
            let _ = relay(stream, onward).await;
        }
        StreamHeader::Upload { layer, offset } => {
            upload::receive(stream, session, *layer, *offset).await;
        }
        StreamHeader::Fetch { .. } => {
            tracing::debug!("a client asked for a layer, which only nodes may");
        }
    }
}
