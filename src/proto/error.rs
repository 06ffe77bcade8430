//! What was wrong with something a peer sent.

use std::fmt;

/// A field that is missing or not as the protocol demands. The fault of whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtoError {
    /// The field, or the noun that the text should have been.
    pub field: &'static str,
    /// What was expected there.
    pub expected: &'static str,
}

impl ProtoError {
    /// An error about `field`, where `expected` should have stood.
    pub const fn new(field: &'static str, expected: &'static str) -> Self {
        Self { field, expected }
    }
}

impl fmt::Display for ProtoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}", self.field, self.expected)
    }
}

impl std::error::Error for ProtoError {}
