//! Addresses, and what kind of entity one stands for.

use std::fmt;

use super::error::ProtoError;
use crate::base::digest::keccak256;
use crate::base::encode::{base58check_decode, base58check_encode, hash160, hex_encode};
use crate::base::limits::ID_CHARS_MAX;

/// Text of the address of "any one user".
pub const ANYWHERE: &str = "anywhere";
/// Text of the address of "any one group".
pub const EVERYWHERE: &str = "everywhere";

/// What an ID names. The owner of a key may claim any kind for it, so a kind alone earns no
/// trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntityKind {
    /// A person.
    User,
    /// A group of users.
    Group,
    /// A station.
    Station,
    /// A service provider: a group of stations.
    Provider,
    /// An automatic user.
    Bot,
    /// A content provider: a group of bots.
    ContentProvider,
    /// A large group of the old network byte 0x30.
    Chatroom,
    /// Broadcast to any one user, `…@anywhere`.
    AnyUser,
    /// Broadcast to a group, `…@everywhere`.
    AnyGroup,
    /// A byte without a meaning, as it stands in the address. Never a broadcast.
    Other(u8),
}

impl EntityKind {
    /// Kind of the entity with this network byte in its address; bytes of before 2020 are
    /// translated to what they mean now.
    pub const fn from_network(network: u8) -> Self {
        match network {
            0x00 | 0x08 => Self::User,
            0x01 | 0x10 => Self::Group,
            0x02 | 0x88 => Self::Station,
            0x03 | 0x76 => Self::Provider,
            0x04 | 0xc8 => Self::Bot,
            0x05 => Self::ContentProvider,
            0x30 => Self::Chatroom,
            other => Self::Other(other),
        }
    }

    /// The number that the reference uses for this kind.
    pub const fn code(self) -> u8 {
        match self {
            Self::User => 0x00,
            Self::Group => 0x01,
            Self::Station => 0x02,
            Self::Provider => 0x03,
            Self::Bot => 0x04,
            Self::ContentProvider => 0x05,
            Self::Chatroom => 0x31,
            Self::AnyUser => 0x80,
            Self::AnyGroup => 0x81,
            Self::Other(byte) => byte,
        }
    }

    /// Whether it has members.
    pub const fn is_group(self) -> bool {
        self.code() & 0x01 != 0
    }

    /// Whether it signs its own messages.
    pub const fn is_user(self) -> bool {
        !self.is_group()
    }

    /// Whether it is one of the two broadcast kinds. Other bytes of 0x80 and above are not,
    /// though the reference takes them so: it would spare their owners every proof.
    pub const fn is_broadcast(self) -> bool {
        matches!(self, Self::AnyUser | Self::AnyGroup)
    }
}

/// A form of addresses that an application adds; see [`super::registry`].
pub trait AddressForm {
    /// The network byte of an address that has this form; none for other texts. It is asked with
    /// texts of at most 128 characters without `@`, `/` and control characters, and after the
    /// protocol's own forms.
    fn network(text: &str) -> Option<u8>;
}

/// [`AddressForm::network`] of some form.
pub(super) type Network = fn(&str) -> Option<u8>;

/// A valid address: one of the two broadcast words, BTC form, or ETH form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: Box<str>,
    network: u8,
}

impl Address {
    /// Reads an address; the broadcast words in any letter case.
    pub fn parse(text: &str) -> Result<Self, ProtoError> {
        let network = scan(text)?;
        Ok(Self { text: canonical(text).into(), network })
    }

    /// Reads an address of an application's form.
    pub fn of<F: AddressForm>(text: &str) -> Result<Self, ProtoError> {
        const WRONG: ProtoError = ProtoError::new("address", "the form that it is made for");
        if let Ok(own) = Self::parse(text) {
            return Ok(own);
        }
        let blank = |c: char| c.is_control() || matches!(c, '@' | '/');
        if text.len() > ID_CHARS_MAX || text.trim() != text || text.contains(blank) {
            return Err(WRONG);
        }
        let network = F::network(text).ok_or(WRONG)?;
        Ok(Self { text: text.into(), network })
    }

    /// The BTC-form address of `material` (a fingerprint or key data) on a network.
    pub fn btc(network: u8, material: &[u8]) -> Self {
        let text = base58check_encode(network, &hash160(material));
        Self { text: text.into(), network }
    }

    /// The ETH-form address of an uncompressed point: 64 bytes, or 65 of which the first is
    /// dropped. None for anything else.
    pub fn eth(material: &[u8]) -> Option<Self> {
        let point: &[u8] = match material.len() {
            65 => material.get(1..)?,
            64 => material,
            _ => return None,
        };
        let digest = keccak256(point);
        let text = eip55(digest.last_chunk::<20>()?);
        Some(Self { text: text.into(), network: 0 })
    }

    /// The text; broadcast words in lower case.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The network byte as it stands in the address, untranslated; 0 in ETH form.
    pub fn network(&self) -> u8 {
        self.network
    }

    /// Whether it is one of the two broadcast words.
    pub fn is_broadcast(&self) -> bool {
        matches!(&*self.text, ANYWHERE | EVERYWHERE)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks the text of an address without keeping it; yields its network byte. Texts that the
/// reference keeps as "unknown" are refused, since no meta can ever match them.
pub(super) fn scan(text: &str) -> Result<u8, ProtoError> {
    const WRONG: ProtoError = ProtoError::new("address", "btc or eth form, or a broadcast word");
    match text.len() {
        8 if text.eq_ignore_ascii_case(ANYWHERE) => Ok(EntityKind::AnyUser.code()),
        10 if text.eq_ignore_ascii_case(EVERYWHERE) => Ok(EntityKind::AnyGroup.code()),
        26..=35 => base58check_decode(text).map(|(network, _)| network).map_err(|_| WRONG),
        42 => match text.strip_prefix("0x") {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => Ok(0),
            _ => Err(WRONG),
        },
        _ => Err(WRONG),
    }
}

/// The text to compare and to build with: broadcast words are shared in lower case.
pub(super) fn canonical(text: &str) -> &str {
    match text.len() {
        8 if text.eq_ignore_ascii_case(ANYWHERE) => ANYWHERE,
        10 if text.eq_ignore_ascii_case(EVERYWHERE) => EVERYWHERE,
        _ => text,
    }
}

/// `0x` and 40 digits whose letter case is a checksum (EIP-55).
pub fn eip55(digest: &[u8; 20]) -> String {
    let lower = hex_encode(digest);
    let check = hex_encode(&keccak256(lower.as_bytes()));
    let cased = lower
        .chars()
        .zip(check.chars())
        .map(|(digit, nibble)| if nibble >= '8' { digit.to_ascii_uppercase() } else { digit });
    "0x".chars().chain(cased).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_network_bytes_mean_what_they_meant() {
        let table = [(0x08, 0), (0x10, 1), (0x30, 0x31), (0x76, 3), (0x88, 2), (0xc8, 4)];
        for (byte, code) in table {
            assert_eq!(EntityKind::from_network(byte).code(), code, "{byte:#x}");
        }
        for byte in 0..=5 {
            assert_eq!(EntityKind::from_network(byte).code(), byte);
        }
    }

    #[test]
    fn no_network_byte_makes_a_broadcast() {
        assert!((0..=255).all(|byte| !EntityKind::from_network(byte).is_broadcast()));
        assert!(EntityKind::AnyGroup.is_broadcast() && EntityKind::AnyGroup.is_group());
        assert!(EntityKind::AnyUser.is_broadcast() && EntityKind::AnyUser.is_user());
    }

    #[test]
    fn an_address_without_owner_is_refused() {
        for bad in [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
            "0xgggggggggggggggggggggggggggggggggggggggg",
            "0Xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "nowhere!",
            "",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn broadcast_words_are_shared_in_lower_case() {
        assert_eq!(Address::parse("EveryWhere").map(|a| a.to_string()).as_deref(), Ok(EVERYWHERE));
    }
}
