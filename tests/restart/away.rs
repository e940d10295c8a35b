//! A node whose connection is lost for a while: nobody waits for it, and what it runs is not given up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tfnz::node::Agent;
use tfnz::node::engine::fake::FakeEngine;
use tfnz::protocol::handshake::Role;
use tfnz::protocol::messages::FaultCode;
use tfnz::sdk::{Error, Location};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Site, spawn, within};

/// Passes connections on, until it is aborted, which cuts them all.
fn relay(listener: TcpListener, to: SocketAddr) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut inner, _)) = listener.accept().await {
            connections.spawn(async move {
                if let Ok(mut outer) = TcpStream::connect(to).await {
                    // How a connection ends is the test's business.
                    let _ = copy_bidirectional(&mut inner, &mut outer).await;
                }
            });
        }
    })
}

/// Waits until the client has heard of so many nodes.
async fn hears_of(location: &Location, nodes: usize) {
    within(async {
        while location.nodes().len() != nodes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_node_whose_connection_is_lost() {
    let site = Arc::new(Site::new(super::PATIENCE));
    let process = site.start();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let cable = relay(listener, site.address);
    let there = site.link_at(address, &site.node.0, Role::Node).await;
    let (link, incoming) = there.expect("the location knows the node");
    let agent = Agent::new(Arc::new(FakeEngine::new()), site.state.path().to_owned());
    let node = tokio::spawn(async move {
        agent.serve(link, incoming, &CancellationToken::new()).await;
    });

    let directory = tempfile::tempdir().expect("a directory");
    let location = site.connect(&site.ann.0).await;
    let container = spawn(&location, &directory, &["cat"]).await;
    hears_of(&location, 1).await;

    cable.abort();
    hears_of(&location, 0).await;
    let none = within(location.node()).await;
    assert!(matches!(none, Err(Error::NoNode)), "{:?}", none.err());
    let stopped = within(location.stop(container.id().as_str())).await;
    let refused = stopped.expect_err("nobody is there to stop it");
    assert_eq!(refused.fault(), Some(FaultCode::NoNode), "{refused}");
    assert_eq!(
        location.containers().await.expect("they are listed").len(),
        1
    );

    let listener = TcpListener::bind(address).await.expect("the same port");
    let _cable = relay(listener, site.address);
    hears_of(&location, 1).await;
    let nothing = within(location.stop("")).await;
    assert!(
        nothing.is_err(),
        "an unset variable of a script stops nothing"
    );
    let stopped = within(location.stop(container.id().as_str())).await;
    assert_eq!(stopped.expect("it runs on"), *container.id());

    node.abort();
    process.kill();
}
