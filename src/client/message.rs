//! The three stages of a message that goes out: what is meant, under seal, signed.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::base::encode::base64_encode;
use crate::crypto::error::CryptoError;
use crate::crypto::key::{CipherKey, SignKey};
use crate::proto::content::kind_of;
use crate::proto::id::Id;
use crate::proto::json;

/// What stands outside on the message, readable for relays.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Who sends it.
    pub sender: Id,
    /// For whom it is.
    pub receiver: Id,
    /// The group, where it is not hidden in the content.
    pub group: Option<Id>,
    /// Seconds since 1970.
    pub time: f64,
}

/// A message as its sender means it.
#[derive(Debug, Clone)]
pub struct Instant {
    /// From whom, to whom.
    pub envelope: Envelope,
    /// The content, complete.
    pub content: Map<String, Value>,
}

/// A message that only its receivers can read, or a broadcast.
#[derive(Debug, Clone)]
pub struct Secure {
    envelope: Envelope,
    kind: u32,
    /// As it travels: base64, or the content's text itself.
    data: String,
    signed: Vec<u8>,
    iv: Option<String>,
    keys: Map<String, Value>,
}

/// A message as it travels.
#[derive(Debug, Clone)]
pub struct Reliable {
    secure: Secure,
    signature: String,
    attached: Vec<(&'static str, Map<String, Value>)>,
}

impl Instant {
    /// Covers the content with `key`; `keys` is that key under seal for each device. Broadcasts
    /// have the plain key and no `keys`.
    pub fn seal(self, key: &CipherKey, keys: Map<String, Value>) -> Result<Secure, CryptoError> {
        let text = json::write_object(&self.content);
        let kind = kind_of(self.content.get("type"));
        let (signed, iv) = key.encrypt(text.as_bytes())?;
        let data = match key {
            CipherKey::Plain => text,
            CipherKey::Aes(_) => base64_encode(&signed),
        };
        let iv = iv.map(|iv| base64_encode(&iv));
        Ok(Secure { envelope: self.envelope, kind, data, signed, iv, keys })
    }
}

impl Secure {
    /// Signs it with the key of the sender's ID.
    pub fn sign(mut self, key: &SignKey) -> Result<Reliable, CryptoError> {
        let signature = base64_encode(&key.sign(&self.signed)?);
        self.signed = Vec::new();
        Ok(Reliable { secure: self, signature, attached: Vec::new() })
    }
}

impl Reliable {
    /// With the sender's meta and visa, for whoever does not know them yet.
    pub fn attach(mut self, meta: Map<String, Value>, visa: Option<Map<String, Value>>) -> Self {
        self.attached = vec![("meta", meta)];
        self.attached.extend(visa.map(|visa| ("visa", visa)));
        self
    }

    /// The same for one member of its group, with that member's keys only.
    pub fn split(&self, member: &Id) -> Self {
        let mut one = self.clone();
        let envelope = &mut one.secure.envelope;
        envelope.group.get_or_insert_with(|| envelope.receiver.clone());
        envelope.receiver = member.clone();
        one.secure.keys.retain(|name, _| {
            name == "digest" || Id::parse(name).is_ok_and(|id| id.is_same_as(member))
        });
        one
    }

    /// Whom it goes to.
    pub fn receiver(&self) -> &Id {
        &self.secure.envelope.receiver
    }

    /// Base64; the name by which receipts speak of it.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// The object that travels. `signature` stands before the attachments, since web clients cut
    /// it out of the text by its first occurrence.
    pub fn to_map(&self) -> Map<String, Value> {
        let (secure, envelope) = (&self.secure, &self.secure.envelope);
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| map.insert(name.into(), value);
        put("sender", envelope.sender.as_str().into());
        put("receiver", envelope.receiver.as_str().into());
        if let Some(group) = &envelope.group {
            put("group", group.as_str().into());
        }
        put("time", envelope.time.into());
        put("type", secure.kind.to_string().into());
        if let Some(iv) = &secure.iv {
            put("IV", iv.as_str().into());
        }
        put("data", secure.data.as_str().into());
        if !secure.keys.is_empty() {
            put("keys", secure.keys.clone().into());
        }
        put("signature", self.signature.as_str().into());
        for (name, value) in &self.attached {
            put(name, value.clone().into());
        }
        map
    }

    /// The bytes that travel.
    pub fn to_bytes(&self) -> Bytes {
        json::write_object(&self.to_map()).into()
    }
}
