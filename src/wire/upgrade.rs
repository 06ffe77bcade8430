//! The exchange that opens a WebSocket, as bytes to bytes.

use bytes::Bytes;
use memchr::memmem;

use crate::base::digest::sha1;
use crate::base::encode::base64_encode;

/// Answer to an HTTP request that asks for no WebSocket.
pub const NOT_AN_UPGRADE: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What every request begins with.
pub(super) const REQUEST_START: &[u8] = b"GET /";

/// What every request ends with.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

const KEY_NAME: &[u8] = b"sec-websocket-key";

const ACCEPT_NAME: &[u8] = b"sec-websocket-accept";

/// RFC 6455, 1.3.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// To the letter what the reference sends. A real `Sec-WebSocket-Protocol` would make browsers
/// fail that asked for none.
const ANSWER_START: &[u8] = b"HTTP/1.1 101 Switching Protocol\r\n\
    Server: DIM-Station\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    WebSocket-Protocol: DIMP\r\n\
    Sec-WebSocket-Accept: ";

/// Length of the request at the start of `view`, with its blank line. None if that has not come;
/// `scanned` bytes were already searched in vain.
pub(super) fn request_len(view: &[u8], scanned: usize) -> Option<usize> {
    // The blank line may have begun in what was searched before.
    let from = scanned.saturating_sub(BLANK_LINE.len() - 1);
    Some(from + memmem::find(view.get(from..)?, BLANK_LINE)? + BLANK_LINE.len())
}

/// The key in a whole request, if it asks for a WebSocket. Nothing but the key matters: clients
/// differ in all the rest.
pub fn request_key(request: &[u8]) -> Option<&[u8]> {
    let mut lines = request.split(|byte| *byte == b'\n');
    memmem::find(lines.next()?, b" HTTP/")?;
    lines.find_map(|line| {
        let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        let value = value.strip_prefix(b":")?.trim_ascii();
        (name.trim_ascii().eq_ignore_ascii_case(KEY_NAME) && !value.is_empty()).then_some(value)
    })
}

/// What a station must give back for `key`.
pub(super) fn accept(key: &[u8]) -> String {
    base64_encode(&sha1(&[key, KEY_SUFFIX].concat()))
}

/// A client's request for a WebSocket at the root of `host`. `key` is the base64 text of 16
/// random bytes. No extension is offered and no subprotocol: stations grant none.
pub fn request(host: &str, port: u16, key: &str) -> Bytes {
    format!(
        "GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    .into()
}

/// Whether a station's whole answer opens the WebSocket that was asked for. The other header
/// lines differ between stations and are not looked at.
pub(super) fn opens(answer: &[u8], accept: &str) -> bool {
    let mut lines = answer.split(|byte| *byte == b'\n');
    let status = lines.next().unwrap_or_default();
    let switches = status.starts_with(b"HTTP/1.1 101 ") || status.trim_ascii() == b"HTTP/1.1 101";
    switches
        && lines.any(|line| {
            let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(line.len()));
            name.trim_ascii().eq_ignore_ascii_case(ACCEPT_NAME)
                && value.strip_prefix(b":").is_some_and(|v| v.trim_ascii() == accept.as_bytes())
        })
}

/// The answer that opens the WebSocket asked for with `key`.
pub fn answer(key: &[u8]) -> Bytes {
    let accept = accept(key);
    [ANSWER_START, accept.as_bytes(), BLANK_LINE].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_answered_as_in_the_rfc() {
        let answer = answer(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert!(answer.ends_with(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
    }

    #[test]
    fn an_answer_opens_what_was_asked_for_and_nothing_else() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let asked = request("127.0.0.1", 9394, key);
        assert_eq!(request_key(&asked), Some(key.as_bytes()));
        assert!(opens(&answer(key.as_bytes()), &accept(key.as_bytes())));
        assert!(!opens(&answer(b"another"), &accept(key.as_bytes())));
        assert!(!opens(NOT_AN_UPGRADE, &accept(key.as_bytes())));
        let lower = b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\n\r\n";
        assert!(opens(lower, "x") && !opens(lower, "y"));
    }

    #[test]
    fn only_the_key_matters() {
        let key = |request: &str| request_key(request.as_bytes()).map(<[u8]>::to_vec);
        let some = Some(b"abc".to_vec());
        assert_eq!(key("GET / HTTP/1.1\r\nSec-WebSocket-Key: abc\r\n\r\n"), some);
        assert_eq!(key("GET /x?y HTTP/1.1\r\nA: b\r\nsec-websocket-key:abc \r\n\r\n"), some);
        assert_eq!(key("GET / HTTP/1.1\r\nsec-websocket-key: \r\n\r\n"), None);
        assert_eq!(key("GET / HTTP/1.1\r\nX-Sec-WebSocket-Key: abc\r\n\r\n"), None);
        assert_eq!(key("GET /\r\nSec-WebSocket-Key: abc\r\n\r\n"), None);
        assert_eq!(key("GET /sec-websocket-key:abc HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_blank_line_is_found_wherever_the_search_stopped() {
        let view = b"GET / HTTP/1.1\r\n\r\nrest";
        for scanned in 0..18 {
            assert_eq!(request_len(view, scanned), Some(18));
        }
        assert_eq!(request_len(b"GET / HTTP/1.1\r\n\r", 0), None);
    }
}
