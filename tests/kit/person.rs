//! Somebody with an account, and what they say.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use dim::base::encode::{base64_decode, base64_encode};
use dim::client::account::Account;
use dim::crypto::key::{CipherKey, OpenKey, SignKey};
use dim::crypto::seal::content_key;
use dim::proto::json;
use dim::proto::meta::MetaKind;
use serde_json::{Map, Value, json};

/// A user, on one of their devices if a terminal is given.
#[derive(Clone)]
pub(crate) struct Person {
    account: Arc<Account>,
    pub(crate) terminal: Option<String>,
    visa: Map<String, Value>,
}

/// A message as it is sent, and what it is known by.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) signature: String,
    pub(crate) text: Vec<u8>,
}

impl Letter {
    /// With a field that is not signed, or is and should not have been touched.
    pub(crate) fn with(&self, name: &str, value: impl Into<Value>) -> Self {
        let mut map: Value = serde_json::from_slice(&self.text).unwrap();
        map[name] = value.into();
        let signature = map["signature"].as_str().unwrap().to_owned();
        Self { signature, text: map.to_string().into_bytes() }
    }
}

/// The same RSA key for all: making one takes long, and none of these tests is about it.
fn message_key() -> OpenKey {
    static KEY: OnceLock<OpenKey> = OnceLock::new();
    let made = || {
        let vectors: Value =
            serde_json::from_str(include_str!("../vectors/data/accounts.json")).unwrap();
        let key = &vectors["accounts"]["alice"]["message_keys"][0];
        OpenKey::from_map(key.as_object().unwrap()).unwrap()
    };
    KEY.get_or_init(made).clone()
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

pub(crate) fn random_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rand::fill(&mut bytes).unwrap();
    bytes
}

/// A command as clients of today write it.
pub(crate) fn command(name: &str, fields: Value) -> Value {
    let sn = u32::from_be_bytes(*random_bytes(4).first_chunk().unwrap()) >> 1;
    let mut map = json!({"type": 136, "sn": sn, "time": now_s(), "command": name, "cmd": name});
    map.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    map
}

impl Person {
    pub(crate) fn new() -> Self {
        let sign = SignKey::generate_ecc().unwrap();
        let profile = Map::from_iter([("name".to_owned(), json!("somebody"))]);
        // A moment ago, so that a clock that is set back a little does no harm.
        let time = now_s() - 60.0;
        let made =
            Account::create(MetaKind::Eth, 0, None, sign, message_key(), time, profile).unwrap();
        let visa = made.document().unwrap().to_map();
        Self { account: Arc::new(made), terminal: None, visa }
    }

    /// The same user on a device with a name. Visas of one time do not outdate each other.
    pub(crate) fn on(&self, terminal: &str) -> Self {
        let mut properties = self.account.document().unwrap().properties().clone();
        properties.insert("device".into(), terminal.into());
        let data = json::write_object(&properties);
        let signature = base64_encode(&self.account.sign_key().sign(data.as_bytes()).unwrap());
        let visa = json!({
            "type": "visa", "did": self.id(), "ID": self.id(), "data": data,
            "signature": signature, "terminal": terminal,
        });
        Self {
            account: self.account.clone(),
            terminal: Some(terminal.to_owned()),
            visa: visa.as_object().unwrap().clone(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.account.id().as_str()
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn visa_signature(&self) -> &str {
        self.visa["signature"].as_str().unwrap()
    }

    fn signed(&self, mut message: Value, bytes: &[u8], attach: bool) -> Letter {
        let signature = base64_encode(&self.account.sign_key().sign(bytes).unwrap());
        let map = message.as_object_mut().unwrap();
        map.insert("signature".into(), signature.as_str().into());
        if attach {
            map.insert("meta".into(), self.account.meta().to_map().into());
            map.insert("visa".into(), self.visa.clone().into());
        }
        Letter { signature, text: message.to_string().into_bytes() }
    }

    /// Said to the station in the open.
    pub(crate) fn ask(&self, content: &Value) -> Letter {
        self.say("station@anywhere", content)
    }

    /// Said in the open to whoever has that name.
    pub(crate) fn say(&self, receiver: &str, content: &Value) -> Letter {
        let data = content.to_string();
        let message = json!({
            "sender": self.id(), "receiver": receiver, "time": now_s(),
            "type": content["type"], "data": data,
        });
        self.signed(message, data.as_bytes(), false)
    }

    /// Somebody of another type, with a name.
    pub(crate) fn of(network: u8, name: &str) -> Self {
        let sign = SignKey::generate_ecc().unwrap();
        let time = now_s() - 60.0;
        let kind = MetaKind::Mkm;
        let made =
            Account::create(kind, network, Some(name), sign, message_key(), time, Map::new());
        let made = made.unwrap();
        let visa = made.document().unwrap().to_map();
        Self { account: Arc::new(made), terminal: None, visa }
    }

    pub(crate) fn meta(&self) -> Value {
        self.account.meta().to_map().into()
    }

    pub(crate) fn visa(&self) -> Value {
        self.visa.clone().into()
    }

    /// A handshake; the first one comes without a session key and introduces the sender.
    pub(crate) fn hello(&self, session: Option<&str>) -> Letter {
        let title = "Hello world!";
        let mut fields = json!({"title": title, "message": title});
        if let Some(session) = session {
            fields["session"] = session.into();
        }
        let data = command("handshake", fields).to_string();
        let message = json!({
            "sender": self.id(), "receiver": "station@anywhere", "group": "stations@everywhere",
            "time": now_s(), "type": 136, "data": data,
        });
        self.signed(message, data.as_bytes(), session.is_none())
    }

    /// The own document, for all stations.
    pub(crate) fn publish(&self) -> Letter {
        let content = command("document", json!({"did": self.id(), "document": self.visa}));
        let data = content.to_string();
        let message = json!({
            "sender": self.id(), "receiver": "everyone@everywhere", "time": now_s(),
            "type": content["type"], "data": data,
        });
        self.signed(message, data.as_bytes(), false)
    }

    /// Something that nobody but the receiver could read: to a station, random bytes.
    pub(crate) fn letter(&self, to: &Person, len: usize) -> Letter {
        let bytes = random_bytes(len);
        let message = json!({
            "sender": self.id(), "receiver": to.id(), "time": now_s(), "type": 1,
            "data": base64_encode(&bytes), "key": base64_encode(&random_bytes(64)),
        });
        self.signed(message, &bytes, false)
    }

    /// The same with a key entry for each device.
    pub(crate) fn letter_with_keys(&self, to: &Person, keys: Value) -> Letter {
        let bytes = random_bytes(100);
        let message = json!({
            "sender": self.id(), "receiver": to.id(), "time": now_s(), "type": 1,
            "data": base64_encode(&bytes), "keys": keys,
        });
        self.signed(message, &bytes, false)
    }

    /// The content of a message from the station, and the content key for the next time.
    pub(crate) fn open(
        &self,
        message: &Map<String, Value>,
        known: &mut Option<(String, CipherKey)>,
    ) -> Option<Value> {
        let Some(keys) = message.get("keys").and_then(Value::as_object) else {
            // In the open.
            return serde_json::from_str(message.get("data")?.as_str()?).ok();
        };
        let dressed = self.terminal.as_ref().map(|terminal| format!("{}/{terminal}", self.id()));
        let name = dressed.filter(|name| keys.contains_key(name));
        let sealed = keys.get(name.as_deref().unwrap_or(self.id()))?.as_str()?;
        if known.as_ref().is_none_or(|(last, _)| last != sealed) {
            let text = message_key().decrypt(&base64_decode(sealed).ok()?).ok()?;
            *known = Some((sealed.to_owned(), content_key(&text)?));
        }
        let (_, key) = known.as_ref()?;
        let iv = base64_decode(message.get("IV")?.as_str()?).ok()?;
        let data = base64_decode(message.get("data")?.as_str()?).ok()?;
        serde_json::from_slice(&key.decrypt(&data, iv.try_into().ok()).ok()?).ok()
    }
}
