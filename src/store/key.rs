//! Order-preserving keys: user, device, place; no key of one user or device lies among another's.
//!
//! A text ends with `00 01`, and a `00` inside it becomes `00 FF`. So the end sorts before any
//! continuation, no encoded text is a prefix of another, and bytes sort as the texts do.
//! Numbers are big-endian. IDs come bounded from above; a key is at most twice as long as its
//! texts, plus twelve bytes.

use std::fmt;
use std::sync::Arc;

use super::op::QueueKey;
use crate::proto::command::List;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const END: u8 = 0x01;
/// What follows the last key that begins with an ended text: nothing encodes to `00 02`.
const AFTER_END: u8 = 0x02;

/// The parts of an account, each a record of its own so that saving one copies no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountPart {
    /// The user's meta.
    Meta = 1,
    /// The user's documents.
    Documents = 2,
    /// The user's logins.
    Logins = 3,
    /// Whose messages the user does not take.
    Blocked = 4,
    /// Whose messages the user takes without a notification.
    Muted = 5,
}

impl AccountPart {
    /// The part that keeps a list.
    pub const fn of(list: List) -> Self {
        match list {
            List::Block => Self::Blocked,
            List::Mute => Self::Muted,
        }
    }

    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::Meta, Self::Documents, Self::Logins, Self::Blocked, Self::Muted];
}

/// A key of the wrong shape, which only a damaged store can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stored key of an unknown shape")
    }
}

impl std::error::Error for KeyError {}

/// Key of a part of an account: user, then one byte.
#[must_use]
pub fn account_key(user: &str, part: AccountPart) -> Vec<u8> {
    let mut key = user_prefix(user, 1);
    key.push(part as u8);
    key
}

/// Takes apart what [`account_key`] made.
pub fn parse_account_key(key: &[u8]) -> Result<(Arc<str>, AccountPart), KeyError> {
    let (user, rest) = take_text(key)?;
    let known = AccountPart::ALL.into_iter().find(|part| [*part as u8] == *rest);
    Ok((user, known.ok_or(KeyError)?))
}

/// Key of a message: user, device, place.
#[must_use]
pub fn mail_key(queue: &QueueKey, seq: u64) -> Vec<u8> {
    let mut key = queue_prefix(queue);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// Takes apart what [`mail_key`] made.
pub fn parse_mail_key(key: &[u8]) -> Result<(QueueKey, u64), KeyError> {
    let (user, rest) = take_text(key)?;
    let (device, rest) = take_text(rest)?;
    let seq = u64::from_be_bytes(rest.try_into().map_err(|_| KeyError)?);
    Ok((QueueKey { user, device }, seq))
}

/// The queue's part of a message's key, to compare neighbours without taking them apart.
pub fn queue_part(key: &[u8]) -> Result<&[u8], KeyError> {
    key.split_last_chunk::<8>().map(|(front, _)| front).ok_or(KeyError)
}

/// The place of a message's key.
pub fn seq_part(key: &[u8]) -> Result<u64, KeyError> {
    key.split_last_chunk::<8>().map(|(_, seq)| u64::from_be_bytes(*seq)).ok_or(KeyError)
}

/// From the first to just behind the last message of a user, over all devices.
#[must_use]
pub fn user_range(user: &str) -> (Vec<u8>, Vec<u8>) {
    let first = user_prefix(user, 0);
    let end = after(&first);
    (first, end)
}

/// From a place in a queue to just behind its last message.
#[must_use]
pub fn queue_range(queue: &QueueKey, from_seq: u64) -> (Vec<u8>, Vec<u8>) {
    let mut first = queue_prefix(queue);
    let end = after(&first);
    first.extend_from_slice(&from_seq.to_be_bytes());
    (first, end)
}

/// The first key behind `key`.
#[must_use]
pub fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// A key in words, whatever its shape.
#[must_use]
pub fn readable(key: &[u8]) -> Box<str> {
    if let Ok((queue, seq)) = parse_mail_key(key) {
        return format!("{}/{} {seq}", queue.user, queue.device).into();
    }
    if let Ok((user, part)) = parse_account_key(key) {
        return format!("{user} {part:?}").into();
    }
    key.escape_ascii().to_string().into()
}

fn queue_prefix(queue: &QueueKey) -> Vec<u8> {
    let mut key = user_prefix(&queue.user, queue.device.len() + 10);
    push_text(&mut key, &queue.device);
    key
}

fn user_prefix(user: &str, more: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.len() + 2 + more);
    push_text(&mut key, user);
    key
}

fn push_text(key: &mut Vec<u8>, text: &str) {
    for (index, piece) in text.as_bytes().split(|&byte| byte == ESCAPE).enumerate() {
        if index > 0 {
            key.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
        }
        key.extend_from_slice(piece);
    }
    key.extend_from_slice(&[ESCAPE, END]);
}

fn after(ended: &[u8]) -> Vec<u8> {
    let mut end = ended.to_vec();
    if let Some(last) = end.last_mut() {
        *last = AFTER_END;
    }
    end
}

fn take_text(key: &[u8]) -> Result<(Arc<str>, &[u8]), KeyError> {
    let mut text = Vec::new();
    let mut rest = key;
    loop {
        let zero = rest.iter().position(|&byte| byte == ESCAPE).ok_or(KeyError)?;
        let (piece, tail) = rest.split_at(zero);
        text.extend_from_slice(piece);
        match tail {
            [_, END, tail @ ..] => {
                let text = String::from_utf8(text).map_err(|_| KeyError)?;
                return Ok((text.into(), tail));
            }
            [_, ESCAPED_ZERO, tail @ ..] => {
                text.push(ESCAPE);
                rest = tail;
            }
            _ => return Err(KeyError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that try to run into each other, and random ones; seeded.
    fn texts() -> Vec<String> {
        let mut texts: Vec<String> = [
            "",
            "a",
            "ab",
            "b",
            "a\0",
            "a\0\0",
            "\0",
            "\0\u{1}",
            "\0\u{ff}",
            "a\u{1}",
            "\u{10ffff}",
            "hulk@4YeV",
        ]
        .map(String::from)
        .to_vec();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..60 {
            let mut text = String::new();
            for _ in 0..state % 9 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push(
                    ['\0', '\u{1}', '\u{2}', 'a', '\u{ff}', '@', '/', '\u{7f}']
                        [(state >> 61) as usize],
                );
            }
            state ^= state >> 29;
            state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(7);
            texts.push(text);
        }
        texts
    }

    fn queue(user: &str, device: &str) -> QueueKey {
        QueueKey { user: user.into(), device: device.into() }
    }

    #[test]
    fn keys_come_back_and_sort_as_their_parts() {
        let texts = texts();
        let mut all = Vec::new();
        for user in &texts {
            for device in &texts {
                for seq in [0, 1, 255, 256, u64::MAX] {
                    let whole = (queue(user, device), seq);
                    let key = mail_key(&whole.0, seq);
                    assert_eq!(parse_mail_key(&key), Ok(whole.clone()));
                    assert_eq!(seq_part(&key), Ok(seq));
                    assert_eq!(queue_part(&key).unwrap(), queue_prefix(&whole.0));
                    all.push((whole, key));
                }
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        assert!(all.windows(2).all(|two| (two[0].0 == two[1].0) == (two[0].1 == two[1].1)));
        assert!(all.windows(2).all(|two| two[0].1 <= two[1].1));
    }

    #[test]
    fn a_range_holds_its_own_and_nobody_elses() {
        let texts = texts();
        for user in &texts {
            let (first, end) = user_range(user);
            let (queue_first, queue_end) = queue_range(&queue(user, "a"), 5);
            for other in &texts {
                for device in ["", "a", "a\0", "\0", "b"] {
                    for seq in [0, 5, u64::MAX] {
                        let key = mail_key(&queue(other, device), seq);
                        assert_eq!(first <= key && key < end, other == user);
                        let inside = other == user && device == "a" && seq >= 5;
                        assert_eq!(queue_first <= key && key < queue_end, inside);
                    }
                }
            }
        }
    }

    #[test]
    fn account_keys_come_back() {
        for user in texts() {
            for part in AccountPart::ALL {
                let key = account_key(&user, part);
                assert_eq!(parse_account_key(&key), Ok((user.as_str().into(), part)));
            }
        }
    }

    #[test]
    fn foreign_bytes_are_refused_and_still_readable() {
        for key in
            [&b""[..], b"a", b"a\0", b"a\0\x01", b"a\0\x03\x01", b"\xff\0\x01\x01", b"a\0\x01\x06"]
        {
            assert_eq!(parse_mail_key(key), Err(KeyError));
            assert_eq!(parse_account_key(key), Err(KeyError));
            assert!(readable(key).is_ascii());
        }
        assert_eq!(&*readable(&mail_key(&queue("hulk", "pad"), 7)), "hulk/pad 7");
        assert_eq!(&*readable(&account_key("hulk", AccountPart::Meta)), "hulk Meta");
    }
}
