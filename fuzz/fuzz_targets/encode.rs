//! Encodings: what is written is read, and what is read is written as some canonical text.
#![no_main]

use dim::base::encode::{
    base58_decode, base58_encode, base58check_decode, base58check_encode, base64_decode,
    base64_encode, hex_decode, hex_encode, ted_decode, ted_decode_str,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    assert_eq!(base64_decode(&base64_encode(input)).as_deref(), Ok(input));
    assert_eq!(hex_decode(&hex_encode(input)).as_deref(), Ok(input));
    let short = input.get(..100).unwrap_or(input);
    assert_eq!(base58_decode(&base58_encode(short)).as_deref(), Ok(short));
    if let Some((network, digest)) = input.split_first()
        && let Some(digest) = digest.first_chunk()
    {
        let text = base58check_encode(*network, digest);
        assert_eq!(base58check_decode(&text), Ok((*network, *digest)));
    }
    let Ok(text) = str::from_utf8(input) else { return };
    if let Ok(bytes) = base64_decode(text) {
        // Blanks are the only freedom.
        let tight: String =
            text.chars().filter(|c| !c.is_ascii_whitespace() && *c != '\x0b').collect();
        assert_eq!(base64_encode(&bytes), tight);
    }
    if let Ok(bytes) = base58_decode(text) {
        assert_eq!(base58_encode(&bytes), text);
    }
    if let Ok((network, digest)) = base58check_decode(text) {
        assert_eq!(base58check_encode(network, &digest), text);
    }
    if let Ok(bytes) = hex_decode(text) {
        assert!(hex_encode(&bytes).ends_with(&text.to_ascii_lowercase()));
    }
    if let Ok(bytes) = ted_decode_str(text) {
        assert!(!bytes.is_empty());
        assert_eq!(ted_decode(&Value::from(text)), Ok(bytes));
    }
    for label in ["base64", "hex", "base58"] {
        let old = serde_json::json!({"algorithm": label, "data": text});
        if !text.contains(',') {
            assert_eq!(ted_decode(&old), ted_decode_str(&format!("{label},{text}")));
        }
    }
});
