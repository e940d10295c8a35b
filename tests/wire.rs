//! The protocol byte by byte: records, frames and the handshake here, messages in the modules beneath.

mod compatibility;
mod samples;

use std::fmt::{Debug, Write as _};

use bytes::Bytes;
use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tfnz::ids::SessionId;
use tfnz::protocol::control::{Message, NO_ID, REPLY, from_cbor, to_cbor};
use tfnz::protocol::frame::{Frame, StreamId};
use tfnz::protocol::handshake::{Answer, Begin, Hello, Refusal, Role, Ticket, Welcome};
use tfnz::protocol::messages::{Call, Fault, FaultCode, ListNodes, NodeInfo, NodeLeft, Notice};
use tfnz::protocol::record::Record;

pub(crate) use samples::description;

/// Bytes out of hexadecimal digits; spaces divide groups, and what follows `#` in a line explains them.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::chars)
        .filter(|char| !char.is_whitespace())
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn records() {
    for (record, bytes) in [
        (
            Record::Data(Bytes::from_static(b"frames")),
            "00                    # DATA
             66 72 61 6d 65 73     # frames",
        ),
        (
            Record::Ack(0x0102),
            "01                    # ACK
             00 00 00 00 00 00 01 02  # records received",
        ),
        (
            Record::Ping(3),
            "02                    # PING
             00 00 00 00 00 00 00 03  # records received",
        ),
        (
            Record::Pong(4),
            "03                    # PONG
             00 00 00 00 00 00 00 04  # records received",
        ),
        (Record::Close, "04        # CLOSE"),
    ] {
        let bytes = hex(bytes);
        assert_eq!(to_hex(&record.encode()), to_hex(&bytes), "{record:?}");
        assert_eq!(Record::decode(bytes.into()), Ok(record));
    }
}

#[test]
fn frames() {
    for (stream, frame, bytes) in [
        (
            7,
            Frame::Data(Bytes::from_static(b"abc")),
            "00 000003 00000007    # DATA, 3 bytes, stream 7
             61 62 63              # the bytes",
        ),
        (
            7,
            Frame::Window(65536),
            "01 000004 00000007    # WINDOW, 4 bytes, stream 7
             00010000              # credit",
        ),
        (
            0x0102_0304,
            Frame::Open(Bytes::from_static(&[0x18, 0x2a])),
            "02 000002 01020304    # OPEN, 2 bytes, stream
             18 2a                 # header: 42 in CBOR",
        ),
        (7, Frame::Fin, "03 000000 00000007     # FIN, stream 7"),
        (7, Frame::Reset, "04 000000 00000007   # RESET, stream 7"),
        (7, Frame::Stop, "05 000000 00000007    # STOP, stream 7"),
        (7, Frame::Blocked, "06 000000 00000007 # BLOCKED, stream 7"),
    ] {
        let bytes = hex(bytes);
        let (header, payload) = frame.encode(StreamId(stream));
        let encoded = [&header[..], &payload].concat();
        assert_eq!(to_hex(&encoded), to_hex(&bytes), "{frame:?}");
        assert_eq!(
            Frame::decode(&mut Bytes::from(bytes).into()),
            Ok((StreamId(stream), frame))
        );
    }
}

#[test]
fn messages_on_the_control_stream() {
    for (message, bytes) in [
        (
            Message {
                kind: ListNodes::KIND,
                id: 9,
                body: to_cbor(&ListNodes {}),
            },
            "00000001              # length of the body
             0001                  # kind: ListNodes
             00000009              # id
             a0                    # no fields",
        ),
        (
            Message {
                kind: REPLY,
                id: 9,
                body: to_cbor::<[NodeInfo]>(&[]),
            },
            "00000001 0000 00000009  # a reply to the call with id 9
             80                    # no nodes",
        ),
        (
            Message {
                kind: 65535,
                id: 9,
                body: to_cbor(&Fault::new(FaultCode::NoNode, "none")),
            },
            "0000001b ffff 00000009  # a fault in answer to the call with id 9
             a2                    # 2 fields
             64 636f6465           # code
             67 6e6f5f6e6f6465     # no_node
             67 6d657373616765     # message
             64 6e6f6e65           # none",
        ),
        (
            Message {
                kind: NodeLeft::KIND,
                id: NO_ID,
                body: Bytes::new(),
            },
            "00000000 0066 00000000  # a notice: no id",
        ),
    ] {
        assert_eq!(
            to_hex(&message.encode()),
            to_hex(&hex(bytes)),
            "{message:?}"
        );
    }
}

/// A value and its bytes as the handshake has them.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, bytes: &str) {
    let bytes = hex(bytes);
    assert_eq!(to_hex(&to_cbor(value)), to_hex(&bytes), "{value:?}");
    assert_eq!(from_cbor::<T>(&bytes).as_ref(), Ok(value));
}

#[test]
fn the_handshake() {
    let mut hello = Hello {
        version: 1,
        role: Role::Client,
        token: None,
    };
    check(
        &hello,
        "a2                        # 2 fields
         67 76657273696f6e 01      # version: 1
         64 726f6c65 66 636c69656e74  # role: client",
    );
    hello.token = Some("t".to_owned());
    hello.role = Role::Node;
    check(
        &hello,
        "a3                        # 3 fields
         67 76657273696f6e 01      # version: 1
         64 726f6c65 64 6e6f6465   # role: node
         65 746f6b656e 61 74       # token: t",
    );
    check(
        &Welcome { version: 1 },
        "a1 67 76657273696f6e 01   # version: 1",
    );
    check(
        &Begin::New {
            agent: "tf".to_owned(),
            linger: None,
        },
        "a1 63 6e6577              # new
         a1 65 6167656e74 62 7466  # agent: tf",
    );
    check(
        &Begin::New {
            agent: "tf".to_owned(),
            linger: Some(90),
        },
        "a1 63 6e6577              # new
         a2                        # 2 fields
         65 6167656e74 62 7466     # agent: tf
         66 6c696e676572 18 5a     # linger: 90",
    );
    // As locations of before read it: what they do not know is passed over.
    let newer = hex("a1 63 6e6577 a2 65 6167656e74 62 7466 64 6e657773 01");
    assert!(matches!(
        from_cbor(&newer),
        Ok(Begin::New { linger: None, .. })
    ));
    let session: SessionId = "0123456789ABCDEFGHIJKL".parse().expect("valid");
    let secret = [7; 16];
    check(
        &Begin::Resume {
            session: session.clone(),
            ticket: Ticket { secret, attempt: 2 },
            received: 3,
        },
        "a1 66 726573756d65        # resume
         a3                        # 3 fields
         67 73657373696f6e 76 303132333435363738394142434445464748494a4b4c  # session
         66 7469636b6574 a2        # ticket
            66 736563726574 50 07070707070707070707070707070707  # secret
            67 617474656d7074 02   # attempt: 2
         68 7265636569766564 03    # received: 3",
    );
    check(
        &Answer::Started {
            session,
            secret,
            linger: 120,
        },
        "a1 67 73746172746564      # started
         a3                        # 3 fields
         67 73657373696f6e 76 303132333435363738394142434445464748494a4b4c  # session
         66 736563726574 50 07070707070707070707070707070707  # secret
         66 6c696e676572 18 78     # linger: 120",
    );
    check(
        &Answer::Resumed { received: 3 },
        "a1 67 726573756d6564 a1 68 7265636569766564 03  # resumed, received: 3",
    );
    check(
        &Answer::Refused(Refusal::SessionGone),
        "a1 67 72656675736564 6c 73657373696f6e5f676f6e65  # refused: session_gone",
    );
    check(
        &Answer::Refused(Refusal::BadTicket),
        "a1 67 72656675736564 6a 6261645f7469636b6574  # refused: bad_ticket",
    );
    check(
        &Answer::Refused(Refusal::OutOfStep),
        "a1 67 72656675736564 6b 6f75745f6f665f73746570  # refused: out_of_step",
    );
    // What a later version may say.
    let newer = hex("a1 67 72656675736564 63 6e6577");
    assert_eq!(from_cbor(&newer), Ok(Answer::Refused(Refusal::Unknown)));
    let newer = to_cbor(&Value::Map(vec![
        (Value::from("version"), Value::from(9)),
        (Value::from("news"), Value::from(true)),
    ]));
    assert_eq!(from_cbor(&newer), Ok(Welcome { version: 9 }));
}
