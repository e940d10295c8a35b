//! Messages on the control stream, headers of streams, and what the handshake consists of.

use bytes::Bytes;
use tfnz::protocol::control::{Assembler, Message, from_cbor, to_cbor};
use tfnz::protocol::handshake::{Answer, Begin, Hello, Welcome};
use tfnz::protocol::messages::{
    CALLS, Fault, NOTICES, StreamHeader, rewrite_call, rewrite_notice, rewrite_reply,
};

/// Puts messages together out of the bytes, cut as the first byte says, and reads each as whatever it could be.
pub fn run(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    let mut assembler = Assembler::default();
    for part in data.chunks(1 + usize::from(*cut)) {
        let mut part = Bytes::copy_from_slice(part);
        loop {
            match assembler.take(&mut part) {
                Ok(Some(message)) => read(&message),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn read(message: &Message) {
    let Message { kind, body, .. } = message;
    for rewrite in [rewrite_call, rewrite_reply, rewrite_notice] {
        settles(body, |body| rewrite(*kind, body));
    }
    settles(body, |body| {
        Some(from_cbor::<Fault>(body).map(|it| to_cbor(&it)))
    });
    settles(body, |body| {
        Some(from_cbor::<StreamHeader>(body).map(|it| to_cbor(&it)))
    });
    settles(body, |body| {
        Some(from_cbor::<Hello>(body).map(|it| to_cbor(&it)))
    });
    settles(body, |body| {
        Some(from_cbor::<Welcome>(body).map(|it| to_cbor(&it)))
    });
    settles(body, |body| {
        Some(from_cbor::<Begin>(body).map(|it| to_cbor(&it)))
    });
    settles(body, |body| {
        Some(from_cbor::<Answer>(body).map(|it| to_cbor(&it)))
    });
}

/// What has been read and written once is read and written as the same for ever.
fn settles(body: &[u8], rewrite: impl Fn(&[u8]) -> Option<Result<Bytes, String>>) {
    let Some(Ok(once)) = rewrite(body) else {
        return;
    };
    assert_eq!(rewrite(&once), Some(Ok(once)));
}

/// One of each sort, out of `tests/data/messages.txt`.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let lines = include_str!("../../tests/data/messages.txt").lines();
    let seed = |line: &str| {
        let (name, body) = line.split_once(": ")?;
        let number = name.split(' ').next()?;
        let kind = number
            .parse()
            .unwrap_or_else(|_| CALLS[0].0.max(NOTICES[0].0));
        let body = (0..body.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(body.get(at..at + 2)?, 16).ok());
        let body: Option<Vec<u8>> = body.collect();
        let message = Message {
            kind,
            id: 1,
            body: body?.into(),
        };
        Some([&[255][..], &message.encode()].concat())
    };
    lines.filter_map(seed).collect()
}
