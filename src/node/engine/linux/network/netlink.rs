//! Netlink messages, and a socket that sends some and waits for what the kernel says to them.
//!
//! This is the envelope only: what the messages mean is with [`super::rtnl`] and [`super::nft`]. Everything here blocks,
//! but only for as long as the kernel works, since it answers a request while it is being sent. A socket stays in the
//! network namespace of the thread that opened it and can be used from any thread afterwards.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Room for one answer, in octets. The kernel writes at most 32 KiB at a time.
const ANSWER_ROOM: usize = 64 << 10;

/// How often a listing is read again because it changed while it was read.
const DUMP_ATTEMPTS: usize = 8;

/// Which of an attribute's type bits are its type. The others say that it is nested, or in network byte order.
const TYPE_MASK: u16 = 0x3fff;

/// The type bit that says that an attribute holds attributes.
const NESTED: u16 = 0x8000;

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// A sequence of attributes, in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Attributes behind the fixed header of an inner message, as the peer of a veth pair is described.
    pub(super) fn behind(header: &[u8]) -> Self {
        debug_assert_eq!(header.len(), aligned(header.len()));
        Self(header.to_vec())
    }

    /// Adds an attribute.
    ///
    /// # Panics
    ///
    /// When the value is longer than the 64 KiB that an attribute can hold.
    pub(super) fn with(mut self, kind: u16, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let length = u16::try_from(value.len() + 4).expect("attribute values are small");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(aligned(self.0.len()), 0);
        self
    }

    /// Adds an attribute whose value is a text that ends with a zero octet.
    pub(super) fn with_text(self, kind: u16, text: &str) -> Self {
        self.with(kind, [text.as_bytes(), b"\0"].concat())
    }

    /// Adds an attribute that holds attributes.
    pub(super) fn with_nested(self, kind: u16, inner: Self) -> Self {
        self.with(kind | NESTED, inner.0)
    }
}

/// A message to the kernel.
#[derive(Debug, Clone)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A request of this kind. `NLM_F_REQUEST` is added to `flags`.
    pub(super) fn new(
        kind: u16,
        flags: libc::c_int,
        header: &[u8],
        attributes: Attributes,
    ) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).expect("flags have 16 bits");
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(header);
        bytes.resize(aligned(bytes.len()), 0);
        bytes.extend(attributes.0);
        let length = u32::try_from(bytes.len()).expect("messages are small");
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        Self(bytes)
    }

    fn number(&mut self, sequence: u32) {
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    fn ask_for_acknowledgement(&mut self) {
        // NLM_F_ACK is in the low octet, whose place depends on the byte order of the machine.
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]);
        let ack = u16::try_from(libc::NLM_F_ACK).expect("flags have 16 bits");
        self.0[6..8].copy_from_slice(&(flags | ack).to_ne_bytes());
    }
}

/// The attributes in `bytes`: type and value of each. Stops where they are malformed.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// The number that an attribute holds in the byte order of the machine.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

/// The text that an attribute holds, without the zero octet at its end.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.split(|octet| *octet == 0).next()?).ok()
}

/// What a part of the kernel is spoken to through.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// Number of the last message sent.
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(super) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Goes on with a socket of a process that has died. What it was still to be told is of no interest.
    pub(super) fn resume(fd: OwnedFd) -> io::Result<Self> {
        let mut room = vec![0; ANSWER_ROOM];
        loop {
            match recv(fd.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Ok(Self { fd, sequence: 0 }),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The socket, once more.
    pub(super) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Sends messages that the kernel works through in order, and waits until it has. The first error is returned; what
    /// comes after the message that caused it is tried nevertheless.
    pub(super) fn request(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let last = messages.len().saturating_sub(1);
        self.exchange(messages, last, |_| {})
    }

    /// Sends messages of which all take effect or none: `begin` and `end` mark the transaction.
    pub(super) fn transaction(
        &mut self,
        begin: Message,
        messages: Vec<Message>,
        end: Message,
    ) -> io::Result<()> {
        let last = messages.len();
        let all = [vec![begin], messages, vec![end]].concat();
        self.exchange(all, last, |_| {})
    }

    /// Asks for one object; its message without the netlink header. `None` if it does not exist.
    pub(super) fn get(&mut self, message: Message) -> io::Result<Option<Vec<u8>>> {
        let mut found = None;
        match self.exchange(vec![message], 0, |body| found = Some(body.to_vec())) {
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    /// Asks for all objects of a kind; their messages without the netlink headers.
    pub(super) fn list(&mut self, message: &Message) -> io::Result<Vec<Vec<u8>>> {
        let mut attempts = 1;
        loop {
            let mut found = Vec::new();
            let ended = self.exchange(vec![message.clone()], usize::MAX, |body| {
                found.push(body.to_vec());
            });
            match ended {
                Err(error)
                    if error.raw_os_error() == Some(libc::EINTR) && attempts < DUMP_ATTEMPTS =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(found),
            }
        }
    }

    /// Sends `messages` at once and reads answers until the one at index `awaited` is acknowledged or a listing ends.
    fn exchange(
        &mut self,
        mut messages: Vec<Message>,
        awaited: usize,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        if let Some(message) = messages.get_mut(awaited) {
            message.ask_for_acknowledgement();
        }
        let first = self.sequence.wrapping_add(1);
        for message in &mut messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.number(self.sequence);
        }
        let awaited =
            u32::try_from(awaited).map_or(self.sequence, |index| first.wrapping_add(index));
        let bytes: Vec<u8> = messages.into_iter().flat_map(|message| message.0).collect();
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;

        let mut room = vec![0; ANSWER_ROOM];
        let mut changed = false;
        loop {
            let length = match recv(self.fd.as_raw_fd(), &mut room, MsgFlags::empty()) {
                Err(nix::Error::EINTR) => continue,
                other => other?,
            };
            for answer in Answers(&room[..length]) {
                // What a request that failed in its middle left unread is of no interest any more.
                if answer.sequence.wrapping_sub(first) > self.sequence.wrapping_sub(first) {
                    continue;
                }
                changed |= answer.flags & libc::NLM_F_DUMP_INTR != 0;
                match libc::c_int::from(answer.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let code = answer
                            .body
                            .first_chunk()
                            .map_or(0, |code| i32::from_ne_bytes(*code));
                        if code != 0 {
                            return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                        }
                        if changed {
                            return Err(io::Error::from_raw_os_error(libc::EINTR));
                        }
                        if answer.sequence == awaited {
                            return Ok(());
                        }
                    }
                    _ => each(answer.body),
                }
            }
        }
    }
}

/// Whether the error says that the thing asked for does not exist.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ESRCH)
    )
}

struct Answer<'a> {
    kind: u16,
    flags: libc::c_int,
    sequence: u32,
    body: &'a [u8],
}

/// The messages in what one read returned.
struct Answers<'a>(&'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let (header, _) = self.0.split_first_chunk::<HEADER>()?;
        let length = usize::try_from(number(&header[0..4])?).ok()?;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(Answer {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: libc::c_int::from(u16::from_ne_bytes([header[6], header[7]])),
            sequence: number(&header[8..12])?,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_back_as_written() {
        let written = Attributes::new()
            .with(1, 7_u32.to_ne_bytes())
            .with_text(2, "eth0")
            .with_nested(3, Attributes::new().with(4, [5]));
        let read: Vec<_> = attributes(&written.0).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(number(read[0].1), Some(7));
        assert_eq!(text(read[1].1), Some("eth0"));
        assert_eq!(attribute(read[2].1, 4), Some(&[5][..]));
    }

    #[test]
    fn malformed_attributes_end_the_sequence() {
        for bytes in [
            &[][..],
            &[4, 0],
            &[3, 0, 1, 0],
            &[0, 0, 0, 0],
            &[200, 0, 1, 0, 9],
        ] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn malformed_answers_end_the_sequence() {
        let mut bytes = Message::new(3, 0, &[], Attributes::new()).0;
        assert_eq!(Answers(&bytes).count(), 1);
        bytes[0] = 8;
        assert_eq!(Answers(&bytes).count(), 0, "shorter than its own header");
        bytes[0] = 255;
        assert_eq!(Answers(&bytes).count(), 0, "longer than what was read");
    }
}
