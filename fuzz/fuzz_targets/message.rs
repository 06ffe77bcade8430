//! Lines that claim to be messages: what is taken is what serde_json finds in them.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use dim::base::encode::ted_decode_str;
use dim::proto::directory::{Ans, Names};
use dim::proto::id::Id;
use dim::proto::json::Parser;
use dim::proto::message::{Field, ReliableMessage};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let raw = Bytes::copy_from_slice(input);
    let (mut parser, mut names) = (Parser::new(), Names::new(Arc::new(Ans::default())));
    let Ok(message) = ReliableMessage::parse(raw.clone(), &mut parser, &mut names) else { return };
    assert_eq!(message.raw(), &raw);
    // Numbers beyond a double are carried as they are; they are nobody's but their sender's.
    let Ok(Value::Object(map)) = serde_json::from_slice(input) else {
        assert!(input.iter().any(|byte| matches!(byte, b'e' | b'E')), "not an object to others");
        return;
    };
    // A null is no value: the other name may have one.
    let text =
        |long: &str, short: &str| [long, short].iter().find_map(|name| map.get(*name)?.as_str());
    let id = |text: Option<&str>| text.and_then(|text| Id::parse(text).ok());
    assert_eq!(Some(message.sender()), id(text("sender", "F")).as_ref());
    match text("receiver", "R") {
        Some(receiver) => assert_eq!(Some(message.receiver()), id(Some(receiver)).as_ref()),
        None => assert_eq!(message.receiver(), &Id::anyone()),
    }
    assert_eq!(message.group(), id(text("group", "G")).as_ref());
    let signature = text("signature", "V").expect("it has a signature");
    assert_eq!(Ok(message.signature().to_vec()), ted_decode_str(signature));
    assert_eq!(message.signature_text(), signature);
    let content = text("data", "D").expect("it has a content");
    if let Ok(signed) = message.signed_bytes() {
        match message.is_plain() {
            true => assert_eq!(signed, content.as_bytes()),
            false => assert_eq!(Ok(signed), ted_decode_str(content)),
        }
    }
    let envelope = message.envelope(&mut parser);
    assert_eq!(envelope.get("sender").and_then(Value::as_str), Some(message.sender().as_str()));
    assert!(message.time().is_none_or(|time| time.is_finite() && time >= 0.0));
    let object =
        |long: &str, short: &str| [long, short].iter().find_map(|name| map.get(*name)?.as_object());
    if let Some(meta) = message.meta(&mut parser) {
        assert_eq!(Some(meta.len()), object("meta", "M").map(|meta| meta.len()));
    }
    let _ = (message.iv(), message.visa(&mut parser), message.keys(&mut parser));
    let _ = message.value(Field::Other, &mut parser);
});
