//! From a message to a verified one: the only way to get a [`Verified`].

use std::ops::Deref;

use super::key::VerifyKey;
use crate::proto::message::ReliableMessage;

/// A message whose signature is its sender's.
#[derive(Debug, Clone)]
pub struct Verified {
    message: ReliableMessage,
}

impl Deref for Verified {
    type Target = ReliableMessage;

    fn deref(&self) -> &ReliableMessage {
        &self.message
    }
}

impl Verified {
    /// Takes a message on the word of its session, which proved to be the sender's by a signature
    /// of its own. Only for the policy `verify = "session"`; receivers still check for themselves.
    pub fn by_session(message: ReliableMessage) -> Self {
        Self { message }
    }
}

/// Checks a message against the keys that its sender may sign with; any one will do. Gives the
/// message back when none fits, or when there is nothing to check.
#[expect(clippy::result_large_err, reason = "the message goes on either way, and is moved once")]
pub fn verify(message: ReliableMessage, keys: &[VerifyKey]) -> Result<Verified, ReliableMessage> {
    let Ok(signed) = message.signed_bytes() else {
        return Err(message);
    };
    if keys.iter().any(|key| key.verify(&signed, message.signature())) {
        Ok(Verified { message })
    } else {
        Err(message)
    }
}
