//! Receipts: what became of a message.

use serde_json::{Map, Value};

use crate::proto::content::{ContentError, number, seconds};
use crate::proto::field::Source;
use crate::proto::kind::{Key, Kind, set};

/// Says what became of a message. Never answered by another receipt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Receipt {
    /// What is said.
    pub text: String,
    /// The same with `${variables}`, for clients that translate.
    pub template: Option<String>,
    /// Values of the variables.
    pub replacements: Option<Map<String, Value>>,
    /// The message's envelope, with `sn` and `signature`; never its `data` or keys.
    pub origin: Option<Map<String, Value>>,
}

impl Receipt {
    /// A sentence about the message whose envelope is `origin`.
    pub fn about(origin: Map<String, Value>, text: &str) -> Self {
        Self { text: text.to_owned(), origin: Some(origin), ..Self::default() }
    }

    fn origin_field(&self, name: &str) -> Option<&Value> {
        self.origin.as_ref()?.get(name)
    }

    /// Serial number of the message's content, if whoever says this could read it.
    pub fn sn(&self) -> Option<u64> {
        self.origin_field("sn").and_then(number)
    }

    /// When the message was sent, in seconds since 1970 by its sender's clock.
    pub fn time(&self) -> Option<f64> {
        self.origin_field("time").and_then(seconds)
    }

    /// The message's signature in base64.
    pub fn signature(&self) -> Option<&str> {
        self.origin_field("signature")?.as_str()
    }
}

/// Fields of the envelope that receipts of 2019 have beside it or instead of it.
const APART: [&str; 3] = ["sender", "receiver", "signature"];

impl Kind for Receipt {
    const KEYS: &'static [Key<'static>] = &[Key::Command("receipt")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let mut origin: Option<Map<String, Value>> = source.field(&["origin", "envelope"])?;
        if source.value("origin").is_none() {
            for name in APART {
                if let Some(value) = source.value(name) {
                    let origin = origin.get_or_insert_default();
                    origin.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        Ok(Self {
            text: source.field(&["text", "message"])?,
            template: source.field(&["template"])?,
            replacements: source.field(&["replacements"])?,
            origin,
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        set(map, &["text", "message"], &self.text);
        set(map, &["template"], &self.template);
        set(map, &["replacements"], &self.replacements);
        set(map, &["origin", "envelope"], &self.origin);
        for name in APART {
            map.shift_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::command::Stamp;
    use crate::proto::content::Content;
    use serde_json::json;

    #[test]
    fn the_envelope_is_found_in_receipts_of_all_ages() {
        let origin = json!({"sender": "moky@anywhere", "sn": 7, "signature": "QUJD"});
        for mut receipt in [
            json!({"origin": origin}),
            json!({"envelope": {"sender": "moky@anywhere", "sn": "7"}, "signature": "QUJD"}),
        ] {
            receipt["type"] = 136.into();
            receipt["cmd"] = "receipt".into();
            receipt["message"] = "Message received.".into();
            let receipt = Content::read(receipt).unwrap().view::<Receipt>().unwrap();
            assert_eq!(receipt.origin_field("sender"), Some(&json!("moky@anywhere")));
            assert_eq!(receipt.sn(), Some(7));
            assert_eq!((receipt.signature(), receipt.text.len()), (Some("QUJD"), 17));
        }
        let origin = origin.as_object().unwrap().clone();
        let stamp = Stamp { sn: 9, time: 1.0 };
        let sent = Content::of(stamp, &Receipt::about(origin, "ok")).to_map();
        assert_eq!((&sent["envelope"]["sn"], &sent["signature"]), (&json!(7), &json!("QUJD")));
    }
}
