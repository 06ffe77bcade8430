//! AES in CBC mode with PKCS#7 padding: what contents are sealed with.

use std::fmt;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::fill;
use serde_json::{Map, Value};

use super::error::CryptoError;
use crate::base::digest::{md5, sha256};
use crate::base::encode::{base64_encode, ted_decode};

/// Length of a block and of an initialisation vector, in bytes.
pub const BLOCK_BYTES: usize = 16;

/// An initialisation vector.
pub type Iv = [u8; BLOCK_BYTES];

/// Length of the keys made here, in bytes.
const KEY_BYTES: usize = 32;

/// Bytes of the MD5 that name a key: eight characters of base64.
const KEY_DIGEST_BYTES: usize = 6;

/// A symmetric key of 16, 24 or 32 bytes, perhaps with a vector of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct AesKey {
    key: Vec<u8>,
    iv: Option<Iv>,
}

impl AesKey {
    /// A new key of 32 bytes from the system's randomness.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut key = vec![0; KEY_BYTES];
        fill(&mut key).map_err(|_| CryptoError::Internal)?;
        Ok(Self { key, iv: None })
    }

    /// The key that a passphrase stands for.
    pub fn from_passphrase(passphrase: &str) -> Self {
        let phrase = passphrase.as_bytes();
        let digest = sha256(phrase);
        let key = match KEY_BYTES.checked_sub(phrase.len()) {
            // The phrase, filled up at the front from its digest.
            Some(missing) => digest.iter().take(missing).chain(phrase).copied().collect(),
            None => digest.to_vec(),
        };
        Self { key, iv: None }
    }

    /// Reads the members of a key object whose algorithm was already looked at.
    pub(super) fn from_map(map: &Map<String, Value>) -> Result<Self, CryptoError> {
        let key = map.get("data").and_then(|data| ted_decode(data).ok());
        let key = key.filter(|key| matches!(key.len(), 16 | 24 | 32)).ok_or(CryptoError::Key)?;
        Ok(Self { key, iv: find_iv(map, ["iv", "IV"])? })
    }

    /// The key object, secret included.
    pub fn to_map(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("algorithm".into(), "AES".into());
        map.insert("data".into(), base64_encode(&self.key).into());
        if let Some(iv) = &self.iv {
            map.insert("iv".into(), base64_encode(iv).into());
        }
        map
    }

    /// Eight characters that name the key without giving it away.
    pub fn digest(&self) -> String {
        base64_encode(md5(&self.key).get(..KEY_DIGEST_BYTES).unwrap_or_default())
    }

    /// Seals `plain`; yields the vector too, which travels with the message. It is the key's
    /// own if the key has one, else a new one.
    pub fn encrypt(&self, plain: &[u8]) -> Result<(Vec<u8>, Iv), CryptoError> {
        let iv = match self.iv {
            Some(iv) => iv,
            None => {
                let mut iv = Iv::default();
                fill(&mut iv).map_err(|_| CryptoError::Internal)?;
                iv
            }
        };
        Ok((self.encrypt_with(plain, iv)?, iv))
    }

    /// Seals `plain` with a vector that must not have been used with this key before.
    pub fn encrypt_with(&self, plain: &[u8], iv: Iv) -> Result<Vec<u8>, CryptoError> {
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(self.unbound()?)
            .map_err(|_| CryptoError::Internal)?;
        let mut sealed = Vec::with_capacity(plain.len() + BLOCK_BYTES);
        sealed.extend_from_slice(plain);
        key.less_safe_encrypt(&mut sealed, EncryptionContext::Iv128(FixedLength::from(iv)))
            .map_err(|_| CryptoError::Internal)?;
        Ok(sealed)
    }

    /// Opens `sealed` with the message's vector, else the key's own, else zeros.
    pub fn decrypt(&self, sealed: &[u8], iv: Option<Iv>) -> Result<Vec<u8>, CryptoError> {
        if sealed.is_empty() || !sealed.len().is_multiple_of(BLOCK_BYTES) {
            return Err(CryptoError::Sealed);
        }
        let iv = iv.or(self.iv).unwrap_or_default();
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(self.unbound()?)
            .map_err(|_| CryptoError::Internal)?;
        let mut plain = sealed.to_vec();
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let len = key.decrypt(&mut plain, context).map_err(|_| CryptoError::Sealed)?.len();
        plain.truncate(len);
        Ok(plain)
    }

    fn unbound(&self) -> Result<UnboundCipherKey, CryptoError> {
        let algorithm = match self.key.len() {
            16 => &AES_128,
            24 => &AES_192,
            _ => &AES_256,
        };
        UnboundCipherKey::new(algorithm, &self.key).map_err(|_| CryptoError::Internal)
    }
}

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesKey").field("bytes", &self.key.len()).finish_non_exhaustive()
    }
}

/// The vector that travels at the top level of a message: `IV`, else `iv`.
pub fn message_iv(message: &Map<String, Value>) -> Result<Option<Iv>, CryptoError> {
    find_iv(message, ["IV", "iv"])
}

/// The first of `names` that is present decides, even if it is wrong.
fn find_iv(map: &Map<String, Value>, names: [&str; 2]) -> Result<Option<Iv>, CryptoError> {
    let found = names.iter().find_map(|name| map.get(*name).filter(|value| !value.is_null()));
    let Some(value) = found else { return Ok(None) };
    let bytes = ted_decode(value).map_err(|_| CryptoError::Vector)?;
    bytes.try_into().map(Some).map_err(|_| CryptoError::Vector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_sealed_opens_with_its_vector_only() {
        let key = AesKey::generate().unwrap();
        let (sealed, iv) = key.encrypt(b"hello").unwrap();
        assert_eq!(key.decrypt(&sealed, Some(iv)).unwrap(), b"hello");
        assert_ne!(key.decrypt(&sealed, None).ok().as_deref(), Some(&b"hello"[..]));
        assert_ne!(key.encrypt(b"hello").unwrap().1, iv);
        assert_eq!(key.decrypt(&[], Some(iv)), Err(CryptoError::Sealed));
        assert_eq!(key.decrypt(&sealed[1..], Some(iv)), Err(CryptoError::Sealed));
    }

    #[test]
    fn the_first_vector_found_decides() {
        let read = |value: Value| message_iv(value.as_object().unwrap());
        let (one, two) = (base64_encode(&[1; 16]), base64_encode(&[2; 16]));
        assert_eq!(read(json!({"iv": two, "IV": one})), Ok(Some([1; 16])));
        assert_eq!(read(json!({"iv": two, "IV": null})), Ok(Some([2; 16])));
        assert_eq!(read(json!({"iv": two, "IV": "AAAA"})), Err(CryptoError::Vector));
        assert_eq!(read(json!({})), Ok(None));
        let key = AesKey::from_map(
            json!({"data": base64_encode(&[7; 16]), "iv": two, "IV": one}).as_object().unwrap(),
        );
        assert_eq!(key.unwrap().iv, Some([2; 16]));
    }

    #[test]
    fn a_key_object_fits_into_the_smallest_block() {
        let text = serde_json::to_string(&AesKey::generate().unwrap().to_map()).unwrap();
        assert!(text.len() <= 117, "{text}");
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", AesKey::from_passphrase("x")), "AesKey { bytes: 32, .. }");
    }
}
