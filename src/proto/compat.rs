//! The names that generations of clients use for the same things (message.md sections 6 and 9).
//!
//! `receive` fills in what is missing so that the rest of the program knows one form; `send`
//! writes both forms, so that a client of any generation finds its own.

use serde_json::{Map, Value};

use super::content::{ContentError, kind, kind_of};
use super::document::Document;
use super::meta::Meta;

type Fields = Map<String, Value>;

/// Expands the one-letter names of a content, top level only.
pub fn expand_content(map: Fields) -> Result<Fields, ContentError> {
    expand(map, &[("T", "type"), ("N", "sn"), ("W", "time"), ("G", "group"), ("C", "command")])
}

/// Expands the one-letter names of a content key.
pub fn expand_key(map: Fields) -> Result<Fields, ContentError> {
    expand(map, &[("A", "algorithm"), ("D", "data"), ("I", "iv")])
}

/// Expands the one-letter names of a message. `K` is `keys` or `key` by its value.
pub fn expand_message(map: Fields) -> Result<Fields, ContentError> {
    let mut map = expand(
        map,
        &[
            ("F", "sender"),
            ("R", "receiver"),
            ("W", "time"),
            ("T", "type"),
            ("G", "group"),
            ("D", "data"),
            ("V", "signature"),
            ("M", "meta"),
            ("P", "visa"),
        ],
    )?;
    if let Some(value) = map.remove("K") {
        let name = match value {
            Value::Object(_) => "keys",
            Value::String(_) => "key",
            _ => return Err(ContentError::Kind("keys")),
        };
        if map.contains_key(name) {
            return Err(ContentError::Kind("keys"));
        }
        map.insert(name.into(), value);
    }
    Ok(map)
}

fn expand(mut map: Fields, names: &[(&str, &'static str)]) -> Result<Fields, ContentError> {
    for (short, long) in names {
        if let Some(value) = map.remove(*short) {
            if map.contains_key(*long) {
                return Err(ContentError::Kind(long));
            }
            map.insert((*long).into(), value);
        }
    }
    Ok(map)
}

/// The filter of a content that was received and opened.
pub fn receive(mut map: Fields) -> Result<Fields, ContentError> {
    match kind_of(map.get("type")) {
        kind::COMMAND => receive_command(map),
        kind::HISTORY => match map.get("command") {
            Some(Value::String(name)) if !name.is_empty() => Ok(map),
            _ => Err(ContentError::CommandName),
        },
        kind::CARD => {
            both(&mut map, "ID", "did", ContentError::TwoIds)?;
            Ok(map)
        }
        file if kind::FILES.contains(&file) => {
            fix_file(&mut map);
            Ok(map)
        }
        _ => Ok(map),
    }
}

fn receive_command(mut map: Fields) -> Result<Fields, ContentError> {
    both(&mut map, "cmd", "command", ContentError::CommandName)?;
    let Some(Value::String(name)) = map.get("command") else {
        return Err(ContentError::CommandName);
    };
    let name = name.clone();
    match name.as_str() {
        "login" => both(&mut map, "ID", "did", ContentError::TwoIds)?,
        "meta" => {
            both(&mut map, "ID", "did", ContentError::TwoIds)?;
            fix_meta(&mut map);
        }
        "document" | "documents" => {
            both(&mut map, "ID", "did", ContentError::TwoIds)?;
            fix_meta(&mut map);
            map.insert("command".into(), "documents".into());
            if !map.contains_key("documents")
                && let Some(mut one) = map.shift_remove("document")
            {
                if let Value::Object(document) = &mut one {
                    both(document, "ID", "did", ContentError::TwoIds)?;
                }
                map.insert("documents".into(), Value::Array(vec![one]));
            }
        }
        _ => {}
    }
    Ok(map)
}

/// Copies one name's value to the other where that is missing; two values must be equal.
fn both(map: &mut Fields, a: &str, b: &str, differ: ContentError) -> Result<(), ContentError> {
    // Of IDs, a null stands for none, as the packages read it.
    let ids = differ == ContentError::TwoIds;
    let said = |name: &str| map.get(name).filter(|value| !(ids && value.is_null())).cloned();
    match (said(a), said(b)) {
        (Some(x), Some(y)) if x != y => return Err(differ),
        (Some(x), None) => {
            map.insert(b.into(), x);
        }
        (None, Some(y)) => {
            map.insert(a.into(), y);
        }
        _ => {}
    }
    Ok(())
}

/// The key of a file goes by two names; where they differ, the newer name counts.
fn fix_file(map: &mut Fields) {
    let present = |name: &str| map.get(name).filter(|value| !value.is_null()).cloned();
    if let Some(key) = present("key") {
        map.insert("password".into(), key);
    } else if let Some(password) = present("password") {
        map.insert("key".into(), password);
    }
}

/// A meta under `meta` gets its version under both names, as a number. One that cannot be read is
/// left as it is, for whoever checks it.
fn fix_meta(map: &mut Fields) {
    if let Some(Value::Object(meta)) = map.get("meta")
        && let Ok(read) = Meta::from_map(meta)
    {
        map.insert("meta".into(), Value::Object(read.to_map()));
    }
}

/// The filter of a content that is about to be sent.
pub fn send(mut map: Fields) -> Fields {
    if let Some(Value::String(text)) = map.get("type")
        && let Ok(number) = text.parse::<u32>()
    {
        map.insert("type".into(), number.into());
    }
    match kind_of(map.get("type")) {
        kind::COMMAND | kind::HISTORY => send_command(&mut map),
        kind::CARD => copy(&mut map, "did", "ID"),
        file if kind::FILES.contains(&file) => fix_file(&mut map),
        _ => {}
    }
    map
}

fn send_command(map: &mut Fields) {
    copy(map, "command", "cmd");
    let name = map.get("command").and_then(Value::as_str).unwrap_or_default().to_owned();
    match name.as_str() {
        "login" => {
            copy(map, "did", "ID");
            for entity in ["station", "provider"] {
                if let Some(Value::Object(inner)) = map.get_mut(entity) {
                    copy(inner, "did", "ID");
                }
            }
        }
        "meta" => {
            copy(map, "did", "ID");
            fix_meta(map);
        }
        "documents" | "document" => {
            copy(map, "did", "ID");
            fix_meta(map);
            map.insert("command".into(), "document".into());
            map.insert("cmd".into(), "document".into());
            send_documents(map);
        }
        "receipt" => {
            if let Some(Value::Object(origin)) = map.get("origin").cloned() {
                for field in ["sender", "receiver", "sn", "signature"] {
                    if let Some(value) = origin.get(field) {
                        map.insert(field.into(), value.clone());
                    }
                }
                map.insert("envelope".into(), Value::Object(origin));
            }
        }
        _ => {}
    }
}

/// Who knows only one document reads the newest.
fn send_documents(map: &mut Fields) {
    let Some(Value::Array(mut documents)) = map.shift_remove("documents") else {
        return;
    };
    for document in documents.iter_mut().filter_map(Value::as_object_mut) {
        copy(document, "did", "ID");
    }
    if let Some(newest) = newest(&documents) {
        map.insert("document".into(), newest.clone());
    }
    // Without its list, an answer that has none would be a question.
    if documents.len() != 1 {
        map.insert("documents".into(), Value::Array(documents));
    }
}

/// The document with the latest time; of equal ones, or if either has none, the later in the list.
fn newest(documents: &[Value]) -> Option<&Value> {
    let time = |document: &Value| Document::from_map(document.as_object()?).ok()?.time();
    documents.iter().reduce(|last, next| match (time(last), time(next)) {
        (Some(last_time), Some(next_time)) if next_time < last_time => last,
        _ => next,
    })
}

fn copy(map: &mut Fields, from: &str, to: &str) {
    if !map.contains_key(to)
        && let Some(value) = map.get(from).cloned()
    {
        map.insert(to.into(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_several_documents_the_newest_is_named() {
        let document = |time: u32| {
            let data = format!("{{\"time\": {time}}}");
            json!({"type": "visa", "did": "moky@anywhere", "data": data, "signature": "AAAA"})
        };
        let list = json!([document(5), document(7), document(6)]);
        let map = json!({"type": kind::COMMAND, "command": "documents", "documents": list});
        let sent = send(map.as_object().cloned().unwrap());
        assert_eq!(sent["document"]["data"], document(7)["data"]);
        assert_eq!(sent["documents"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn the_key_of_a_file_has_both_names_in_both_directions() {
        let file = |fields: Value| {
            let mut map = fields.as_object().cloned().unwrap();
            map.insert("type".into(), kind::FILES[0].into());
            [send(map.clone()), receive(map).unwrap()]
                .map(|map| [map["key"].clone(), map["password"].clone()])
        };
        assert_eq!(file(json!({"key": "k"})), [["k", "k"], ["k", "k"]]);
        assert_eq!(file(json!({"password": "p"})), [["p", "p"], ["p", "p"]]);
        assert_eq!(file(json!({"key": null, "password": "p"})), [["p", "p"], ["p", "p"]]);
        assert_eq!(file(json!({"key": "k", "password": "p"})), [["k", "k"], ["k", "k"]]);
    }
}
