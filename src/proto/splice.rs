//! A relayed message: the original bytes with the station's routing fields in place of the
//! sender's, and nothing else touched.
//!
//! What a client says about routing is dropped (anybody could say it), what a neighbour station says
//! is given here by the caller; short names leave as long ones, since not every client reads them;
//! `keys` is narrowed to the one device that a copy is for.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};

use serde_json::Value;

use super::id::Id;
use super::json::Parser;
use super::message::{Field, Member, ReliableMessage};
use crate::base::time::Seconds;

/// What the station adds to a copy.
#[derive(Debug, Clone, Copy)]
pub struct Routing<'a> {
    /// The sender's terminal as the session has it; `/` alone when there is none.
    pub from: &'a str,
    /// Whose copy it is: the receiver, dressed with a terminal where the copy is for one device.
    pub rcpt: &'a Id,
    /// The station's ID.
    pub station: &'a Id,
    /// When the station received it, in seconds since 1970.
    pub time: f64,
    /// Stations that had it before, as their traces came.
    pub traces: &'a [Value],
    /// Stations that a broadcast goes to without the receiver's doing; mostly none.
    pub recipients: &'a [Id],
}

/// The bytes of a copy.
pub fn relay(message: &ReliableMessage, routing: Routing<'_>, parser: &mut Parser) -> Bytes {
    let raw = message.raw();
    let keys = narrowed_keys(message, routing.rcpt, parser);
    let mut out = BytesMut::with_capacity(raw.len() + 320);
    out.extend_from_slice(b"{");
    // Neighbouring members that stay as they are leave in one piece, separators included.
    let mut run: Option<std::ops::Range<usize>> = None;
    for member in &message.members {
        let replaced = keys.is_some() && matches!(member.field, Field::Keys | Field::Key);
        if member.field == Field::Routing || replaced || member.short {
            flush(&mut out, raw, &mut run);
            if member.short && !replaced {
                renamed(&mut out, raw, member);
            }
            continue;
        }
        run = Some(run.map_or(member.whole.clone(), |r| r.start..member.whole.end));
    }
    flush(&mut out, raw, &mut run);
    if let Some(keys) = keys {
        named(&mut out, "keys", keys.as_bytes());
    }
    for (name, text) in [(&b"\"from\":"[..], routing.from), (b"\"rcpt\":", routing.rcpt.as_str())] {
        comma(&mut out);
        out.extend_from_slice(name);
        quote(&mut out, text);
    }
    out.extend_from_slice(b",\"traces\":[");
    // Writing to memory cannot fail.
    for earlier in routing.traces {
        let _ = write!(out, "{earlier},");
    }
    for name in [&b"{\"ID\":"[..], b",\"did\":"] {
        out.extend_from_slice(name);
        quote(&mut out, routing.station.as_str());
    }
    let _ = write!(out, ",\"time\":{}}}]", Seconds(routing.time));
    if !routing.recipients.is_empty() {
        let served: Vec<&str> = routing.recipients.iter().map(Id::as_str).collect();
        named(&mut out, "recipients", Value::from(served).to_string().as_bytes());
    }
    out.extend_from_slice(b"}");
    out.freeze()
}

/// The bytes of a message without one of its routing members, all else as it is.
pub fn without(message: &ReliableMessage, name: &str) -> Bytes {
    let raw = message.raw();
    let is = |member: &Member| {
        let whole = raw.get(member.whole.clone()).unwrap_or_default();
        let name = quoted(name);
        member.field == Field::Routing && whole.trim_ascii_start().starts_with(name.as_bytes())
    };
    if !message.members.iter().any(is) {
        return raw.clone();
    }
    let mut out = BytesMut::with_capacity(raw.len());
    out.extend_from_slice(b"{");
    for member in message.members.iter().filter(|member| !is(member)) {
        flush(&mut out, raw, &mut Some(member.whole.clone()));
    }
    out.extend_from_slice(b"}");
    out.freeze()
}

fn flush(out: &mut BytesMut, raw: &Bytes, run: &mut Option<std::ops::Range<usize>>) {
    if let Some(bytes) = run.take().and_then(|range| raw.get(range)) {
        comma(out);
        out.extend_from_slice(bytes);
    }
}

fn renamed(out: &mut BytesMut, raw: &Bytes, member: &Member) {
    let name = member.field.long_name();
    if let Some(value) = raw.get(member.value.clone()) {
        named(out, name, value);
    }
}

fn named(out: &mut BytesMut, name: &str, value: &[u8]) {
    comma(out);
    out.extend_from_slice(b"\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value);
}

fn comma(out: &mut BytesMut) {
    if out.len() > 1 {
        out.extend_from_slice(b",");
    }
}

/// Appends the JSON text of a string.
fn quote(out: &mut BytesMut, text: &str) {
    match needs_escape(text) {
        true => out.extend_from_slice(quoted(text).as_bytes()),
        false => {
            out.extend_from_slice(b"\"");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\"");
        }
    }
}

/// Whether a text is more in JSON than itself in quotes.
pub(crate) fn needs_escape(text: &str) -> bool {
    text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\')
}

/// JSON text of a string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `keys` for a copy that is for one device, when it is not that already: clients take exactly the
/// entry of their own terminal, so one that was made for the whole user is named anew.
fn narrowed_keys(message: &ReliableMessage, rcpt: &Id, parser: &mut Parser) -> Option<String> {
    rcpt.terminal()?;
    let keys = message.keys(parser);
    let naked = rcpt.naked();
    let own = |name: &str| name == rcpt.as_str();
    if message.member(Field::Keys).is_some() && keys.len() == 1 && own(&keys.first()?.0) {
        return None;
    }
    let (_, key) = keys
        .iter()
        .find(|(name, _)| own(name))
        .or_else(|| keys.iter().find(|(name, _)| name == naked.as_str()))?;
    let digest = match message.value(Field::Keys, parser) {
        Some(serde_json::Value::Object(map)) => {
            map.get("digest").map(|d| format!(",\"digest\":{d}"))
        }
        _ => None,
    };
    Some(format!("{{{}:{}{}}}", quoted(rcpt.as_str()), quoted(key), digest.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::directory::Names;
    use serde_json::json;

    const USER: &str = "0x4C33A4B2e6f267FFA7691d661E21EC01fbD5f13D";

    fn spliced(text: &str, rcpt: &str) -> (String, Value) {
        let mut parser = Parser::default();
        let raw = Bytes::copy_from_slice(text.as_bytes());
        let message =
            ReliableMessage::parse(raw, &mut parser, &mut Names::default()).expect("a message");
        let rcpt = Id::parse(rcpt).expect("an id");
        let station = Id::moky();
        let (traces, recipients) = (&[json!({"did": "s@anywhere"})][..], &[]);
        let routing =
            Routing { from: "/", rcpt: &rcpt, station: &station, time: 5.25, traces, recipients };
        let bytes = relay(&message, routing, &mut parser);
        let text = String::from_utf8(bytes.to_vec()).expect("utf-8");
        let value = serde_json::from_str(&text).expect("json");
        (text, value)
    }

    #[test]
    fn the_clients_own_routing_is_dropped_and_the_rest_keeps_its_bytes() {
        let text = format!(
            r#"{{"traces":[1], "sender" : "{USER}", "rcpt":"x","receiver":"{USER}","y": 1.50 ,"data":"YQ\/=","from":"/a","signature":"AA=="}}"#
        );
        let (out, value) = spliced(&text, USER);
        assert!(out.starts_with(&format!(r#"{{"sender" : "{USER}","receiver":"{USER}","y": 1.50 ,"data":"YQ\/=","signature":"AA==","from":"/""#)), "{out}");
        assert_eq!(value["rcpt"], USER);
        assert_eq!(value["traces"][0], json!({"did": "s@anywhere"}), "what the caller knows of");
        assert_eq!(value["traces"][1]["time"], json!(5.25));
        assert_eq!(value["traces"].as_array().map(Vec::len), Some(2));
        assert_eq!(value["recipients"], Value::Null);
    }

    #[test]
    fn a_copy_for_one_device_has_its_key_only() {
        let text = format!(
            r#"{{"sender":"{USER}","receiver":"{USER}","data":"AAAA","keys":{{"{USER}/a":"QQ==","{USER}/b":"Qg==","digest":"d"}},"signature":"AA=="}}"#
        );
        let (_, value) = spliced(&text, &format!("{USER}/b"));
        assert_eq!(value["keys"], json!({format!("{USER}/b"): "Qg==", "digest": "d"}));
        let (_, value) = spliced(&text, USER);
        assert_eq!(value["keys"].as_object().map(|k| k.len()), Some(3));
        let old = format!(r#"{{"F":"{USER}","R":"{USER}","D":"AAAA","K":"QQ==","V":"AA=="}}"#);
        let (_, value) = spliced(&old, &format!("{USER}/b"));
        assert_eq!(value["keys"], json!({format!("{USER}/b"): "QQ=="}));
        assert_eq!(value["key"], Value::Null);
        assert_eq!(value["sender"], USER);
    }
}
