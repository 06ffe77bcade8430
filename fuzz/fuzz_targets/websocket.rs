//! Frames of RFC 6455: what one side writes in any fragments, with control frames between them,
//! the other side reads; and bytes that follow no rule end in an error, however they are cut.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use dim::wire::websocket::{self, Reader, Said, parse_head, unmask};
use dim::wire::{DeframeLimits, WireError};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Frame {
    Text { text: String, cuts: Vec<u8> },
    Binary { payload: Vec<u8>, cuts: Vec<u8> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Input {
    frames: Vec<Frame>,
    mask: Option<[u8; 4]>,
    cut: u8,
    /// What follows and need not be frames.
    noise: Vec<u8>,
}

fn write(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let len = u32::try_from(payload.len()).expect("short");
    let opcode = first & 0x0f;
    let start = out.len();
    match mask {
        Some(mask) => out.extend_from_slice(&websocket::encode_masked(opcode, payload, mask)),
        None => {
            out.extend_from_slice(&websocket::encode_head(opcode, len));
            out.extend_from_slice(payload);
        }
    }
    let head = parse_head(&out[start..]).expect("a head of ours").expect("a whole one");
    assert_eq!((head.len, head.mask, head.opcode), (len.into(), mask, opcode));
    out[start] = first;
}

/// A message in fragments, with a ping and a pong in between.
fn write_cut(out: &mut Vec<u8>, opcode: u8, payload: &[u8], cuts: &[u8], mask: Option<[u8; 4]>) {
    let (mut rest, mut opcode) = (payload, opcode);
    for cut in cuts.iter().take(8) {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        write(out, opcode, piece, mask);
        (rest, opcode) = (after, 0);
        write(out, 0x89, b"between", mask);
    }
    write(out, 0x80 | opcode, rest, mask);
}

fn read(pieces: impl Iterator<Item = Bytes>) -> (Vec<Said>, Option<WireError>) {
    let (mut reader, mut said) = (Reader::new(DeframeLimits::default()), Vec::new());
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next_said() {
                Ok(Some(Said::Close(last))) => {
                    said.push(Said::Close(last));
                    return (said, None);
                }
                Ok(Some(heard)) => said.push(heard),
                Ok(None) => break,
                Err(error) => return (said, Some(error)),
            }
        }
    }
    (said, None)
}

fuzz_target!(|input: Input| {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for frame in &input.frames {
        match frame {
            Frame::Text { text, cuts } => {
                write_cut(&mut bytes, websocket::TEXT, text.as_bytes(), cuts, input.mask);
                (0..cuts.len().min(8)).for_each(|_| expected.push(Said::Ping("between".into())));
                expected.push(Said::Text(text.clone().into()));
            }
            Frame::Binary { payload, cuts } => {
                write_cut(&mut bytes, websocket::BINARY, payload, cuts, input.mask);
                (0..cuts.len().min(8)).for_each(|_| expected.push(Said::Ping("between".into())));
                expected.push(Said::Binary(payload.clone().into()));
            }
            Frame::Ping(payload) if payload.len() <= 125 => {
                write(&mut bytes, 0x89, payload, input.mask);
                expected.push(Said::Ping(payload.clone().into()));
            }
            Frame::Pong(payload) if payload.len() <= 125 => {
                write(&mut bytes, 0x8a, payload, input.mask);
                expected.push(Said::Pong);
            }
            Frame::Ping(_) | Frame::Pong(_) => {}
        }
    }
    let (said, error) = read(std::iter::once(Bytes::from(bytes.clone())));
    assert_eq!((&said, error), (&expected, None));

    bytes.extend_from_slice(&input.noise);
    let whole = read(std::iter::once(Bytes::from(bytes.clone())));
    let size = usize::from(input.cut).max(1);
    assert_eq!(whole, read(bytes.chunks(size).map(Bytes::copy_from_slice)), "cut at {size}");
    if let Some(mask) = input.mask {
        let mut twice = input.noise.clone();
        unmask(&mut twice, mask);
        unmask(&mut twice, mask);
        assert_eq!(twice, input.noise);
    }
});
