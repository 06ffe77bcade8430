//! HTTP requests and answers: what asks for a WebSocket is answered, and the answer opens it.
#![no_main]

use bytes::Bytes;
use dim::base::encode::base64_encode;
use dim::wire::websocket::Masks;
use dim::wire::{DeframeLimits, Deframer, Event, Framing, upgrade};
use libfuzzer_sys::fuzz_target;

fn replies(request: &[u8]) -> Option<Bytes> {
    let mut station = Deframer::new(DeframeLimits::default());
    station.feed(Bytes::copy_from_slice(request));
    match station.next_event() {
        Ok(Some(Event::Reply(answer))) => Some(answer),
        _ => None,
    }
}

fn opens(key: &str, answer: &[u8]) -> bool {
    let limits = DeframeLimits::default();
    let mut client = Deframer::websocket_client(key, Masks::new(1), limits);
    client.feed(Bytes::copy_from_slice(answer));
    let heard = client.next_event();
    heard.is_ok() && client.framing() == Some(Framing::WebSocket)
}

fuzz_target!(|input: &[u8]| {
    let key = base64_encode(input.get(..16).unwrap_or(input));
    if !key.is_empty() {
        let answer = replies(&upgrade::request("127.0.0.1", 9394, &key)).expect("an upgrade");
        assert_eq!(answer, upgrade::answer(key.as_bytes()));
        assert!(opens(&key, &answer));
    }
    let _ = opens(&key, input);
    // A request as it stands, and one whose headers are the input.
    let _ = replies(input);
    let whole = [b"GET / HTTP/1.1\r\n", input, b"\r\n\r\n"].concat();
    if let (Some(asked), Some(answer)) = (upgrade::request_key(&whole), replies(&whole)) {
        let early = input.windows(4).any(|part| part == b"\r\n\r\n");
        assert!(early || answer == upgrade::answer(asked));
    }
});
