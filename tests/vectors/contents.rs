//! Contents before and after both filters, and the one-letter names.

use dim::proto::compat;
use serde_json::Value;

use crate::set::{Outcome, exact, judge, map, same, text, wrong};

pub(crate) fn filters(vector: &Value) -> Outcome {
    let received = match text(vector, "kind") {
        "emit" => {
            let sent = compat::send(map(vector, "native").clone());
            same("sent", &Value::Object(sent.clone()), &vector["sent"])?;
            compat::receive(sent)
        }
        "receive" => {
            let input = map(vector, "input").clone();
            compat::expand_content(input).and_then(compat::receive)
        }
        other => return Err(wrong("a known kind", other)),
    };
    let answer = match text(vector, "kind") {
        "emit" => exact(),
        _ => judge(vector, received.is_ok()),
    }?;
    match received {
        Ok(map) if vector.get("after_receive_fix").is_some() => {
            same("received", &Value::Object(map), &vector["after_receive_fix"])?;
        }
        Err(error) if vector.get("after_receive_fix").is_some() && vector["must"] != false => {
            return Err(wrong(vector["after_receive_fix"].to_string(), error.to_string()));
        }
        _ => {}
    }
    Ok(answer)
}

pub(crate) fn short_names(vector: &Value) -> Outcome {
    let short = map(vector, "short").clone();
    let long = match text(vector, "kind") {
        "content" => compat::expand_content(short),
        "key" => compat::expand_key(short),
        "message" | "message_extract" => compat::expand_message(short),
        other => return Err(wrong("a known kind", other)),
    };
    let long = long.map_err(|error| wrong(vector["long"].to_string(), error.to_string()))?;
    same("long", &Value::Object(long.clone()), &vector["long"])?;
    // Nothing is shortened on the way out: see also the relayed messages.
    if vector["kind"] == "content" {
        let sent = compat::send(long);
        let shortened = sent.keys().find(|name| name.len() == 1);
        same("short name sent", shortened, None)?;
        let missing =
            map(vector, "emitted_by_station").keys().find(|name| !sent.contains_key(*name));
        same("name not sent", missing, None)?;
    }
    exact()
}
