//! RSA, PKCS#1 v1.5 throughout: checking, signing, sealing and opening.
//!
//! aws-lc checks signatures of any size, but signs, seals and opens only from 2048 bits on. For
//! the smaller keys that published clients still make, crate `rsa` does these three.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::rsa::{
    KeyPair, KeySize, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_SHA256,
};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey, EncodeRsaPrivateKey};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use rsa::rand_core::{CryptoRng, RngCore};
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Encrypt, Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use serde_json::{Map, Value};

use super::error::CryptoError;
use super::pem;
use crate::base::digest::sha256;
use crate::base::limits::{RSA_BITS_AWS_MIN, RSA_BITS_MAX, RSA_BITS_MIN, RSA_PADDING_BYTES};

/// Width of a line of armor, in characters, as the reference writes RSA keys.
const LINE_CHARS: usize = 64;

/// Modulus that the reference assumes where a key does not say, in bytes.
const KEY_BYTES_DEFAULT: usize = 128;

/// A public key that checks signatures. A clone shares the parsed key.
#[derive(Clone)]
pub struct RsaVerify(Arc<ParsedPublic>);

struct ParsedPublic {
    key: ParsedPublicKey,
    spki: Box<[u8]>,
    modulus_bytes: usize,
}

impl RsaVerify {
    /// Reads the armored key in `data`: SubjectPublicKeyInfo or PKCS#1, under either label.
    pub(super) fn from_pem(data: &str) -> Result<Self, CryptoError> {
        Self::from_public(&public_from_pem(data)?)
    }

    fn from_public(public: &RsaPublicKey) -> Result<Self, CryptoError> {
        let spki = public.to_public_key_der().map_err(|_| CryptoError::Key)?;
        let algorithm = &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
        let key = ParsedPublicKey::new(algorithm, spki.as_bytes()).map_err(|_| CryptoError::Key)?;
        let (spki, modulus_bytes) = (spki.into_vec().into(), public.size());
        Ok(Self(Arc::new(ParsedPublic { key, spki, modulus_bytes })))
    }

    /// Whether `signature` is that of `data` by this key.
    pub fn verify(&self, data: &[u8], signature: &[u8]) -> bool {
        signature.len() == self.0.modulus_bytes && self.0.key.verify_sig(data, signature).is_ok()
    }

    /// The key as SubjectPublicKeyInfo, however it was written.
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }
}

/// A public key that seals short texts. A clone shares the parsed key.
#[derive(Clone)]
pub struct RsaSeal(Arc<SealBackend>);

enum SealBackend {
    Strong(Pkcs1PublicEncryptingKey),
    Small(RsaPublicKey),
}

impl RsaSeal {
    /// Reads the armored key in `data`, see [`RsaVerify`].
    pub(super) fn from_pem(data: &str) -> Result<Self, CryptoError> {
        Self::from_public(public_from_pem(data)?)
    }

    fn from_public(public: RsaPublicKey) -> Result<Self, CryptoError> {
        if public.n().bits() < RSA_BITS_AWS_MIN {
            return Ok(Self(Arc::new(SealBackend::Small(public))));
        }
        let spki = public.to_public_key_der().map_err(|_| CryptoError::Key)?;
        let key = PublicEncryptingKey::from_der(spki.as_bytes()).map_err(|_| CryptoError::Key)?;
        let key = Pkcs1PublicEncryptingKey::new(key).map_err(|_| CryptoError::Key)?;
        Ok(Self(Arc::new(SealBackend::Strong(key))))
    }

    /// Longest text that fits, in bytes.
    pub fn plain_bytes_max(&self) -> usize {
        let modulus_bytes = match &*self.0 {
            SealBackend::Strong(key) => key.key_size_bytes(),
            SealBackend::Small(key) => key.size(),
        };
        modulus_bytes.saturating_sub(RSA_PADDING_BYTES)
    }

    /// Seals `plain` into one block of the modulus' length.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if plain.len() > self.plain_bytes_max() {
            return Err(CryptoError::TooLong);
        }
        match &*self.0 {
            SealBackend::Strong(key) => {
                let mut block = vec![0; key.ciphertext_size()];
                let sealed = key.encrypt(plain, &mut block).map_err(|_| CryptoError::Internal)?;
                Ok(sealed.to_vec())
            }
            SealBackend::Small(key) => key
                .encrypt(&mut SystemEntropy, Pkcs1v15Encrypt, plain)
                .map_err(|_| CryptoError::Internal),
        }
    }
}

/// A private key: signs and opens. A clone shares the key.
#[derive(Clone)]
pub struct RsaPrivate(Arc<PrivateKey>);

struct PrivateKey {
    key: RsaPrivateKey,
    /// The same key in aws-lc, when it is large enough.
    strong: Option<(KeyPair, Pkcs1PrivateDecryptingKey)>,
}

impl RsaPrivate {
    /// A new key of 1024, 2048, 3072 or 4096 bits, from the system's randomness.
    pub fn generate(bits: usize) -> Result<Self, CryptoError> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            RSA_BITS_MIN => {
                let key = RsaPrivateKey::new(&mut SystemEntropy, bits);
                return Self::from_private(key.map_err(|_| CryptoError::Internal)?);
            }
            _ => return Err(CryptoError::Key),
        };
        let pair = KeyPair::generate(size).map_err(|_| CryptoError::Internal)?;
        let der = pair.as_der().map_err(|_| CryptoError::Internal)?;
        let key = RsaPrivateKey::from_pkcs8_der(der.as_ref());
        Self::from_private(key.map_err(|_| CryptoError::Internal)?)
    }

    /// Reads the armored key in `data`: PKCS#1 or PKCS#8.
    pub(super) fn from_pem(data: &str) -> Result<Self, CryptoError> {
        let der = pem::decode(data, &["RSA PRIVATE KEY", "PRIVATE KEY"]).ok_or(CryptoError::Key)?;
        let key = RsaPrivateKey::from_pkcs1_der(&der)
            .or_else(|_| RsaPrivateKey::from_pkcs8_der(&der).map_err(|_| CryptoError::Key))?;
        Self::from_private(key)
    }

    fn from_private(key: RsaPrivateKey) -> Result<Self, CryptoError> {
        check_size(key.n().bits())?;
        key.validate().map_err(|_| CryptoError::Key)?;
        let strong = if key.n().bits() < RSA_BITS_AWS_MIN {
            None
        } else {
            let der = key.to_pkcs8_der().map_err(|_| CryptoError::Key)?;
            let signer = KeyPair::from_pkcs8(der.as_bytes()).map_err(|_| CryptoError::Key)?;
            let opener = PrivateDecryptingKey::from_pkcs8(der.as_bytes())
                .map_err(|_| CryptoError::Key)
                .and_then(|key| {
                    Pkcs1PrivateDecryptingKey::new(key).map_err(|_| CryptoError::Key)
                })?;
            Some((signer, opener))
        };
        Ok(Self(Arc::new(PrivateKey { key, strong })))
    }

    /// The signature of `data`, as long as the modulus. The same every time.
    pub fn sign(&self, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        match &self.0.strong {
            Some((signer, _)) => {
                let mut signature = vec![0; signer.public_modulus_len()];
                signer
                    .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature)
                    .map_err(|_| CryptoError::Internal)?;
                Ok(signature)
            }
            None => self
                .0
                .key
                .sign_with_rng(&mut SystemEntropy, Pkcs1v15Sign::new::<Sha256>(), &sha256(data))
                .map_err(|_| CryptoError::Internal),
        }
    }

    /// Opens one block. Every failure is the same failure, or a sender could learn the text by
    /// trying blocks.
    pub fn decrypt(&self, block: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if block.len() != self.0.key.size() {
            return Err(CryptoError::Sealed);
        }
        match &self.0.strong {
            Some((_, opener)) => {
                let mut plain = vec![0; opener.min_output_size()];
                let plain =
                    opener.decrypt(block, &mut plain).map_err(|_| CryptoError::Sealed)?.to_vec();
                Ok(plain)
            }
            None => self
                .0
                .key
                .decrypt_blinded(&mut SystemEntropy, Pkcs1v15Encrypt, block)
                .map_err(|_| CryptoError::Sealed),
        }
    }

    /// The public half, for checking.
    pub fn verify_key(&self) -> Result<RsaVerify, CryptoError> {
        RsaVerify::from_public(&self.0.key.to_public_key())
    }

    /// The public half, for sealing.
    pub fn seal_key(&self) -> Result<RsaSeal, CryptoError> {
        RsaSeal::from_public(self.0.key.to_public_key())
    }

    /// The key object, secret included, as the reference writes it.
    pub fn to_map(&self) -> Result<Map<String, Value>, CryptoError> {
        let der = self.0.key.to_pkcs1_der().map_err(|_| CryptoError::Internal)?;
        let mut map = key_map(pem::encode("RSA PRIVATE KEY", der.as_bytes(), LINE_CHARS));
        let key_bytes = self.0.key.size();
        if key_bytes != KEY_BYTES_DEFAULT {
            // Without this the reference takes only blocks of the default length.
            map.insert("keySize".into(), key_bytes.into());
        }
        Ok(map)
    }

    /// The object of the public half.
    pub fn public_map(&self) -> Result<Map<String, Value>, CryptoError> {
        let public = self.0.key.to_public_key();
        let spki = public.to_public_key_der().map_err(|_| CryptoError::Internal)?;
        Ok(key_map(pem::encode("PUBLIC KEY", spki.as_bytes(), LINE_CHARS)))
    }
}

impl fmt::Debug for RsaPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaPrivate").field("bits", &self.0.key.n().bits()).finish_non_exhaustive()
    }
}

fn key_map(data: String) -> Map<String, Value> {
    let fields = [
        ("algorithm", "RSA".to_owned()),
        ("data", data),
        ("mode", "ECB".to_owned()),
        ("padding", "PKCS1".to_owned()),
        ("digest", "SHA256".to_owned()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn public_from_pem(data: &str) -> Result<RsaPublicKey, CryptoError> {
    // The oldest accounts carry PKCS#1 under the label of SubjectPublicKeyInfo.
    let der = pem::decode(data, &["PUBLIC KEY", "RSA PUBLIC KEY"]).ok_or(CryptoError::Key)?;
    let public = RsaPublicKey::from_public_key_der(&der)
        .or_else(|_| RsaPublicKey::from_pkcs1_der(&der).map_err(|_| CryptoError::Key))?;
    check_size(public.n().bits())?;
    Ok(public)
}

fn check_size(bits: usize) -> Result<(), CryptoError> {
    match bits {
        RSA_BITS_MIN..=RSA_BITS_MAX => Ok(()),
        _ => Err(CryptoError::Key),
    }
}

/// The system's randomness for crate `rsa`, which draws blinding and padding from it.
struct SystemEntropy;

impl RngCore for SystemEntropy {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        // No peer can cause this, and to go on without randomness would give keys away.
        assert!(fill(out).is_ok(), "the system has no randomness");
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for SystemEntropy {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_signs_seals_and_survives_its_text() {
        for bits in [1024, 2048] {
            let made = RsaPrivate::generate(bits).unwrap();
            let map = made.to_map().unwrap();
            assert_eq!(map.contains_key("keySize"), bits != 1024);
            let key = RsaPrivate::from_pem(map["data"].as_str().unwrap()).unwrap();
            let public = made.public_map().unwrap();
            let public = public["data"].as_str().unwrap();
            let verify = RsaVerify::from_pem(public).unwrap();
            assert_eq!(verify.spki(), key.verify_key().unwrap().spki());
            assert!(verify.verify(b"data", &key.sign(b"data").unwrap()));
            assert!(!verify.verify(b"date", &key.sign(b"data").unwrap()));
            let seal = RsaSeal::from_pem(public).unwrap();
            let block = seal.encrypt(b"secret").unwrap();
            assert_eq!(block.len(), bits / 8);
            assert_eq!(key.decrypt(&block).unwrap(), b"secret");
            assert_eq!(key.decrypt(&vec![1; bits / 8]), Err(CryptoError::Sealed));
            assert_eq!(key.decrypt(&block[1..]), Err(CryptoError::Sealed));
            let long = vec![0; seal.plain_bytes_max() + 1];
            assert_eq!(seal.encrypt(&long), Err(CryptoError::TooLong));
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert!(RsaPrivate::generate(512).is_err());
        let weak = RsaPrivateKey::new(&mut SystemEntropy, 512).unwrap();
        let spki = weak.to_public_key().to_public_key_der().unwrap();
        let text = pem::encode("PUBLIC KEY", spki.as_bytes(), LINE_CHARS);
        assert!(matches!(RsaVerify::from_pem(&text), Err(CryptoError::Key)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = RsaPrivate::generate(1024).unwrap();
        assert_eq!(format!("{key:?}"), "RsaPrivate { bits: 1024, .. }");
    }
}
