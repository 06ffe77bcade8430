//! Messages sealed for us by a stranger, who may put anything under the seal: the content's bytes,
//! the key's text, the vector, the names of the keys.
#![no_main]

#[path = "../../benches/kit/mod.rs"]
mod kit;

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use bytes::Bytes;
use dim::base::encode::base64_encode;
use dim::client::account::Account;
use dim::crypto::aes::AesKey;
use dim::crypto::identity::seal_keys;
use dim::crypto::key::{CipherKey, SealKey};
use dim::crypto::seal::{content_key, open, wrap_key};
use dim::crypto::sign::Verified;
use dim::proto::json::Parser;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, json};

#[derive(Debug, Arbitrary)]
struct Input {
    text: Vec<u8>,
    /// In place of what a right key would have made of the text.
    sealed: Option<Vec<u8>>,
    iv: Option<Vec<u8>>,
    /// In place of a right key's text.
    key: Option<String>,
    /// In place of our ID.
    name: Option<String>,
    twice: bool,
}

fn bob() -> &'static (Account, SealKey) {
    static BOB: OnceLock<(Account, SealKey)> = OnceLock::new();
    BOB.get_or_init(|| {
        let bob = kit::person(2);
        let (_, seal) = seal_keys(bob.meta(), bob.documents()).remove(0);
        (bob, seal)
    })
}

fuzz_target!(|input: Input| {
    let ((bob, seal), key) = (bob(), CipherKey::Aes(AesKey::from_passphrase("between us")));
    let _ = content_key(input.key.as_deref().unwrap_or_default().as_bytes());
    let is_right = input.sealed.is_none() && input.iv.is_none() && input.key.is_none();
    let is_ours = input.name.is_none() && !input.text.is_empty();
    let (sealed, iv) = key.encrypt(&input.text).expect("AES seals everything");
    let iv = input.iv.or(iv.map(|iv| iv.to_vec())).unwrap_or_default();
    let name = input.name.unwrap_or_else(|| bob.id().as_str().to_owned());
    let keys = match input.key.map(|text| seal.encrypt(text.as_bytes())) {
        Some(Ok(block)) => Map::from_iter([(name, base64_encode(&block).into())]),
        Some(Err(_)) => return,
        None => {
            let wrapped = wrap_key(&key, &[(bob.id().clone(), seal.clone())]);
            wrapped.into_iter().map(|(_, block)| (name.clone(), block)).collect()
        }
    };
    let message = json!({"sender": bob.id().as_str(), "receiver": bob.id().as_str(), "time": 1,
        "data": base64_encode(&input.sealed.unwrap_or(sealed)), "IV": base64_encode(&iv),
        "keys": keys, "signature": "AAAA"});
    let raw = Bytes::from(message.to_string());
    let mut parser = Parser::new();
    let Ok(message) = kit::try_parse(&raw) else { return };
    let (message, mut known) = (Verified::by_session(message), None);
    for _ in 0..=u8::from(input.twice) {
        let opened = open(&message, bob.id(), bob.message_keys(), &mut known, &mut parser);
        if is_right && is_ours {
            assert_eq!(opened.as_ref(), Ok(&input.text));
        }
    }
});
