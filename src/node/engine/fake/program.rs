//! Programs of the fake engine: functions.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::locked;
use crate::protocol::container::{Exit, PrebootFile, WindowSize};

/// A program: what it is given, to how it ends.
pub type Run = Arc<dyn Fn(Context) -> BoxFuture<'static, Exit> + Send + Sync>;

/// What a program is given.
pub struct Context {
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// Files that the container was made with.
    pub files: Vec<PrebootFile>,
    /// Its standard input; at its end if nobody is to write there.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard output.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard error.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// Size of its terminal, if it has one.
    pub size: watch::Receiver<Option<WindowSize>>,
    /// Its container's ports.
    pub ports: Ports,
}

/// The ports of a container: where on the loopback they are really listened on.
#[derive(Clone, Default)]
pub struct Ports(Arc<Mutex<HashMap<u16, SocketAddr>>>);

impl Ports {
    /// Listens on a port of the container.
    ///
    /// # Errors
    ///
    /// When the machine has no port free for it.
    pub async fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        locked(&self.0).insert(port, listener.local_addr()?);
        Ok(listener)
    }

    pub(super) fn address(&self, port: u16) -> Option<SocketAddr> {
        locked(&self.0).get(&port).copied()
    }
}

/// A function as a program.
pub(super) fn boxed<F>(run: impl Fn(Context) -> F + Send + Sync + 'static) -> Run
where
    F: Future<Output = Exit> + Send + 'static,
{
    Arc::new(move |context| run(context).boxed())
}

/// What every engine knows: `echo`, `cat`, `sleep`, `exit` and `serve`.
pub(super) fn usual() -> HashMap<String, Run> {
    let programs = [
        (
            "echo",
            boxed(|mut context| async move {
                let line = format!("{}\n", context.args[1..].join(" "));
                ended(&context.stdout.write_all(line.as_bytes()).await)
            }),
        ),
        (
            "cat",
            boxed(|mut context| async move {
                ended(&tokio::io::copy(&mut context.stdin, &mut context.stdout).await)
            }),
        ),
        ("sleep", boxed(|_context| std::future::pending())),
        (
            "exit",
            boxed(|context| async move {
                let status = context.args.get(1).and_then(|text| text.parse().ok());
                Exit::Code(status.unwrap_or(2))
            }),
        ),
        (
            "serve",
            boxed(|context| async move {
                let port = context.args.get(1).and_then(|text| text.parse().ok());
                let Some(port) = port else {
                    return Exit::Code(2);
                };
                ended(&serve(&context.ports, port).await)
            }),
        ),
    ];
    programs.map(|(name, run)| (name.to_owned(), run)).into()
}

fn ended<T>(result: &io::Result<T>) -> Exit {
    Exit::Code(u8::from(result.is_err()))
}

async fn serve(ports: &Ports, port: u16) -> io::Result<()> {
    let listener = ports.listen(port).await?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        connections.spawn(async move {
            let (mut read, mut write) = stream.split();
            // The other side may break it off.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}
