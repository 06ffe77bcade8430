//! What the station writes around a body: heads and tails, so that one body is shared by all the
//! connections it goes to, and the keys by which their acknowledgements are recognised.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::event::{Ack, Framing, PushKey};
use super::{mars, mtp, websocket};

/// The longest: Mars header (20), `Mars SN:` (8), base64 of four bytes (8), line feed.
const SMALL_BYTES_MAX: usize = 37;

/// A few bytes in place: a header, or a whole short package.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SmallHead {
    bytes: [u8; SMALL_BYTES_MAX],
    len: u8,
}

impl SmallHead {
    /// `parts` one after the other; together they must fit.
    pub(super) fn join(parts: &[&[u8]]) -> Self {
        debug_assert!(parts.iter().map(|part| part.len()).sum::<usize>() <= SMALL_BYTES_MAX);
        let mut head = Self { bytes: [0; SMALL_BYTES_MAX], len: 0 };
        for (to, from) in head.bytes.iter_mut().zip(parts.iter().copied().flatten()) {
            *to = *from;
            head.len += 1;
        }
        head
    }
}

impl Deref for SmallHead {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl AsRef<[u8]> for SmallHead {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<SmallHead> for Bytes {
    fn from(head: SmallHead) -> Self {
        Self::copy_from_slice(&head)
    }
}

impl fmt::Debug for SmallHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

/// What goes before a pushed body of `body_len` bytes (under 1 GiB). `sn` numbers the push and is
/// never 0: MTP would leave that out, and no answer could name it. Mars has room for its low 32
/// bits; WebSocket and lines do not write it.
pub fn push_head(framing: Framing, sn: u64, body_len: u32) -> SmallHead {
    debug_assert!(sn != 0 && body_len < mtp::BODY_BYTES_LIMIT);
    match framing {
        Framing::Mtp => mtp::encode_head(mtp::Kind::Message, sn.to_be_bytes(), 1, 0, body_len),
        Framing::WebSocket => websocket::encode_head(websocket::TEXT, body_len),
        Framing::Mars => mars::encode_push_head(mars_sn(sn), body_len),
        Framing::Lines => SmallHead::join(&[]),
    }
}

/// What goes after a pushed body, or after a response.
pub fn push_tail(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Lines => b"\n",
        Framing::Mtp | Framing::WebSocket | Framing::Mars => b"",
    }
}

/// The key under which the client will acknowledge the push of `body` numbered `sn`; none if the
/// framing has no acknowledgements, or `body` holds nothing to recognise it by.
pub fn push_key(framing: Framing, sn: u64, body: &[u8]) -> Option<PushKey> {
    match framing {
        Framing::Mtp => Some(PushKey::Mtp(sn.to_be_bytes())),
        Framing::Mars => Some(PushKey::Mars(mars_sn(sn))),
        Framing::WebSocket => text_key(body).map(PushKey::Text),
        Framing::Lines => None,
    }
}

/// What goes before the *first* response of `body_len` bytes (possibly 0) to the message that
/// came with `ack`, where the framing answers under the request's own numbers. None means that
/// responses go out as pushes.
pub fn response_head(ack: &Ack, body_len: u32) -> Option<SmallHead> {
    match *ack {
        Ack::Mars { cmd, seq } => Some(mars::encode_head(cmd, seq, body_len)),
        Ack::Mtp { .. } | Ack::None => None,
    }
}

/// The transport's `OK`, to be written when the message that came with `ack` is safe; none where
/// the framing has no such word.
pub fn encode_ack(ack: &Ack) -> Option<SmallHead> {
    match *ack {
        Ack::Mtp { command, id, pages, index } => {
            let kind = match command {
                true => mtp::Kind::CommandResponse,
                false => mtp::Kind::MessageResponse,
            };
            Some(mtp::encode_small(kind, id, pages, index, mtp::OK))
        }
        Ack::Mars { .. } | Ack::None => None,
    }
}

/// The signature in `json`, or else its time, cut out as text the way clients cut them for their
/// acknowledgements: by the first place that looks like it, wherever that is.
pub fn text_key(json: &[u8]) -> Option<Bytes> {
    let value = cut_value(json, b"signature").or_else(|| cut_value(json, b"time"))?;
    Some(Bytes::copy_from_slice(value))
}

/// A WebSocket client's acknowledgement of the payload `json`, with time and signature cut out as
/// text; none if there is nothing to know the payload by.
pub fn text_ack(json: &[u8]) -> Option<Bytes> {
    let time = cut_value(json, b"time").unwrap_or_default();
    let time = if time.is_empty() { b"0" } else { time };
    let signature = cut_value(json, b"signature")?;
    Some(
        [websocket::ACK_WORD, b"{\"time\":", time, b",\"signature\":\"", signature, b"\"}"]
            .concat()
            .into(),
    )
}

/// A client's heartbeat over MTP, a command with an id of its own.
pub fn mtp_ping(id: u64) -> SmallHead {
    mtp::encode_small(mtp::Kind::Command, id.to_be_bytes(), 1, 0, mtp::PING)
}

fn cut_value<'a>(json: &'a [u8], tag: &[u8]) -> Option<&'a [u8]> {
    let after_tag = json.get(memmem::find(json, tag)? + tag.len()..)?;
    let value = after_tag.get(memchr(b':', after_tag)? + 1..)?;
    let end = memchr(b',', value).or_else(|| memchr(b'}', value))?;
    let value = strip(value.get(..end)?, b' ');
    Some(strip(strip(value, b'"'), b'\''))
}

fn strip(mut text: &[u8], byte: u8) -> &[u8] {
    while let Some(rest) = text.strip_prefix(&[byte]) {
        text = rest;
    }
    while let Some(rest) = text.strip_suffix(&[byte]) {
        text = rest;
    }
    text
}

fn mars_sn(sn: u64) -> u32 {
    let [_, _, _, _, low @ ..] = sn.to_be_bytes();
    u32::from_be_bytes(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_as_clients_cut_them() {
        let key = |json: &str| text_key(json.as_bytes()).map(|key| key.to_vec());
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(key(r#"{"time": 1.5, "signature": "AbC="}"#), some("AbC="));
        assert_eq!(key(r#"ACK:{"time":1.5,"signature":"AbC="}"#), some("AbC="));
        assert_eq!(key(r#"{"time": 1.5}"#), some("1.5"));
        assert_eq!(key("{'signature' : 'x', }"), some("x"));
        assert_eq!(key(r#"{"signature":""}"#), some(""));
        // The first place wins, even one inside a text.
        assert_eq!(
            key(r#"{"data":"{\"signature\":\"in\"}","signature":"out"}"#),
            some(r#"\"in\"}"#)
        );
        assert_eq!(key(r#"{"signature":"unfinished"#), None);
        assert_eq!(key("signature time"), None);
        assert_eq!(key(""), None);
    }

    #[test]
    fn an_acknowledgement_is_known_by_the_key_of_what_it_answers() {
        let body = br#"{"time": 1.5, "data":"x", "signature": "AbC="}"#;
        let ack = text_ack(body).unwrap();
        assert_eq!(&ack[..], br#"ACK:{"time":1.5,"signature":"AbC="}"#);
        assert_eq!(text_key(&ack), text_key(body));
        assert_eq!(text_ack(b"{}"), None);
    }

    #[test]
    fn a_push_is_head_body_tail() {
        let whole = |framing, body: &[u8]| {
            [&push_head(framing, 0x0102, body.len() as u32), body, push_tail(framing)].concat()
        };
        assert_eq!(whole(Framing::Mtp, b"{}"), b"DIMB\0\0\0\0\0\0\x01\x02\0\0\0\x02{}");
        assert_eq!(whole(Framing::WebSocket, b"{}"), b"\x81\x02{}");
        assert_eq!(
            whole(Framing::Mars, b"{}"),
            b"\0\0\0\x14\0\0\0\xc8\0\0\x27\x11\0\0\0\0\0\0\0\x13Mars SN:AAABAg==\n{}"
        );
        assert_eq!(whole(Framing::Lines, b"{}"), b"{}\n");
    }

    #[test]
    fn only_mars_answers_under_the_requests_numbers() {
        let ack = Ack::Mars { cmd: 3, seq: 9 };
        assert_eq!(encode_ack(&ack), None);
        let head = response_head(&ack, 0).unwrap();
        assert_eq!(&*head, b"\0\0\0\x14\0\0\0\xc8\0\0\0\x03\0\0\0\x09\0\0\0\0");
        let ack = Ack::Mtp { command: false, id: *b"abcdefgh", pages: 1, index: 0 };
        assert_eq!(response_head(&ack, 0), None);
        assert_eq!(&*encode_ack(&ack).unwrap(), b"DIMCabcdefgh\0\0\0\x02OK");
        assert_eq!(encode_ack(&Ack::None), None);
    }
}
