//! ECDSA on secp256k1 with SHA-256, by libsecp256k1: seven times faster here than aws-lc.

use std::fmt;

use aws_lc_rs::rand::fill;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde_json::{Map, Value};

use super::error::CryptoError;
use super::pem::{self, BIT_STRING, Der, INTEGER, OBJECT_ID, OCTET_STRING};
use crate::base::digest::sha256;
use crate::base::encode::hex_decode;
use crate::base::limits::{ECDSA_SIGNATURE_BYTES_MAX, ECDSA_SIGNATURE_BYTES_MIN};

/// Object ID of keys on elliptic curves.
const ID_EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// Object ID of the curve.
const ID_SECP256K1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x0a];

/// What stands before the 65 bytes of the point in SubjectPublicKeyInfo.
const SPKI_HEAD: &[u8] = &[
    0x30, 0x56, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x0a, 0x03, 0x42, 0x00,
];
/// What stands before the 32 bytes of the secret in PKCS#8, as the reference writes it.
const PKCS8_HEAD: &[u8] = &[
    0x30, 0x81, 0x84, 0x02, 0x01, 0x01, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
    0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04,
    0x20,
];
/// What stands between the secret and the point in PKCS#8.
const PKCS8_POINT: &[u8] = &[0xa1, 0x44, 0x03, 0x42, 0x00];

/// Width of a line of armor, in characters, as the reference writes these keys.
const LINE_CHARS: usize = 76;

/// A public key that checks signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EccVerify {
    point: PublicKey,
    compressed: bool,
}

impl EccVerify {
    /// Reads `data`: armored SubjectPublicKeyInfo, or the point in hex, compressed or not.
    /// `compressed` only chooses the form that addresses are made of.
    pub(super) fn from_text(data: &str, compressed: bool) -> Result<Self, CryptoError> {
        let bytes = match data.len() {
            66 | 130 => hex_decode(data).ok(),
            _ => pem::decode(data, &["PUBLIC KEY"]).and_then(|der| point_of_spki(&der)),
        };
        let bytes = bytes.ok_or(CryptoError::Key)?;
        // The library also takes the hybrid forms 06 and 07, which nothing here writes.
        if !matches!(bytes.first(), Some(0x02..=0x04)) {
            return Err(CryptoError::Key);
        }
        let point = PublicKey::from_slice(&bytes).map_err(|_| CryptoError::Key)?;
        Ok(Self { point, compressed })
    }

    /// Whether `signature` is that of `data` by this key: strict DER, high or low S.
    pub fn verify(&self, data: &[u8], signature: &[u8]) -> bool {
        if !(ECDSA_SIGNATURE_BYTES_MIN..=ECDSA_SIGNATURE_BYTES_MAX).contains(&signature.len()) {
            return false;
        }
        let Ok(mut signature) = Signature::from_der(signature) else {
            return false;
        };
        // The library takes only the lower of the two equivalent signatures; clients make both.
        signature.normalize_s();
        let message = Message::from_digest(sha256(data));
        SECP256K1.verify_ecdsa(message, &signature, &self.point).is_ok()
    }

    /// What addresses are made of: the point, 65 bytes or 33 if the key object asks for it.
    pub fn key_data(&self) -> Vec<u8> {
        match self.compressed {
            true => self.point.serialize().to_vec(),
            false => self.point.serialize_uncompressed().to_vec(),
        }
    }

    /// The uncompressed point.
    pub fn point(&self) -> [u8; 65] {
        self.point.serialize_uncompressed()
    }
}

/// A private key that signs.
#[derive(Clone)]
pub struct EccPrivate(SecretKey);

impl EccPrivate {
    /// A new key from the system's randomness.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut secret = [0u8; 32];
        // All but one in 2^127 draws are keys; the second failure is a broken source.
        for _ in 0..2 {
            fill(&mut secret).map_err(|_| CryptoError::Internal)?;
            if let Ok(key) = SecretKey::from_byte_array(secret) {
                return Ok(Self(key));
            }
        }
        Err(CryptoError::Internal)
    }

    /// Reads `data`: armored PKCS#8 or SEC1, or 64 digits of hex.
    pub(super) fn from_text(data: &str) -> Result<Self, CryptoError> {
        let secret = if data.len() == 64 {
            hex_decode(data).ok()
        } else {
            pem::decode(data, &["EC PRIVATE KEY"])
                .and_then(|der| secret_of_sec1(&der))
                .or_else(|| secret_of_pkcs8(&pem::decode(data, &["PRIVATE KEY"])?))
        };
        let secret = secret.ok_or(CryptoError::Key)?;
        let secret = secret.try_into().map_err(|_| CryptoError::Key)?;
        SecretKey::from_byte_array(secret).map(Self).map_err(|_| CryptoError::Key)
    }

    /// The signature of `data` in DER. The same every time.
    pub fn sign(&self, data: &[u8]) -> Vec<u8> {
        let message = Message::from_digest(sha256(data));
        SECP256K1.sign_ecdsa(message, &self.0).serialize_der().to_vec()
    }

    /// The public half.
    pub fn verify_key(&self) -> EccVerify {
        EccVerify { point: PublicKey::from_secret_key_global(&self.0), compressed: false }
    }

    /// The key object, secret included, as the reference writes it.
    pub fn to_map(&self) -> Map<String, Value> {
        let point = self.verify_key().point();
        let der = [PKCS8_HEAD, &self.0.secret_bytes(), PKCS8_POINT, &point].concat();
        key_map(pem::encode("PRIVATE KEY", &der, LINE_CHARS))
    }

    /// The object of the public half.
    pub fn public_map(&self) -> Map<String, Value> {
        let der = [SPKI_HEAD, &self.verify_key().point()].concat();
        key_map(pem::encode("PUBLIC KEY", &der, LINE_CHARS))
    }
}

impl fmt::Debug for EccPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EccPrivate").finish_non_exhaustive()
    }
}

fn key_map(armor: String) -> Map<String, Value> {
    let fields = [
        ("algorithm", "ECC".to_owned()),
        ("data", armor + "\n"),
        ("curve", "secp256k1".to_owned()),
        ("digest", "SHA256".to_owned()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// Whether the next value says "a key on secp256k1".
fn is_our_curve(der: &mut Der<'_>) -> bool {
    der.sequence().is_some_and(|mut algorithm| {
        algorithm.take(OBJECT_ID) == Some(ID_EC_PUBLIC_KEY)
            && algorithm.take(OBJECT_ID) == Some(ID_SECP256K1)
    })
}

fn point_of_spki(der: &[u8]) -> Option<Vec<u8>> {
    let mut outer = Der::new(der);
    let mut spki = outer.sequence()?;
    if !is_our_curve(&mut spki) {
        return None;
    }
    let (unused_bits, point) = spki.take(BIT_STRING)?.split_first()?;
    let whole = *unused_bits == 0 && spki.is_empty() && outer.is_empty();
    whole.then(|| point.to_vec())
}

fn secret_of_pkcs8(der: &[u8]) -> Option<Vec<u8>> {
    let mut info = Der::new(der).sequence()?;
    // Version 0 or, though nothing of version 1 follows, 1: the reference writes that.
    let version = info.take(INTEGER)?;
    if !matches!(version, [0 | 1]) || !is_our_curve(&mut info) {
        return None;
    }
    secret_of_sec1(info.take(OCTET_STRING)?)
}

fn secret_of_sec1(der: &[u8]) -> Option<Vec<u8>> {
    let mut key = Der::new(der).sequence()?;
    if key.take(INTEGER)? != [1] {
        return None;
    }
    let secret = key.take(OCTET_STRING)?;
    if let Some(curve) = key.take(0xa0)
        && Der::new(curve).take(OBJECT_ID) != Some(ID_SECP256K1)
    {
        return None;
    }
    Some(secret.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::encode::hex_encode;

    #[test]
    fn a_new_key_signs_and_survives_its_text() {
        let made = EccPrivate::generate().unwrap();
        let map = made.to_map();
        let key = EccPrivate::from_text(map["data"].as_str().unwrap()).unwrap();
        let hex = hex_encode(&made.0.secret_bytes());
        assert!(EccPrivate::from_text(&hex).unwrap().verify_key() == key.verify_key());
        let public = made.public_map();
        let verify = EccVerify::from_text(public["data"].as_str().unwrap(), false).unwrap();
        assert!(verify == key.verify_key());
        let signature = key.sign(b"data");
        assert!(verify.verify(b"data", &signature) && !verify.verify(b"date", &signature));
    }

    #[test]
    fn hybrid_points_and_points_off_the_curve_are_refused() {
        let point = EccPrivate::generate().unwrap().verify_key().point();
        let mut hybrid = point;
        hybrid[0] = 0x06 | (point[64] & 1);
        assert!(EccVerify::from_text(&hex_encode(&point), false).is_ok());
        assert!(EccVerify::from_text(&hex_encode(&hybrid), false).is_err());
        let mut off = point;
        off[40] ^= 1;
        assert!(EccVerify::from_text(&hex_encode(&off), false).is_err());
        assert!(EccVerify::from_text(&hex_encode(&point[1..]), false).is_err());
    }

    #[test]
    fn the_compressed_form_changes_only_the_address() {
        let point = hex_encode(&EccPrivate::generate().unwrap().verify_key().point());
        let short = EccVerify::from_text(&point, true).unwrap();
        let long = EccVerify::from_text(&point, false).unwrap();
        assert_eq!((short.key_data().len(), long.key_data().len()), (33, 65));
        assert_eq!(short.point(), long.point());
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", EccPrivate::generate().unwrap()), "EccPrivate { .. }");
    }
}
