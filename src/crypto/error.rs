//! What failed in cryptography. Says that it failed, never how near it was.

use std::fmt;

use crate::proto::error::ProtoError;

/// Why a key could not be used or a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CryptoError {
    /// The key object names an algorithm that is unknown or cannot do this. The key's fault.
    Algorithm,
    /// The key object does not hold a key of its algorithm, or one of a refused size. The key's
    /// fault.
    Key,
    /// The initialisation vector is not 16 bytes in base64. The sender's fault.
    Vector,
    /// The signature does not belong to this key and these bytes. The signer's fault.
    Signature,
    /// The meta does not make this ID, or the document is about somebody else. The sender's
    /// fault.
    Identity,
    /// The bytes were not sealed for this key, or were damaged. The sender's fault.
    Sealed,
    /// More bytes than fit into one block of this key. Our fault.
    TooLong,
    /// The operation could not be completed by the library beneath. Our fault.
    Internal,
    /// A field is not as the protocol demands. The sender's fault.
    Proto(ProtoError),
}

impl fmt::Display for CryptoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "key of an unsuitable algorithm",
            Self::Key => "unusable key",
            Self::Vector => "initialisation vector is not 16 bytes in base64",
            Self::Signature => "signature does not match",
            Self::Identity => "belongs to another id",
            Self::Sealed => "cannot be opened",
            Self::TooLong => "too long for this key",
            Self::Internal => "cryptographic library failed",
            Self::Proto(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for CryptoError {}

impl From<ProtoError> for CryptoError {
    fn from(error: ProtoError) -> Self {
        Self::Proto(error)
    }
}
