//! What a program uses: connect to a location, run containers on its nodes, reach into them.
//!
//! ```no_run
//! # async fn quickstart() -> Result<(), Box<dyn std::error::Error>> {
//! use tfnz::config::Config;
//! use tfnz::sdk::Location;
//!
//! let location = Location::connect(tfnz::dialler(&Config::from_env()?).await?).await?;
//! let image = location.resolve("nginx").await?;
//! let container = location.node().await?.spawn(&image).start().await?;
//! let tunnel = container.wait_http_200(80, "localhost", "/").await?;
//! println!("http://{}", tunnel.local_addr());
//! location.disconnect().await;
//! # Ok(())
//! # }
//! ```
//!
//! Everything a program starts ends with its [`Location`]: when it disconnects, when it is dropped, when the process dies,
//! or when it has been out of reach for longer than the location waits.
//!
//! The SDK is given a [`Dialler`] and cannot tell a location on the other side of the world from one in this process.

mod container;
mod dialler;
mod error;
mod http;
mod join;
mod location;
mod node;
mod process;
mod session;
mod spawn;
mod stdio;
mod tunnel;
mod upload;

pub use container::{Container, READY_TIMEOUT};
pub use dialler::{Dialler, Host};
pub use error::{Error, describe};
pub use http::{require_local, url};
pub use join::join;
pub use location::{Location, last_image};
pub use node::Node;
pub use process::Process;
pub use spawn::SpawnBuilder;
pub use stdio::{ProcessInput, ProcessOutput};
pub use tunnel::{Listener, Tunnel};
