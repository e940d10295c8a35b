//! x
use std::time::Instant;
use tfnz::config::Config;
use tfnz::protocol::container::Stdio;
use tfnz::sdk::Location;
fn main() -> anyhow::Result<()> {
    tfnz::init_if_asked();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Runtime::new()?.block_on(run())
}
async fn run() -> anyhow::Result<()> {
    let t = Instant::now();
    let location = Location::connect(tfnz::dialler(&Config::from_env()?).await?).await?;
    eprintln!("connected {:?}", t.elapsed());
    let image = location.resolve("hello").await?;
    eprintln!("resolved {:?}", t.elapsed());
    location
        .ensure_image_uploaded(&image, &tfnz::progress::Silent)
        .await?;
    eprintln!("uploaded {:?}", t.elapsed());
    let container = location
        .node()
        .await?
        .spawn(&image)
        .stdio(Stdio {
            output: true,
            ..Stdio::default()
        })
        .start()
        .await?;
    eprintln!("spawned {:?} {:?}", t.elapsed(), container.started());
    let tunnel = container.wait_http_200(80, "localhost", "/").await?;
    eprintln!("ready {:?} http://{}", t.elapsed(), tunnel.local_addr());
    if std::env::args().nth(1).is_some() {
        tokio::signal::ctrl_c().await?;
    }
    let t = Instant::now();
    location.disconnect().await;
    eprintln!("gone {:?}", t.elapsed());
    Ok(())
}
