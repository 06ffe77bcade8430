//! Recorded sessions of reference clients with a reference station: both directions split as
//! recorded, and our station's wire layer would have said what the recorded one said.

use bytes::Bytes;
use dim::base::encode::{base64_decode, hex_decode, hex_encode};
use dim::wire::{
    DeframeLimits, Deframer, Event, Framing, PushKey, Scan, encode_ack, mars, mtp, push_head,
    push_key, split_lines, websocket,
};
use serde_json::{Value, json};

use crate::set::{Outcome, Wrong, committed, exact, folder, list, read, same, text, wrong};

/// The recordings of the set; the committed ones where it has none, since they need a running
/// station and do not come from a seed.
pub(crate) fn recorded() -> Vec<(String, Value)> {
    let sessions = |folder: std::path::PathBuf| {
        let entries = std::fs::read_dir(folder.join("transport"));
        let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
        let name = |path: &std::path::Path| {
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        let mut found: Vec<_> = paths.filter(|path| name(path).starts_with("session-")).collect();
        found.sort();
        found.iter().map(|path| (format!("transport/{}", name(path)), read(path))).collect()
    };
    let found: Vec<_> = sessions(folder().0);
    let found = if found.is_empty() { sessions(committed()) } else { found };
    assert!(!found.is_empty(), "transport/session-*.json are missing");
    found
}

/// One package of a stream: the recorder's words for it, and its body.
struct Package {
    words: Value,
    body: Vec<u8>,
    whole: Vec<u8>,
}

pub(crate) fn connection(connection: &Value) -> Outcome {
    let (sent, heard) = (direction(connection, "C>S")?, direction(connection, "S>C")?);
    answers(connection, &sent, &heard)?;
    for package in &heard {
        rewritten(package)?;
    }
    exact()
}

fn chunks<'a>(connection: &'a Value, way: &str) -> impl Iterator<Item = Vec<u8>> + use<'a> {
    let way = way.to_owned();
    let stream = list(connection, "stream").iter().filter(move |read| read["dir"] == way);
    stream.map(|read| hex_decode(text(read, "hex")).unwrap())
}

/// The packages of one direction, held to what the recorder explained, one after the other and
/// without a byte between them.
fn direction(connection: &Value, way: &str) -> Result<Vec<Package>, Wrong> {
    let stream = chunks(connection, way).collect::<Vec<_>>().concat();
    let explained = list(connection, "explained").iter().filter(|package| package["dir"] == way);
    let (mut rest, mut packages) = (stream.as_slice(), Vec::new());
    for expected in explained {
        let (package, after) = split(rest, text(expected, "what"))
            .ok_or_else(|| wrong(expected.to_string(), "no whole package"))?;
        let mut expected = expected.clone();
        expected["t"] = Value::Null;
        let mut words = package.words.clone();
        (words["dir"], words["t"]) = (way.into(), Value::Null);
        same(way, words, expected)?;
        packages.push(package);
        rest = after;
    }
    same("bytes left", rest.len(), 0)?;
    Ok(packages)
}

/// The package at the start of `bytes`, and what follows it.
fn split<'a>(bytes: &'a [u8], what: &str) -> Option<(Package, &'a [u8])> {
    let (mut words, head_len, body_len, mask) = match what {
        "mtp" => {
            let head = found(mtp::parse_head(bytes))?;
            let words = json!({"type": head.kind as u8, "sn": hex_encode(&head.id)});
            (words, usize::from(head.head_len), head.body_len as usize, None)
        }
        "mars" => {
            let head = found(mars::parse_head(bytes))?;
            let words = json!({"cmd": head.cmd, "seq": head.seq});
            (words, head.head_len as usize, head.body_len as usize, None)
        }
        "ws" => {
            let head = websocket::parse_head(bytes).ok()??;
            let words = json!({"opcode": head.opcode});
            (words, usize::from(head.head_len), usize::try_from(head.len).ok()?, head.mask)
        }
        _ => {
            let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
            (json!({"text": str::from_utf8(&bytes[..end]).ok()?}), end, 0, None)
        }
    };
    let (whole, rest) = bytes.split_at_checked(head_len + body_len)?;
    let mut body = whole[head_len..].to_vec();
    if let Some(mask) = mask {
        websocket::unmask(&mut body, mask);
    }
    words["what"] = what.into();
    if what != "http" {
        words["body"] = outline(&body);
    }
    Some((Package { words, body, whole: whole.to_vec() }, rest))
}

fn found<H>(scan: Scan<H>) -> Option<H> {
    match scan {
        Scan::Found(head) => Some(head),
        Scan::Partial | Scan::No => None,
    }
}

/// A body as the recorder wrote it down: messages by their envelopes, anything else as it is.
fn outline(body: &[u8]) -> Value {
    let lines = String::from_utf8_lossy(body);
    let mut lines: Vec<Value> = lines.lines().map(outline_line).collect();
    match lines.len() {
        0 => "".into(),
        1 => lines.remove(0),
        _ => lines.into(),
    }
}

fn outline_line(line: &str) -> Value {
    let Ok(message @ Value::Object(_)) = serde_json::from_str::<Value>(line) else {
        return line.into();
    };
    let mut shown = json!({});
    for name in ["sender", "receiver", "group", "time", "type"] {
        if let Some(value) = message.get(name) {
            shown[name] = value.clone();
        }
    }
    let data = message["data"].as_str().unwrap_or_default();
    shown["data"] = match data.starts_with('{') {
        true => serde_json::from_str(data).unwrap_or_default(),
        false => format!("({} characters)", data.len()).into(),
    };
    let mut also: Vec<&String> = message.as_object().unwrap().keys().collect();
    also.retain(|name| shown.get(name.as_str()).is_none());
    also.sort();
    shown["also"] = json!(also);
    shown
}

/// Whether a package of the station answers one of the client's, and was not pushed.
fn is_answer(words: &Value) -> bool {
    match text(words, "what") {
        "mtp" => [1, 3].map(Value::from).contains(&words["type"]),
        "ws" => words["body"] == "PONG",
        "http" => true,
        _ => false,
    }
}

/// Feeds what the client sent, read by read: the same messages come out, the same answers are
/// written, and what the client acknowledged are the recorded pushes.
fn answers(connection: &Value, sent: &[Package], heard: &[Package]) -> Result<(), Wrong> {
    let mut deframer = Deframer::new(DeframeLimits::default());
    let (mut delivered, mut written, mut acknowledged) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in chunks(connection, "C>S") {
        deframer.feed(Bytes::from(chunk));
        while let Some(event) =
            deframer.next_event().map_err(|e| wrong("no error", e.to_string()))?
        {
            match event {
                Event::Message { ack, body } => {
                    written.extend_from_slice(encode_ack(&ack).as_deref().unwrap_or_default());
                    delivered.extend(split_lines(&body).filter(|line| line.starts_with(b"{")));
                }
                Event::Reply(bytes) => written.extend_from_slice(&bytes),
                Event::Acknowledged(key) => acknowledged.push(key),
                Event::Close(_) | Event::Heartbeat => {}
            }
        }
    }
    let messages = sent.iter().flat_map(|package| {
        split_lines_of(&package.body).into_iter().filter(|line| line.starts_with(b"{"))
    });
    same("messages", delivered, messages.collect())?;
    let answers = heard.iter().filter(|package| is_answer(&package.words));
    same("answers", written, answers.flat_map(|package| package.whole.clone()).collect())?;
    let pushes: Vec<PushKey> = heard.iter().filter_map(key_of).collect();
    acknowledged.retain(|key| pushes.contains(key));
    let answering = sent.iter().filter(|package| match text(&package.words, "what") {
        "mtp" => package.words["type"] == 3,
        "ws" => package.body.starts_with(b"ACK:"),
        _ => package.words["cmd"] == mars::PUSH_MESSAGE,
    });
    same("pushes acknowledged", acknowledged.len(), answering.count())
}

fn split_lines_of(body: &[u8]) -> Vec<Bytes> {
    // The serial line of Mars is framing.
    let payload = body.split(|byte| *byte == b'\n').next_back().unwrap_or_default();
    let is_numbered = body.starts_with(b"Mars SN:");
    split_lines(&Bytes::copy_from_slice(if is_numbered { payload } else { body })).collect()
}

/// Under what the client acknowledges a recorded push.
fn key_of(package: &Package) -> Option<PushKey> {
    match text(&package.words, "what") {
        "mtp" => {
            let sn = hex_decode(text(&package.words, "sn")).ok()?.try_into().ok()?;
            push_key(Framing::Mtp, u64::from_be_bytes(sn), &package.body)
        }
        "ws" => push_key(Framing::WebSocket, 1, &package.body),
        "mars" => {
            let line =
                package.body.strip_prefix(b"Mars SN:")?.split(|byte| *byte == b'\n').next()?;
            let sn = base64_decode(str::from_utf8(line).ok()?).ok()?.try_into().ok()?;
            push_key(Framing::Mars, u32::from_be_bytes(sn).into(), &package.body)
        }
        _ => None,
    }
}

/// Our own packing of a package that the recorded station wrote is that package.
fn rewritten(package: &Package) -> Result<(), Wrong> {
    let len = u32::try_from(package.body.len()).unwrap();
    let head = match text(&package.words, "what") {
        "mtp" => {
            let head = found(mtp::parse_head(&package.whole)).unwrap();
            mtp::encode_head(head.kind, head.id, head.pages, head.index, len)
        }
        "ws" => push_head(Framing::WebSocket, 1, len),
        "mars" => {
            let head = found(mars::parse_head(&package.whole)).unwrap();
            mars::encode_head(head.cmd, head.seq, len)
        }
        _ => return Ok(()),
    };
    same("rewritten", [&head, package.body.as_slice()].concat(), package.whole.clone())
}
