//! PEM and DER of strangers, under every label that a key may have.
#![no_main]

use dim::base::encode::base64_encode;
use dim::crypto::key::{OpenKey, SealKey, SignKey, VerifyKey};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const LABELS: [&str; 5] =
    ["PUBLIC KEY", "RSA PUBLIC KEY", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

fn read(algorithm: &str, text: &str) {
    let value = json!({"algorithm": algorithm, "data": text});
    let Value::Object(map) = value else { return };
    let map: Map<String, Value> = map;
    if let Ok(key) = VerifyKey::from_map(&map) {
        let _ = key.verify(b"said", &[7; 128]);
    }
    if let Ok(key) = SealKey::from_map(&map) {
        let _ = key.encrypt(b"said");
    }
    if let Ok(key) = SignKey::from_map(&map) {
        let _ = key.sign(b"said");
    }
    if let Ok(key) = OpenKey::from_map(&map) {
        let _ = key.decrypt(&[7; 128]);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    let algorithm = if which & 1 == 0 { "RSA" } else { "ECC" };
    // The text as it stands, or DER dressed as the rules want it.
    match LABELS.get(usize::from(which >> 1) % (LABELS.len() + 1)) {
        None => read(algorithm, &String::from_utf8_lossy(bytes)),
        Some(label) => {
            let body = base64_encode(bytes);
            read(algorithm, &format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----"));
        }
    }
});
