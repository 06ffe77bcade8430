//! Login records: who logged in where, as the signed message that says so.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::client::folder::Fault;
use crate::crypto::error::CryptoError;
use crate::crypto::key::VerifyKey;
use crate::crypto::sign;
use crate::proto::content::seconds;
use crate::proto::directory::Names;
use crate::proto::id::Id;
use crate::proto::json::{self, Parser};
use crate::proto::message::ReliableMessage;

/// Records kept of one user, one a device: as many as a station keeps.
const RECORDS_MAX: usize = 8;

/// The records in the store.
pub(super) fn read(stored: Option<&Bytes>) -> Vec<Value> {
    match stored.map(|bytes| json::parse(bytes)) {
        Some(Ok(Value::Array(list))) => list,
        _ => Vec::new(),
    }
}

/// Shows that the owner of `keys`, who is `id`, has signed the message, and that the command beside
/// it is the one in it.
pub(super) fn prove(
    id: &Id,
    mut record: Map<String, Value>,
    keys: &[VerifyKey],
    parser: &mut Parser,
    names: &mut Names,
) -> Result<Value, Fault> {
    const SEALED: Fault = Fault::Shape("a message in the open, for everyone");
    const OTHER: Fault = Fault::Shape("the command that the message holds");
    let message = record.get("msg").map(json::write).unwrap_or_default();
    let message = ReliableMessage::parse(message.into(), parser, names)
        .map_err(|_| Fault::Shape("a signed message under msg"))?;
    let sender = message.sender().clone();
    if !sender.is_same_as(id) {
        return Err(CryptoError::Identity.into());
    }
    let message = sign::verify(message, keys).map_err(|_| CryptoError::Signature)?;
    if !message.is_plain() {
        return Err(SEALED);
    }
    let content = message.signed_bytes().ok().and_then(|bytes| json::parse_object(&bytes).ok());
    let (Some(content), Some(command)) = (content, record.get_mut("cmd")) else {
        return Err(SEALED);
    };
    let Some(command) = command.as_object_mut() else {
        return Err(OTHER);
    };
    // The copies under old names and the terminal were added by a station; what was signed is not
    // changed by that.
    let signed = |key: &str| content.get(key).is_none_or(|value| command.get(key) == Some(value));
    if !["did", "ID", "sn", "time", "station", "terminal", "command", "cmd"]
        .iter()
        .all(|k| signed(k))
    {
        return Err(OTHER);
    }
    let whose = ["did", "ID"].iter().find_map(|key| command.get(*key)?.as_str());
    if !whose.and_then(|text| Id::parse(text).ok()).is_some_and(|whose| whose.is_same_as(id)) {
        return Err(CryptoError::Identity.into());
    }
    if let (None, Some(terminal)) = (command.get("terminal"), sender.terminal()) {
        command.insert("terminal".into(), terminal.into());
    }
    Ok(record.into())
}

/// Puts a record in its place: the newest of each device, newest first.
pub(super) fn keep(kept: &mut Vec<Value>, record: &Value) {
    let device = |record: &Value| record["cmd"]["terminal"].as_str().unwrap_or_default().to_owned();
    let time = |record: &Value| seconds(&record["cmd"]["time"]).unwrap_or_default();
    let same = kept.iter().position(|old| device(old) == device(record));
    if let Some(place) = same {
        if kept.get(place).is_some_and(|old| time(old) >= time(record)) {
            return;
        }
        kept.remove(place);
    }
    kept.push(record.clone());
    kept.sort_by(|a, b| time(b).total_cmp(&time(a)));
    kept.truncate(RECORDS_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_record_of_each_device_is_kept_newest_first() {
        let of = |device: &str, time: u32| json!({"cmd": {"terminal": device, "time": time}});
        let mut kept = Vec::new();
        for record in [of("a", 5), of("b", 7), of("a", 6), of("b", 1)] {
            keep(&mut kept, &record);
        }
        assert_eq!(kept, [of("b", 7), of("a", 6)]);
        for number in 10..30 {
            keep(&mut kept, &of(&number.to_string(), number));
        }
        assert_eq!((kept.len(), &kept[0]), (RECORDS_MAX, &of("29", 29)));
    }
}
