//! The first program: runs an image (nginx, unless another is named) and opens it in the desktop's web browser.
//!
//! ```sh
//! sudo cargo run --example quickstart -- hello
//! ```

#![allow(clippy::print_stderr, reason = "an example talks to who runs it")]

use tfnz::config::Config;
use tfnz::sdk::Location;

fn main() -> anyhow::Result<()> {
    // Containers are made by this program running itself again. This is where it finds out that it is such a run.
    tfnz::init_if_asked();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let image = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "nginx".to_owned());

    let location = Location::connect(tfnz::dialler(&Config::from_env()?).await?).await?;
    let image = location.resolve(&image).await?;
    let container = location.node().await?.spawn(&image).start().await?;
    let tunnel = container.attach_browser(80, "localhost", "/").await?;
    eprintln!("http://{} until Ctrl-C", tunnel.local_addr());

    tokio::signal::ctrl_c().await?;
    location.disconnect().await;
    Ok(())
}
