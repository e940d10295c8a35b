//! What an engine and its shim say to each other, and how: CBOR over a sequenced-packet socket, with file descriptors.
//!
//! ```text
//! engine ── Setup ──▶ shim            once, first
//! engine ── Create, Exec ──▶ shim     any number at a time; each is handled by a process of its own
//! engine ── Keep, LetGo, Forget, Lease ──▶ shim      if it is to outlive the engine, see `custody`
//! engine ◀── Here, Ready, Made, Done, Failed, HelperEnded, Ended ── shim
//! ```
//!
//! Each process of a container has a socket of its own besides, on which it says what became of it until its program
//! runs ([`Progress`]): that the socket closes without a message means that the program was executed.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::memfd::{MemFdCreateFlag, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::custody::{Keep, Place};
use super::sys;
use crate::node::engine::Program;
use crate::protocol::container::{Limits, PrebootFile, WindowSize};

/// Longest message that goes into the packet itself, in bytes; longer ones travel in a memory file.
const INLINE: usize = 32 << 10;
/// Most descriptors in one message.
const MOST_DESCRIPTORS: u8 = 8;

/// Kind of the error that a message came without all of its descriptors. It is lost, and those after it are not.
pub(super) const TRUNCATED: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// From the engine to its shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Make your view of the machine. Descriptors: a lock, to be held until the end, and with a lease the socket where the next
    /// engine connects.
    Setup(Setup),
    /// Make a container. Descriptors: those of [`Streams`].
    Create {
        /// Names the request.
        request: u32,
        /// What to make.
        create: Box<Create>,
    },
    /// Start a further process. Descriptors: those of [`Streams`], then one that stands for the first process.
    Exec {
        /// Names the request.
        request: u32,
        /// What to start.
        exec: Box<Exec>,
    },
    /// Keep something for the next engine. Descriptors: those that it names.
    Keep {
        /// Names the request.
        request: u32,
        /// What to keep.
        keep: Box<Keep>,
    },
    /// The engine has closed a descriptor that is kept, and so it is to be closed. There is no answer.
    LetGo {
        /// The container.
        name: String,
        /// Which one.
        place: Place,
    },
    /// Keep something no longer.
    Forget {
        /// Names the request.
        request: u32,
        /// The container.
        name: String,
    },
    /// Wait so long for the next engine. There is no answer.
    Lease(Duration),
}

/// What a shim works with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Directory of the unpacked layers.
    pub(super) layers: PathBuf,
    /// Directory of the containers.
    pub(super) containers: PathBuf,
    /// How long to keep the containers when the engine has died; none if they are to die with it.
    pub(super) lease: Option<Duration>,
    /// The engine's path in every cgroup hierarchy.
    pub(super) cgroup: String,
}

/// A container to make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Create {
    /// Its name, which is its directory beneath that of the containers.
    pub(super) name: String,
    /// Its host name.
    pub(super) hostname: String,
    /// Its path in every cgroup hierarchy.
    pub(super) cgroup: String,
    /// First of its 65536 user and group ids.
    pub(super) first_id: u32,
    /// Directories of its layers, beneath that of the layers, the lowest first.
    pub(super) layers: Vec<PathBuf>,
    /// Files above the layers.
    pub(super) files: Vec<PrebootFile>,
    /// Content of its `/etc/resolv.conf`.
    pub(super) resolv_conf: String,
    /// What it may use.
    pub(super) limits: Limits,
    /// The first process.
    pub(super) start: Start,
}

/// A further process for a container.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Exec {
    /// The container's path in every cgroup hierarchy.
    pub(super) cgroup: String,
    /// What to start.
    pub(super) start: Start,
}

/// What is started in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    /// Program and arguments, never empty.
    pub(super) args: Vec<String>,
    /// Environment.
    pub(super) env: Vec<String>,
    /// Working directory.
    pub(super) working_dir: String,
    /// User and group, as text.
    pub(super) user: String,
    /// Size of its terminal, if it has one.
    pub(super) terminal: Option<WindowSize>,
    /// Which of [`Streams::stdio`] come with the message.
    pub(super) streams: [bool; 3],
}

impl Start {
    /// What an engine's caller asked for, with `streams` attached.
    pub(super) fn new(program: Program, terminal: Option<WindowSize>, streams: [bool; 3]) -> Self {
        Self {
            args: program.args,
            env: program.env,
            working_dir: program.working_dir,
            user: program.user,
            terminal,
            streams,
        }
    }
}

/// The descriptors that a new process gets, in the order in which they travel.
#[derive(Debug)]
pub(super) struct Streams {
    /// Takes [`Progress`].
    pub(super) progress: OwnedFd,
    /// Its program runs when a byte arrives here; it ends when this closes before.
    pub(super) go: OwnedFd,
    /// Standard input, output and error, where they are not `/dev/null` or a terminal.
    pub(super) stdio: [Option<OwnedFd>; 3],
}

impl Streams {
    /// Takes the descriptors of a message apart.
    pub(super) fn from_descriptors(
        present: [bool; 3],
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Self> {
        let progress = descriptors.next()?;
        let go = descriptors.next()?;
        let mut stdio = [None, None, None];
        for (place, present) in stdio.iter_mut().zip(present) {
            if present {
                *place = Some(descriptors.next()?);
            }
        }
        Some(Self {
            progress,
            go,
            stdio,
        })
    }

    /// The descriptors for a message.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        [&self.progress, &self.go]
            .into_iter()
            .chain(self.stdio.iter().flatten())
    }
}

/// From the shim to its engine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The shim is there. Descriptor: one that stands for it.
    Here,
    /// The view is made.
    Ready,
    /// The process is there and waits to be told to go. Descriptor: one that stands for it.
    Made {
        /// The request.
        request: u32,
        /// Names the process in [`Report::Ended`].
        process: i32,
    },
    /// It is done.
    Done {
        /// The request.
        request: u32,
    },
    /// It cannot be done.
    Failed {
        /// The request; 0 for `Setup`.
        request: u32,
        /// Why.
        problem: Problem,
    },
    /// The process that handled the request has ended. If it has sent no answer, there will be none.
    HelperEnded {
        /// The request.
        request: u32,
    },
    /// A process has ended.
    Ended {
        /// The process.
        process: i32,
        /// How.
        status: Status,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    /// By itself, with this status.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

/// From a process of a container to the engine, until its program runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Progress {
    /// It is in the container's network namespace, which is new. Descriptor: that. Said by a first process, before all else.
    Network,
    /// Its terminal is open. Descriptor: the master.
    Terminal,
    /// The program cannot be run.
    Failed(Problem),
}

/// Why something cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Problem {
    /// A system call failed.
    System {
        /// What was tried, as in "mount the root file system".
        step: String,
        /// What the kernel said.
        errno: i32,
    },
    /// The specification does not fit the image.
    BadSpec(String),
    /// The program is not there.
    NotFound(String),
    /// The program is there and cannot be executed.
    NotExecutable(String),
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { step, errno } => {
                write!(f, "cannot {step}: {}", io::Error::from_raw_os_error(*errno))
            }
            Self::BadSpec(text)
            | Self::NotFound(text)
            | Self::NotExecutable(text)
            | Self::Other(text) => f.write_str(text),
        }
    }
}

/// Steps that fail where the kernel lacks something, in the words that [`Problem::System`] has for them.
pub(super) mod steps {
    /// Cloning the shim.
    pub(in super::super) const PID_NAMESPACE: &str = "make a pid namespace";
    /// Making a user namespace.
    pub(in super::super) const USER_NAMESPACE: &str = "make a user namespace";
    /// Making the others of a container.
    pub(in super::super) const NAMESPACES: &str = "make the namespaces of the container";
    /// Shifting the owners of a layer.
    pub(in super::super) const IDMAP: &str = "shift the owners of a layer";
    /// Mounting the root file system.
    pub(in super::super) const OVERLAY: &str = "mount the root file system";
}

/// Names the step that an input or output error belongs to.
pub(super) trait Step<T> {
    /// Turns an error into a [`Problem`]; `step` completes "cannot …".
    fn step(self, step: impl Into<String>) -> Result<T, Problem>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: impl Into<String>) -> Result<T, Problem> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Problem::System {
                step: step.into(),
                errno,
            },
            None => Problem::Other(format!("cannot {}: {error}", step.into())),
        })
    }
}

impl<T> Step<T> for nix::Result<T> {
    fn step(self, step: impl Into<String>) -> Result<T, Problem> {
        self.map_err(|errno| Problem::System {
            step: step.into(),
            errno: errno as i32,
        })
    }
}

/// Two connected sockets that keep the bounds of messages.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Sends one message.
pub(super) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[impl AsFd],
) -> io::Result<()> {
    // The first byte says whether the message follows or is in the last descriptor.
    let mut bytes = vec![0];
    ciborium::into_writer(message, &mut bytes).map_err(io::Error::other)?;
    let mut raw: Vec<_> = descriptors
        .iter()
        .map(|fd| fd.as_fd().as_raw_fd())
        .collect();
    let large = if bytes.len() > INLINE {
        let mut file = File::from(memfd_create(c"message", MemFdCreateFlag::MFD_CLOEXEC)?);
        file.write_all(&bytes[1..])?;
        bytes = vec![1];
        raw.push(file.as_raw_fd());
        Some(file)
    } else {
        None
    };
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => {
                drop(large);
                return Ok(());
            }
        }
    }
}

/// Sends one message without descriptors.
pub(super) fn send_plain<T: Serialize>(socket: impl AsFd, message: &T) -> io::Result<()> {
    send::<T>(socket, message, &[] as &[OwnedFd])
}

/// Receives one message, or nothing when the other side is closed.
pub(super) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_with(socket, 0)
}

/// The message that would be received, which stays there.
pub(super) fn peek<T: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_with(socket, libc::MSG_PEEK)
}

fn receive_with<T: DeserializeOwned>(
    socket: impl AsFd,
    flags: libc::c_int,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; INLINE + 1];
    let received = loop {
        match sys::receive_message(socket.as_fd(), &mut bytes, MOST_DESCRIPTORS, flags) {
            // The latter says that the other side has died with messages from us unread. What it has sent comes next.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNRESET)) => {}
            other => break other?,
        }
    };
    if received.truncated {
        return Err(io::Error::new(
            TRUNCATED,
            "a message came without all of its descriptors: this process may have no more of them open",
        ));
    }
    let (length, mut descriptors) = (received.length, received.descriptors);
    if length == 0 {
        return Ok(None);
    }
    let message = if bytes[0] == 0 {
        ciborium::from_reader(&bytes[1..length]).map_err(malformed)?
    } else {
        let file = descriptors.pop().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "a message without its content")
        })?;
        let mut file = File::from(file);
        file.rewind()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        ciborium::from_reader(content.as_slice()).map_err(malformed)?
    };
    Ok(Some((message, descriptors)))
}

fn malformed(error: ciborium::de::Error<io::Error>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_message_that_comes_without_all_its_descriptors_none_stays_open() {
        let (left, right) = pair().expect("a socket pair");
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        send(
            &left,
            &Report::Ready,
            &vec![&write; usize::from(MOST_DESCRIPTORS) + 1],
        )
        .expect("sent");
        send(
            &left,
            &Report::Ready,
            &vec![&write; usize::from(MOST_DESCRIPTORS)],
        )
        .expect("sent");
        drop(write);
        let error = receive::<Report>(&right).expect_err("there are too many");
        assert_eq!(error.kind(), TRUNCATED);
        // The next one is whole.
        let (_, descriptors) = receive::<Report>(&right).expect("received").expect("open");
        assert_eq!(descriptors.len(), usize::from(MOST_DESCRIPTORS));
        drop(descriptors);
        let mut text = String::new();
        let ended = File::from(read).read_to_string(&mut text);
        assert_eq!(ended.expect("nobody can write any more"), 0);
    }

    #[test]
    fn messages_keep_their_bounds_and_descriptors() {
        let (left, right) = pair().expect("a socket pair");
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        send(&left, &Report::Ready, &[&write]).expect("sent");
        send_plain(&left, &Report::HelperEnded { request: 7 }).expect("sent");
        drop(write);
        let (first, descriptors) = receive::<Report>(&right).expect("received").expect("open");
        assert!(matches!(first, Report::Ready));
        let (second, none) = receive::<Report>(&right).expect("received").expect("open");
        assert!(matches!(second, Report::HelperEnded { request: 7 }));
        assert!(none.is_empty());
        File::from(descriptors.into_iter().next().expect("one descriptor"))
            .write_all(b"x")
            .expect("the pipe arrived");
        let mut byte = [0];
        File::from(read).read_exact(&mut byte).expect("read");
        drop(left);
        assert!(receive::<Report>(&right).expect("closed").is_none());
    }

    #[test]
    fn what_was_sent_before_the_end_arrives_whatever_was_left_unread() {
        let (left, right) = pair().expect("a socket pair");
        send_plain(&right, &Report::Ready).expect("sent");
        send_plain(&left, &Report::Done { request: 1 }).expect("sent");
        drop(left);
        assert!(matches!(
            receive::<Report>(&right).expect("received"),
            Some((Report::Done { request: 1 }, _))
        ));
        assert!(receive::<Report>(&right).expect("closed").is_none());
    }

    #[test]
    fn a_message_that_was_looked_at_is_still_there() {
        let (left, right) = pair().expect("a socket pair");
        let (_read, write) = nix::unistd::pipe().expect("a pipe");
        let text = "x".repeat(INLINE);
        let failed = Progress::Failed(Problem::Other(text));
        send(&left, &failed, &[write]).expect("sent");
        for take in [peek::<Progress>, peek, receive] {
            let (message, descriptors) = take(&right).expect("received").expect("open");
            assert!(
                matches!(message, Progress::Failed(Problem::Other(text)) if text.len() == INLINE)
            );
            assert_eq!(descriptors.len(), 1);
        }
    }

    #[test]
    fn a_message_of_any_length_arrives() {
        let (left, right) = pair().expect("a socket pair");
        let text = "x".repeat(5 << 20);
        send_plain(&left, &Progress::Failed(Problem::Other(text.clone()))).expect("sent");
        match receive::<Progress>(&right).expect("received") {
            Some((Progress::Failed(Problem::Other(found)), _)) => assert_eq!(found, text),
            other => panic!("{other:?}"),
        }
    }
}
