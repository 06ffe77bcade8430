//! Keys by what they do, whatever their algorithm: check, sign, seal, open, and cover contents.

use std::fmt;

use serde_json::{Map, Value};

use super::aes::{AesKey, Iv};
use super::ecc::{EccPrivate, EccVerify};
use super::error::CryptoError;
use super::rsa::{RsaPrivate, RsaSeal, RsaVerify};

/// What the `algorithm` of a key object names.
enum Algorithm {
    Rsa,
    Ecc,
    Aes,
    Plain,
}

fn algorithm(map: &Map<String, Value>) -> Result<Algorithm, CryptoError> {
    match map.get("algorithm").and_then(Value::as_str) {
        Some("RSA" | "SHA256withRSA" | "RSA/ECB/PKCS1Padding") => Ok(Algorithm::Rsa),
        Some("ECC" | "SHA256withECDSA") => Ok(Algorithm::Ecc),
        Some("AES" | "AES/CBC/PKCS7Padding") => Ok(Algorithm::Aes),
        Some("PLAIN") => Ok(Algorithm::Plain),
        _ => Err(CryptoError::Algorithm),
    }
}

fn text(map: &Map<String, Value>) -> Result<&str, CryptoError> {
    map.get("data").and_then(Value::as_str).ok_or(CryptoError::Key)
}

/// Whether a member is true in one of the ways the reference writes and reads truth.
fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(truth)) => *truth,
        Some(Value::Number(number)) => number.as_f64() == Some(1.0),
        Some(Value::String(text)) => {
            matches!(text.trim().to_ascii_lowercase().as_str(), "1" | "yes" | "true" | "on")
        }
        _ => false,
    }
}

/// A public key that checks signatures. Parsed once; a clone shares it.
#[derive(Clone)]
pub enum VerifyKey {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rsa(RsaVerify),
    /// ECDSA on secp256k1 with SHA-256.
    Ecc(EccVerify),
}

impl VerifyKey {
    /// Reads the object of a public key.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, CryptoError> {
        match algorithm(map)? {
            Algorithm::Rsa => RsaVerify::from_pem(text(map)?).map(Self::Rsa),
            Algorithm::Ecc => {
                let compressed = is_true(map.get("compressed"));
                EccVerify::from_text(text(map)?, compressed).map(Self::Ecc)
            }
            Algorithm::Aes | Algorithm::Plain => Err(CryptoError::Algorithm),
        }
    }

    /// Whether `signature` is that of `data` by this key. A signature of another algorithm is
    /// just a wrong one: a message is tried with all keys of its sender.
    pub fn verify(&self, data: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => key.verify(data, signature),
            Self::Ecc(key) => key.verify(data, signature),
        }
    }

    /// The bytes that addresses are made of: SubjectPublicKeyInfo, or the point.
    pub fn key_data(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.spki().to_vec(),
            Self::Ecc(key) => key.key_data(),
        }
    }
}

/// Keys are the same if they check the same signatures, however they were written.
impl PartialEq for VerifyKey {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rsa(a), Self::Rsa(b)) => a.spki() == b.spki(),
            (Self::Ecc(a), Self::Ecc(b)) => a.point() == b.point(),
            _ => false,
        }
    }
}

impl Eq for VerifyKey {}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa(_) => "VerifyKey::Rsa",
            Self::Ecc(_) => "VerifyKey::Ecc",
        })
    }
}

/// A public key that seals short texts: always RSA. A clone shares it.
#[derive(Clone)]
pub struct SealKey(RsaSeal);

impl SealKey {
    /// Reads the object of a public key.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, CryptoError> {
        match algorithm(map)? {
            Algorithm::Rsa => RsaSeal::from_pem(text(map)?).map(Self),
            _ => Err(CryptoError::Algorithm),
        }
    }

    /// Longest text that fits, in bytes.
    pub fn plain_bytes_max(&self) -> usize {
        self.0.plain_bytes_max()
    }

    /// Seals `plain` into one block.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.encrypt(plain)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

/// A private key that signs. A clone shares it.
#[derive(Clone, Debug)]
pub enum SignKey {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rsa(RsaPrivate),
    /// ECDSA on secp256k1 with SHA-256.
    Ecc(EccPrivate),
}

impl SignKey {
    /// A new key on secp256k1.
    pub fn generate_ecc() -> Result<Self, CryptoError> {
        EccPrivate::generate().map(Self::Ecc)
    }

    /// A new RSA key of 1024, 2048, 3072 or 4096 bits.
    pub fn generate_rsa(bits: usize) -> Result<Self, CryptoError> {
        RsaPrivate::generate(bits).map(Self::Rsa)
    }

    /// Reads the object of a private key.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, CryptoError> {
        match algorithm(map)? {
            Algorithm::Rsa => RsaPrivate::from_pem(text(map)?).map(Self::Rsa),
            Algorithm::Ecc => EccPrivate::from_text(text(map)?).map(Self::Ecc),
            Algorithm::Aes | Algorithm::Plain => Err(CryptoError::Algorithm),
        }
    }

    /// The key object, secret included.
    pub fn to_map(&self) -> Result<Map<String, Value>, CryptoError> {
        match self {
            Self::Rsa(key) => key.to_map(),
            Self::Ecc(key) => Ok(key.to_map()),
        }
    }

    /// The object of the public half.
    pub fn public_map(&self) -> Result<Map<String, Value>, CryptoError> {
        match self {
            Self::Rsa(key) => key.public_map(),
            Self::Ecc(key) => Ok(key.public_map()),
        }
    }

    /// The public half.
    pub fn verify_key(&self) -> Result<VerifyKey, CryptoError> {
        match self {
            Self::Rsa(key) => key.verify_key().map(VerifyKey::Rsa),
            Self::Ecc(key) => Ok(VerifyKey::Ecc(key.verify_key())),
        }
    }

    /// The signature of `data`.
    pub fn sign(&self, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        match self {
            Self::Rsa(key) => key.sign(data),
            Self::Ecc(key) => Ok(key.sign(data)),
        }
    }
}

/// A private key that opens what was sealed for its owner: always RSA. A clone shares it.
#[derive(Clone, Debug)]
pub struct OpenKey(RsaPrivate);

impl OpenKey {
    /// A new RSA key of 1024, 2048, 3072 or 4096 bits.
    pub fn generate(bits: usize) -> Result<Self, CryptoError> {
        RsaPrivate::generate(bits).map(Self)
    }

    /// Reads the object of a private key.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, CryptoError> {
        match algorithm(map)? {
            Algorithm::Rsa => RsaPrivate::from_pem(text(map)?).map(Self),
            _ => Err(CryptoError::Algorithm),
        }
    }

    /// The key object, secret included.
    pub fn to_map(&self) -> Result<Map<String, Value>, CryptoError> {
        self.0.to_map()
    }

    /// The object of the public half, as a visa carries it.
    pub fn public_map(&self) -> Result<Map<String, Value>, CryptoError> {
        self.0.public_map()
    }

    /// The public half.
    pub fn seal_key(&self) -> Result<SealKey, CryptoError> {
        self.0.seal_key().map(SealKey)
    }

    /// The same key for signing: messages may be signed by the key of a visa.
    pub fn sign_key(&self) -> SignKey {
        SignKey::Rsa(self.0.clone())
    }

    /// Opens one block. All failures are the same failure.
    pub fn decrypt(&self, block: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.decrypt(block)
    }
}

/// A symmetric key that covers contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CipherKey {
    /// AES in CBC mode.
    Aes(AesKey),
    /// No cover at all: what broadcasts use.
    Plain,
}

impl CipherKey {
    /// Reads the object of a symmetric key.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, CryptoError> {
        match algorithm(map)? {
            Algorithm::Aes => AesKey::from_map(map).map(Self::Aes),
            Algorithm::Plain => Ok(Self::Plain),
            Algorithm::Rsa | Algorithm::Ecc => Err(CryptoError::Algorithm),
        }
    }

    /// The key object, secret included.
    pub fn to_map(&self) -> Map<String, Value> {
        match self {
            Self::Aes(key) => key.to_map(),
            Self::Plain => Map::from_iter([("algorithm".to_owned(), "PLAIN".into())]),
        }
    }

    /// Covers `plain`; the vector, if there is one, travels with the message.
    pub fn encrypt(&self, plain: &[u8]) -> Result<(Vec<u8>, Option<Iv>), CryptoError> {
        match self {
            Self::Aes(key) => key.encrypt(plain).map(|(sealed, iv)| (sealed, Some(iv))),
            Self::Plain => Ok((plain.to_vec(), None)),
        }
    }

    /// Uncovers `sealed`; `iv` is the vector of the message, see [`super::aes::message_iv`].
    pub fn decrypt(&self, sealed: &[u8], iv: Option<Iv>) -> Result<Vec<u8>, CryptoError> {
        match self {
            Self::Aes(key) => key.decrypt(sealed, iv),
            Self::Plain => Ok(sealed.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_may_move_between_threads() {
        fn is_shareable<T: Send + Sync + Clone>() {}
        is_shareable::<VerifyKey>();
        is_shareable::<SealKey>();
        is_shareable::<SignKey>();
        is_shareable::<OpenKey>();
        is_shareable::<CipherKey>();
    }

    #[test]
    fn a_signature_of_the_other_algorithm_is_a_wrong_one() {
        let (ecc, rsa) = (SignKey::generate_ecc().unwrap(), SignKey::generate_rsa(1024).unwrap());
        for (signer, other) in [(&ecc, &rsa), (&rsa, &ecc)] {
            let signature = signer.sign(b"data").unwrap();
            assert!(signer.verify_key().unwrap().verify(b"data", &signature));
            assert!(!other.verify_key().unwrap().verify(b"data", &signature));
            assert!(signer.verify_key().unwrap() != other.verify_key().unwrap());
        }
    }

    #[test]
    fn a_key_does_only_what_its_algorithm_can() {
        let ecc = SignKey::generate_ecc().unwrap();
        let public = ecc.public_map().unwrap();
        assert_eq!(SealKey::from_map(&public).unwrap_err(), CryptoError::Algorithm);
        assert_eq!(CipherKey::from_map(&public), Err(CryptoError::Algorithm));
        assert_eq!(OpenKey::from_map(&ecc.to_map().unwrap()).unwrap_err(), CryptoError::Algorithm);
        let plain = CipherKey::Plain.to_map();
        assert_eq!(VerifyKey::from_map(&plain), Err(CryptoError::Algorithm));
        assert!(SignKey::from_map(&public).is_err());
    }
}
