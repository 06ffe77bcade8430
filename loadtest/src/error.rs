//! Why a load test cannot go on, in words that say whose fault it is.

use std::fmt;
use std::path::Path;

use dim::crypto::error::CryptoError;

/// The reason, for people.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Something is wrong with a file.
    pub(crate) fn file(path: &Path, reason: impl fmt::Display) -> Self {
        Self(format!("{}: {reason}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<CryptoError> for Failure {
    fn from(error: CryptoError) -> Self {
        Self(format!("making users or messages: {error}"))
    }
}
