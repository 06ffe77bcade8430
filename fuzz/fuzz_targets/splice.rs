//! Copies of messages: against serde_json, every member that is not routing is in the copy as it
//! was, the signed text byte for byte, and the copy is the same message.
#![no_main]

#[path = "../../benches/kit/mod.rs"]
mod kit;

use bytes::Bytes;
use dim::proto::id::Id;
use dim::proto::json::Parser;
use dim::proto::splice::{Routing, relay};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

const ROUTING: [&str; 6] = ["traces", "rcpt", "from", "recipients", "neighbor", "error"];
const SHORT: [(&str, &str); 11] = [
    ("F", "sender"),
    ("R", "receiver"),
    ("W", "time"),
    ("T", "type"),
    ("G", "group"),
    ("D", "data"),
    ("V", "signature"),
    ("M", "meta"),
    ("P", "visa"),
    ("K", "keys"),
    ("K", "key"),
];

/// What the copy must hold, apart from what the station adds.
fn expected(map: Map<String, Value>) -> Map<String, Value> {
    let long = |name: String, value: &Value| match (name.as_str(), value) {
        ("K", Value::String(_)) => "key".to_owned(),
        (short, _) => {
            let found = SHORT.iter().find(|(other, _)| *other == short);
            // A null is no value, and keeps the name that it came with.
            match found {
                Some((_, long)) if !value.is_null() || matches!(short, "W" | "T") => {
                    (*long).to_owned()
                }
                _ => name,
            }
        }
    };
    let kept = map.into_iter().filter(|(name, _)| !ROUTING.contains(&name.as_str()));
    kept.map(|(name, value)| (long(name, &value), value)).collect()
}

fn check(raw: &Bytes, map: Map<String, Value>, rcpt: &Id) {
    let (mut parser, station) = (Parser::new(), Id::gsp());
    let message = kit::parsed(raw);
    let (traces, recipients) = (&[], &[]);
    let routing =
        Routing { from: "/phone", rcpt, station: &station, time: 1.5, traces, recipients };
    let copy = relay(&message, routing, &mut parser);
    let Ok(Value::Object(mut found)) = serde_json::from_slice(&copy) else {
        panic!("the copy is not JSON: {copy:?}");
    };
    assert_eq!(found.remove("from"), Some("/phone".into()));
    assert_eq!(found.remove("rcpt"), Some(rcpt.as_str().into()));
    assert!(found.remove("traces").is_some_and(|traces| traces.is_array()));
    let mut expected = expected(map);
    if rcpt.terminal().is_some() {
        // Narrowed to one device; what is left is an entry that was there.
        expected.remove("key");
        expected.remove("keys");
        found.remove("key");
        found.remove("keys");
    }
    assert_eq!(found, expected, "{copy:?}");

    let again = kit::parsed(&copy);
    assert_eq!(again.sender(), message.sender());
    assert_eq!(again.receiver(), message.receiver());
    assert_eq!(again.signature(), message.signature());
    assert_eq!(again.signed_bytes(), message.signed_bytes());
    assert_eq!(again.time(), message.time());
}

fuzz_target!(|input: &[u8]| {
    let raw = Bytes::copy_from_slice(input);
    let Ok(message) = kit::try_parse(&raw) else { return };
    let Ok(Value::Object(map)) = serde_json::from_slice(input) else { return };
    check(&raw, map.clone(), &message.receiver().naked());
    if let Ok(dressed) = message.receiver().dressed("phone") {
        check(&raw, map, &dressed);
    }
});
