//! What a client asks of a container and of the processes in it.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a container differs from what its image says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Environment beyond the image's, `NAME=value` each; a name that the image has too is replaced.
    pub env: Vec<String>,
    /// In place of the image's entrypoint. An empty list in the option clears it.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's command. With an entrypoint of its own the image's command is dropped, as Docker does.
    pub command: Option<Vec<String>>,
    /// In place of the image's user.
    pub user: Option<String>,
    /// In place of the image's working directory.
    pub working_dir: Option<String>,
    /// Files that are in place before the first process starts.
    pub files: Vec<PrebootFile>,
    /// Boot, but do not run the first process until told to.
    pub sleep: bool,
    /// What the container may use of its node.
    pub limits: Limits,
    /// Which standard streams somebody will attach to.
    pub stdio: Stdio,
}

/// A file that is written into a container before its first process starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrebootFile {
    /// Absolute path inside the container. Missing directories are made.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}

/// Upper limits on what a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processors, in thousandths of one.
    pub millicpus: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// Which standard streams of a process are connected; the others are `/dev/null`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stdio {
    /// Somebody will write to its standard input.
    pub stdin: bool,
    /// Somebody will read its output. Output that nobody reads stops the process, once the pipe is full.
    pub output: bool,
    /// A terminal of this size in place of pipes; standard output and error become one.
    pub terminal: Option<WindowSize>,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A further process for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// Program and arguments. The program is searched in `PATH` unless it has a slash.
    pub args: Vec<String>,
    /// Environment beyond the container's.
    pub env: Vec<String>,
    /// In place of the container's user.
    pub user: Option<String>,
    /// In place of the container's working directory.
    pub working_dir: Option<String>,
    /// Which standard streams somebody will attach to.
    pub stdio: Stdio,
}

/// One standard stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdioStream {
    /// Standard input, or what is typed at the terminal.
    Stdin,
    /// Standard output, or all that the terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this status.
    Code(u8),
    /// By this signal.
    Signal(u8),
    /// By this signal, sent by the kernel because the container went beyond its memory limit.
    OutOfMemory,
    /// It never ran: the program does not exist in the container.
    NotFound(String),
    /// It never ran: the program is there and cannot be executed.
    NotExecutable(String),
    /// It is gone with its node, for this reason.
    Lost(String),
}

/// What a container got when it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its address. Not reachable from outside its node.
    pub ip: Ipv4Addr,
    /// Time spent on layers that the node had not unpacked before.
    pub unpack: Duration,
    /// Time from there to the running process.
    pub start: Duration,
    /// Its standard streams, and those of its further processes, go on where they were if they say their `position`.
    #[serde(default)]
    pub resumable: bool,
}
