//! The Docker workflow: runs what was built last and shows it, again each time this program is started.
//!
//! ```sh
//! docker build . && sudo cargo run --example docker_workflow
//! ```

#![allow(clippy::print_stderr, reason = "an example talks to who runs it")]

use tfnz::config::Config;
use tfnz::sdk::{Location, last_image};

fn main() -> anyhow::Result<()> {
    tfnz::init_if_asked();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let location = Location::connect(tfnz::dialler(&Config::from_env()?).await?).await?;
    let image = location.resolve(&last_image().await?.to_string()).await?;
    let container = location.node().await?.spawn(&image).start().await?;
    let tunnel = container.wait_http_200(80, "localhost", "/").await?;
    eprintln!("http://{} until Ctrl-C", tunnel.local_addr());

    tokio::signal::ctrl_c().await?;
    location.disconnect().await;
    Ok(())
}
