//! Digests: SHA-256 for signatures and addresses, and the older ones that addresses, key digests
//! and the WebSocket opening need.

use aws_lc_rs::digest;
use ripemd::Ripemd160;
use sha3::{Digest, Keccak256};

/// SHA-256 of `data`.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    fixed(digest::digest(&digest::SHA256, data).as_ref())
}

/// SHA-1 of `data`. Only for the WebSocket accept key: it protects nothing.
pub fn sha1(data: &[u8]) -> [u8; 20] {
    fixed(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data).as_ref())
}

/// RIPEMD-160 of `data`.
pub fn ripemd160(data: &[u8]) -> [u8; 20] {
    Ripemd160::digest(data).into()
}

/// Keccak-256 of `data`, with the padding from before SHA-3 was standardised.
pub fn keccak256(data: &[u8]) -> [u8; 32] {
    Keccak256::digest(data).into()
}

/// `N` bytes from a digest whose algorithm yields exactly `N`.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    debug_assert_eq!(bytes.len(), N);
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

/// MD5 of `data`. Only names a symmetric key (eight characters of it): it protects nothing.
pub fn md5(data: &[u8]) -> [u8; 16] {
    use md5::Digest;
    md5::Md5::digest(data).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::encode::hex_encode;

    #[test]
    fn md5_pads_at_every_length_round_a_block() {
        assert_eq!(hex_encode(&md5(b"abc")), "900150983cd24fb0d6963f7d28e17f72");
        let known = [
            (55, "ef1772b6dff9a122358552954ad0df65"),
            (56, "3b0c8ac703f828b04c6c197006d17218"),
            (63, "b06521f39153d618550606be297466d5"),
            (64, "014842d480b571495a4a0363793f7367"),
            (119, "8a7bd0732ed6a28ce75f6dabc90e1613"),
            (120, "5f61c0ccad4cac44c75ff505e1f1e537"),
        ];
        for (length, digest) in known {
            assert_eq!(hex_encode(&md5(&vec![b'a'; length])), digest, "{length} bytes");
        }
    }

    #[test]
    fn keccak_is_not_sha3() {
        assert!(hex_encode(&keccak256(b"")).starts_with("c5d2460186f7"));
    }
}
