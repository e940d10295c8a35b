//! Opens the desktop's web browser on what the container serves.

use futures_util::future::{FutureExt as _, select_ok};

use crate::cli::failure::Failure;
use crate::sdk::{Container, Error, Tunnel, require_local, url};

/// What the browser is to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// Host name, sent as such.
    host: String,
    /// Path on the server.
    path: String,
}

impl Page {
    /// Finds out that the host is this machine, so that it fails before anything is started.
    ///
    /// # Errors
    ///
    /// When it is another machine, or none.
    pub(crate) async fn check(domain: Option<&str>, path: Option<&str>) -> Result<Self, Failure> {
        let page = Self {
            host: domain.unwrap_or("localhost").to_owned(),
            path: path.unwrap_or("/").to_owned(),
        };
        require_local(&page.host).await.map_err(|error| {
            Failure::from(error).hint(format!(
                "add `127.0.0.1 {}` to /etc/hosts, or leave --domain out",
                page.host
            ))
        })?;
        Ok(page)
    }

    /// Waits until one of the ports has answered with status 200, and opens the browser there.
    ///
    /// # Errors
    ///
    /// When none answers in time, or there is no browser.
    pub(crate) async fn open(
        &self,
        container: &Container,
        tunnels: &[&Tunnel],
    ) -> Result<(), Failure> {
        if tunnels.is_empty() {
            return Err(
                Failure::operation("there is no port that a browser could open")
                    .hint("name one with -p LOCAL:REMOTE"),
            );
        }
        let answers = tunnels.iter().map(|tunnel| {
            async move {
                container
                    .wait_tunnel_http_200(tunnel, &self.host, &self.path)
                    .await?;
                Ok::<_, Error>(tunnel.local_addr().port())
            }
            .boxed()
        });
        let (port, _) = select_ok(answers).await?;
        let url = url(&self.host, port, &self.path);
        let opened = tokio::task::spawn_blocking({
            let url = url.clone();
            move || webbrowser::open(&url)
        });
        opened
            .await
            .map_err(std::io::Error::other)
            .and_then(|opened| opened)
            .map_err(|error| {
                Failure::operation(format!("cannot open a web browser: {error}"))
                    .hint(format!("open {url} yourself"))
            })
    }
}
