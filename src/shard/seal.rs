//! The station's own messages: sealed for a user's devices, signed with the station's key.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::user::{User, is_device};
use crate::base::encode;
use crate::base::time::Seconds;
use crate::crypto::aes::AesKey;
use crate::crypto::identity::seal_keys;
use crate::crypto::key::{CipherKey, OpenKey, SignKey};
use crate::crypto::seal::wrap_key;
use crate::proto::id::Id;
use crate::proto::json;
use crate::proto::splice::quoted;

/// Who the station is.
#[derive(Debug)]
pub struct Station {
    /// Its ID.
    pub id: Id,
    /// Its meta, as it is attached.
    pub meta: Map<String, Value>,
    /// Its visa, as it is attached.
    pub visa: Map<String, Value>,
    /// Signs what the station says.
    pub sign: SignKey,
    /// Open what is sealed for the station, newest first.
    pub open: Vec<OpenKey>,
}

/// The content key that the station uses with one session, sealed for the user's devices. Making
/// one costs an RSA encryption per device, so it serves until the user's documents change.
#[derive(Debug)]
pub(super) struct Cipher {
    key: CipherKey,
    /// `keys` of the message.
    wrapped: String,
    names: Vec<String>,
    edition: u32,
}

impl Cipher {
    /// For all of a user's keys; none if there is no key to seal with.
    pub(super) fn new(user: &User) -> Option<Self> {
        let receivers = seal_keys(user.papers.meta()?, user.papers.documents());
        let key = CipherKey::Aes(AesKey::generate().ok()?);
        let wrapped = wrap_key(&key, &receivers);
        if wrapped.is_empty() {
            return None;
        }
        Some(Self {
            key,
            names: wrapped.keys().cloned().collect(),
            wrapped: json::write_object(&wrapped),
            edition: user.edition,
        })
    }

    /// Whether the user's keys are still the ones it was made for.
    pub(super) fn fits(&self, user: &User) -> bool {
        self.edition == user.edition
    }
}

/// A message of the station, ready to be written: JSON with `signature` before the attachments,
/// since web clients cut it out of the text by its first occurrence.
pub(super) fn seal(
    station: &Station,
    cipher: &Cipher,
    to: &User,
    terminal: &Arc<str>,
    (kind, text): (u32, &str),
    time: f64,
    introduce: bool,
) -> Option<Bytes> {
    let (data, iv) = cipher.key.encrypt(text.as_bytes()).ok()?;
    let signature = station.sign.sign(&data).ok()?;
    // A client with a terminal takes the entry of exactly that name.
    let dressed = is_device(terminal).then(|| to.id.dressed(terminal).ok()).flatten();
    let dressed = dressed.filter(|id| cipher.names.iter().any(|name| name == id.as_str()));
    let receiver = dressed.as_ref().unwrap_or(&to.id);
    let mut out = String::with_capacity(data.len() * 4 / 3 + cipher.wrapped.len() + 400);
    out.push_str("{\"sender\":");
    out.push_str(&quoted(station.id.as_str()));
    out.push_str(",\"receiver\":");
    out.push_str(&quoted(receiver.as_str()));
    // Writing to memory cannot fail.
    let _ = write!(out, ",\"time\":{},\"IV\":\"", Seconds(time));
    out.push_str(&encode::base64_encode(iv.as_ref().map_or(&[][..], |iv| &iv[..])));
    out.push_str("\",\"data\":\"");
    out.push_str(&encode::base64_encode(&data));
    out.push_str("\",\"keys\":");
    out.push_str(&cipher.wrapped);
    out.push_str(",\"type\":\"");
    out.push_str(&kind.to_string());
    out.push_str("\",\"signature\":\"");
    out.push_str(&encode::base64_encode(&signature));
    out.push('"');
    if introduce {
        out.push_str(",\"meta\":");
        out.push_str(&json::write_object(&station.meta));
        out.push_str(",\"visa\":");
        out.push_str(&json::write_object(&station.visa));
    }
    out.push('}');
    Some(Bytes::from(out))
}
