//! Contents under seal: opening what came for somebody, closing what goes to somebody.

use serde_json::{Map, Value};

use super::aes::Iv;
use super::error::CryptoError;
use super::key::{CipherKey, OpenKey, SealKey};
use crate::base::digest::sha256;
use crate::base::encode;
use crate::crypto::sign::Verified;
use crate::proto::compat::expand_key;
use crate::proto::id::Id;
use crate::proto::json::{self, Parser};
use crate::proto::message::Field;

/// The last content key that came from somebody, by the SHA-256 of its encrypted text, which is far
/// longer; zeros where that is not known. Clients use one key for
/// many messages, and opening it is the dear part.
pub type HeardKey = Option<([u8; 32], CipherKey)>;

/// The content's text of a message for `me`.
pub fn open(
    message: &Verified,
    me: &Id,
    keys: &[OpenKey],
    known: &mut HeardKey,
    parser: &mut Parser,
) -> Result<Vec<u8>, CryptoError> {
    let bytes = message.signed_bytes().map_err(|_| CryptoError::Sealed)?;
    if message.is_plain() {
        return Ok(bytes);
    }
    let iv = match message.iv() {
        Some(iv) => Some(Iv::try_from(iv.as_slice()).map_err(|_| CryptoError::Vector)?),
        None => None,
    };
    let entries = message.keys(parser);
    // The old single key is for whoever the message reached.
    let single = message.member(Field::Keys).is_none();
    let own = entries.iter().filter(|(name, _)| single || me.is_named_by(name));
    for (_, text) in own {
        let digest = sha256(text.as_bytes());
        if let Some((_, key)) = known.as_ref().filter(|(last, _)| *last == digest) {
            return key.decrypt(&bytes, iv);
        }
        let Ok(sealed) = encode::ted_decode_str(text) else {
            continue;
        };
        for key in keys {
            let Some(key) = key.decrypt(&sealed).ok().and_then(|json| content_key(&json)) else {
                continue;
            };
            let opened = key.decrypt(&bytes, iv);
            *known = Some((digest, key));
            return opened;
        }
    }
    // No key came along: the one of before is meant.
    match known {
        Some((_, key)) if entries.is_empty() => key.decrypt(&bytes, iv),
        _ => Err(CryptoError::Sealed),
    }
}

/// Reads the text of a content key, in short or long names.
pub fn content_key(text: &[u8]) -> Option<CipherKey> {
    match json::parse(text).ok()? {
        Value::Object(map) => CipherKey::from_map(&expand_key(map).ok()?).ok(),
        _ => None,
    }
}

/// A content key as `keys` carries it: one encryption for each name that has a key for it.
pub fn wrap_key(key: &CipherKey, receivers: &[(Id, SealKey)]) -> Map<String, Value> {
    let text = json::write_object(&key.to_map());
    let mut keys = Map::new();
    for (name, seal) in receivers {
        if let Ok(sealed) = seal.encrypt(text.as_bytes()) {
            keys.insert(name.as_str().to_owned(), encode::base64_encode(&sealed).into());
        }
    }
    keys
}
