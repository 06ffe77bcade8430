//! Texts of bytes: base64, base58, hex, Base58Check of addresses, and DIM's "transportable
//! data", which is one of these with or without a label.

use std::borrow::Cow;
use std::fmt;

use base64_simd::STANDARD;
use serde_json::Value;

use super::digest::{ripemd160, sha256};
use super::limits::BASE58_CHARS_MAX;

/// A text that is not what its encoding demands. The fault of whoever wrote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Not standard base64 with padding.
    Base64,
    /// Not base58 of the Bitcoin alphabet, or too long.
    Base58,
    /// Not pairs of hexadecimal digits.
    Hex,
    /// Neither a text nor an object with `algorithm` and `data`, or a label we do not know.
    Form,
    /// No bytes at all where some are required.
    Empty,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base64 => "not base64 with padding",
            Self::Base58 => "not base58",
            Self::Hex => "not hexadecimal",
            Self::Form => "not an encoded text",
            Self::Empty => "encodes no bytes",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Standard base64 with padding and without line breaks.
pub fn base64_encode(data: &[u8]) -> String {
    STANDARD.encode_to_string(data)
}

/// Bytes of standard base64. ASCII white space is skipped, since old clients break lines;
/// everything else outside the alphabet, and missing padding, is refused.
pub fn base64_decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    // White space is rare and costs a copy, so look for it only after the fast path failed.
    STANDARD
        .decode_to_vec(text)
        .or_else(|_| STANDARD.decode_to_vec(without_blanks(text.as_bytes()).as_ref()))
        .map_err(|_| DecodeError::Base64)
}

fn without_blanks(text: &[u8]) -> Cow<'_, [u8]> {
    // Vertical tab is white space to Python and to C, not to `is_ascii_whitespace`.
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    match text.iter().any(blank) {
        true => text.iter().copied().filter(|byte| !blank(byte)).collect(),
        false => Cow::Borrowed(text),
    }
}

/// Base58 in the alphabet of Bitcoin.
pub fn base58_encode(data: &[u8]) -> String {
    bs58::encode(data).into_string()
}

/// Bytes of a base58 text of at most [`BASE58_CHARS_MAX`] characters.
pub fn base58_decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    if text.len() > BASE58_CHARS_MAX {
        return Err(DecodeError::Base58);
    }
    bs58::decode(text).into_vec().map_err(|_| DecodeError::Base58)
}

/// Lower-case hexadecimal digits.
pub fn hex_encode(data: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    data.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Bytes of hexadecimal digits in either case; an odd count means a leading half byte.
pub fn hex_decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    let digits = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|nibble| u8::try_from(nibble).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or(DecodeError::Hex)?;
    // Pairs are counted from the end, so that the odd digit is the first one.
    let mut bytes: Vec<u8> = digits
        .rchunks(2)
        .map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble))
        .collect();
    bytes.reverse();
    Ok(bytes)
}

/// RIPEMD-160 of SHA-256: what a BTC-form address is made of.
pub fn hash160(material: &[u8]) -> [u8; 20] {
    ripemd160(&sha256(material))
}

/// First four bytes of the double SHA-256.
pub fn checksum(data: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&sha256(data));
    [a, b, c, d]
}

/// Text of a BTC-form address: base58 of network byte, digest and checksum.
pub fn base58check_encode(network: u8, digest: &[u8; 20]) -> String {
    let mut bytes = vec![network];
    bytes.extend_from_slice(digest);
    let check = checksum(&bytes);
    bytes.extend_from_slice(&check);
    base58_encode(&bytes)
}

/// Network byte and digest of a BTC-form address.
pub fn base58check_decode(text: &str) -> Result<(u8, [u8; 20]), DecodeError> {
    // On the stack: this runs for both IDs of every message.
    let mut bytes = [0u8; 25];
    let written = match text.len() {
        ..=BASE58_CHARS_MAX => bs58::decode(text).onto(&mut bytes),
        _ => return Err(DecodeError::Base58),
    };
    if !matches!(written, Ok(25)) {
        return Err(DecodeError::Base58);
    }
    let (head, check) = bytes.split_at(21);
    match (head.split_first(), check == checksum(head)) {
        (Some((network, digest)), true) => {
            Ok((*network, digest.try_into().map_err(|_| DecodeError::Base58)?))
        }
        _ => Err(DecodeError::Base58),
    }
}

/// Bytes of a transportable-data value: a text (see [`ted_decode_str`]) or the old object
/// `{"algorithm": "base64", "data": "…"}`.
pub fn ted_decode(value: &Value) -> Result<Vec<u8>, DecodeError> {
    match value {
        Value::String(text) => ted_decode_str(text),
        Value::Object(map) => match (map.get("algorithm"), map.get("data")) {
            (Some(Value::String(label)), Some(Value::String(body))) => {
                labelled(label, body).and_then(some_bytes)
            }
            _ => Err(DecodeError::Form),
        },
        _ => Err(DecodeError::Form),
    }
}

/// Bytes of a transportable-data text: base64, a data URI with `;base64`, or the old forms
/// `base64,…`, `hex,…` and `base58,…`. Never empty.
pub fn ted_decode_str(text: &str) -> Result<Vec<u8>, DecodeError> {
    // No encoding has a comma in its alphabet, but a parameter of the URI may: split at the last.
    let bytes = match text.rsplit_once(',') {
        None => base64_decode(text),
        Some((head, body)) => match head.strip_prefix("data:") {
            Some(head) if head.ends_with(";base64") => base64_decode(body),
            Some(_) => Err(DecodeError::Form),
            None => labelled(head, body),
        },
    }?;
    some_bytes(bytes)
}

fn labelled(label: &str, body: &str) -> Result<Vec<u8>, DecodeError> {
    match label {
        "base64" => base64_decode(body),
        "base58" => base58_decode(body),
        "hex" => hex_decode(body),
        _ => Err(DecodeError::Form),
    }
}

fn some_bytes(bytes: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
    if bytes.is_empty() { Err(DecodeError::Empty) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn white_space_in_base64_is_skipped_and_nothing_else() {
        assert_eq!(base64_decode(" YW\r\n\tJj\n").as_deref(), Ok(b"abc".as_slice()));
        assert_eq!(base64_decode("YW\u{b}Jj").as_deref(), Ok(b"abc".as_slice()));
        for bad in ["YWI", "YQ=", "YWJj=", "Y*WJj", "-_8=", "YWJjZA==YWJj", "YQ\u{a0}=="] {
            assert_eq!(base64_decode(bad), Err(DecodeError::Base64), "{bad}");
        }
    }

    #[test]
    fn an_odd_hex_digit_is_the_low_half_of_the_first_byte() {
        assert_eq!(hex_decode("aBc").as_deref(), Ok([0x0a, 0xbc].as_slice()));
        assert_eq!(hex_decode("0x12"), Err(DecodeError::Hex));
        assert_eq!(hex_decode("+1"), Err(DecodeError::Hex));
    }

    #[test]
    fn base58_of_any_length_is_bounded() {
        let long = "1".repeat(BASE58_CHARS_MAX + 1);
        assert_eq!(base58_decode(&long), Err(DecodeError::Base58));
        assert_eq!(base58check_decode(&long), Err(DecodeError::Base58));
    }

    #[test]
    fn transportable_data_has_four_forms_and_is_never_empty() {
        let bytes = b"abc".as_slice();
        for good in [
            json!("YWJj"),
            json!("data:image/png;base64,YWJj"),
            json!("data:image/png;filename=a,b.png;base64,YWJj"),
            json!("base64,YWJj"),
            json!("hex,616263"),
            json!({"algorithm": "base64", "data": "YWJj"}),
        ] {
            assert_eq!(ted_decode(&good).as_deref(), Ok(bytes), "{good}");
        }
        for bad in [json!(""), json!("data:;base64,"), json!(12), json!(["YWJj"]), json!(null)] {
            assert!(ted_decode(&bad).is_err(), "{bad}");
        }
        assert_eq!(ted_decode_str("data:text/plain,YWJj"), Err(DecodeError::Form));
        assert_eq!(ted_decode_str("rot13,YWJj"), Err(DecodeError::Form));
    }
}
