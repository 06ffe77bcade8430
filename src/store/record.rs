//! Stored records: a version byte, a checksum, then an rkyv archive that is validated on read.
//!
//! The checksum covers the version, the family, the key and the archive, so a record that turns up
//! in another's place is refused like one with a flipped bit. It is CRC-32C and no digest, since it
//! guards against disks and not against people.

use bytes::Bytes;
use rkyv::rancor::Error as RkyvError;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

use super::columns::{ACCOUNT, Column, HEAD, MAIL};
use super::op::{Mail, MailDigest};
use super::{StoreError, key};

/// Version of the records below. A change of their shape needs a new one and a step in `migrate`.
pub const RECORD_VERSION: u8 = 1;

const CHECKSUM_BYTES: usize = 4;
/// Bytes in front of the archive.
pub const RECORD_HEAD_BYTES: usize = 1 + CHECKSUM_BYTES;
/// Room for the archive's root beside the body, so that a record is written into one allocation.
const ROOT_BYTES: usize = 64;

#[derive(Archive, Serialize)]
struct StoredMail<'a> {
    received_ms: u64,
    digest: MailDigest,
    #[rkyv(with = InlineAsBox)]
    body: &'a [u8],
}

#[derive(Archive, Serialize)]
struct StoredHead {
    received_ms: u64,
    digest: MailDigest,
    bytes: u64,
}

#[derive(Archive, Serialize)]
struct StoredAccount<'a> {
    #[rkyv(with = InlineAsBox)]
    json: &'a [u8],
}

/// What is known of a message without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// When the station took it, in milliseconds since 1970.
    pub received_ms: u64,
    /// Its digest.
    pub digest: MailDigest,
    /// Its body's length.
    pub bytes: u64,
}

impl Head {
    /// The head of a message.
    #[must_use]
    pub fn of(mail: &Mail) -> Self {
        Self { received_ms: mail.received_ms, digest: mail.digest, bytes: mail.body.len() as u64 }
    }
}

/// A message as stored under `key`.
pub fn encode_mail(key: &[u8], mail: &Mail) -> Result<Vec<u8>, StoreError> {
    let stored =
        StoredMail { received_ms: mail.received_ms, digest: mail.digest, body: &mail.body };
    finish(MAIL, key, rkyv::api::high::to_bytes_in(&stored, room(mail.body.len())))
}

/// The message stored under `key`; copies the body once.
pub fn decode_mail(key: &[u8], record: &[u8]) -> Result<Mail, StoreError> {
    let archive = checked(MAIL, key, record)?;
    let stored = rkyv::access::<ArchivedStoredMail<'_>, RkyvError>(archive)
        .map_err(|_| damaged(MAIL, key))?;
    Ok(Mail {
        received_ms: stored.received_ms.to_native(),
        digest: stored.digest,
        body: Bytes::copy_from_slice(&stored.body),
    })
}

/// A message's head as stored under `key`.
pub fn encode_head(key: &[u8], head: &Head) -> Result<Vec<u8>, StoreError> {
    let stored =
        StoredHead { received_ms: head.received_ms, digest: head.digest, bytes: head.bytes };
    finish(HEAD, key, rkyv::api::high::to_bytes_in(&stored, room(0)))
}

/// The head stored under `key`.
pub fn decode_head(key: &[u8], record: &[u8]) -> Result<Head, StoreError> {
    let archive = checked(HEAD, key, record)?;
    let stored =
        rkyv::access::<ArchivedStoredHead, RkyvError>(archive).map_err(|_| damaged(HEAD, key))?;
    Ok(Head {
        received_ms: stored.received_ms.to_native(),
        digest: stored.digest,
        bytes: stored.bytes.to_native(),
    })
}

/// A part of an account as stored under `key`.
pub fn encode_account(key: &[u8], json: &[u8]) -> Result<Vec<u8>, StoreError> {
    let stored = StoredAccount { json };
    finish(ACCOUNT, key, rkyv::api::high::to_bytes_in(&stored, room(json.len())))
}

/// The part of an account stored under `key`.
pub fn decode_account(key: &[u8], record: &[u8]) -> Result<Bytes, StoreError> {
    let archive = checked(ACCOUNT, key, record)?;
    let stored = rkyv::access::<ArchivedStoredAccount<'_>, RkyvError>(archive)
        .map_err(|_| damaged(ACCOUNT, key))?;
    Ok(Bytes::copy_from_slice(&stored.json))
}

/// The error that says that the record of `column` at `key` is damaged.
#[must_use]
pub fn damaged(column: Column, key: &[u8]) -> StoreError {
    StoreError::Damaged { what: column.what, key: key::readable(key) }
}

fn room(body: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_HEAD_BYTES + ROOT_BYTES + body);
    record.extend_from_slice(&[RECORD_VERSION, 0, 0, 0, 0]);
    record
}

fn finish(
    column: Column,
    key: &[u8],
    written: Result<Vec<u8>, RkyvError>,
) -> Result<Vec<u8>, StoreError> {
    let mut record = written.map_err(|error| StoreError::Io(error.to_string().into()))?;
    if let Some((head, archive)) = record.split_first_chunk_mut::<RECORD_HEAD_BYTES>() {
        let [a, b, c, d] = sum(RECORD_VERSION, column, key, archive);
        *head = [RECORD_VERSION, a, b, c, d];
    }
    Ok(record)
}

fn checked<'a>(column: Column, key: &[u8], record: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let Some(([version, found @ ..], archive)) = record.split_first_chunk::<RECORD_HEAD_BYTES>()
    else {
        return Err(damaged(column, key));
    };
    // The folder's format was checked when it was opened, so another version here is damage.
    if *version != RECORD_VERSION || *found != sum(*version, column, key, archive) {
        return Err(damaged(column, key));
    }
    Ok(archive)
}

fn sum(version: u8, column: Column, key: &[u8], archive: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let parts: [&[u8]; 4] = [&[version], column.name.as_bytes(), key, archive];
    parts.into_iter().fold(0, crc32c::crc32c_append).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(bytes: usize) -> Mail {
        let body: Vec<u8> = (0..bytes).map(|index| (index * 7 % 251) as u8).collect();
        Mail { received_ms: 1_700_000_000_123, digest: [9; 16], body: body.into() }
    }

    #[test]
    fn records_come_back() {
        for bytes in [0, 1, 5, 1024, 70_000] {
            let mail = mail(bytes);
            let record = encode_mail(b"key", &mail).unwrap();
            assert!(record.len() <= RECORD_HEAD_BYTES + ROOT_BYTES + bytes);
            assert_eq!(decode_mail(b"key", &record).unwrap(), mail);
            let head = Head::of(&mail);
            let record = encode_head(b"key", &head).unwrap();
            assert_eq!(decode_head(b"key", &record).unwrap(), head);
            let record = encode_account(b"key", &mail.body).unwrap();
            assert_eq!(decode_account(b"key", &record).unwrap(), mail.body);
        }
    }

    #[test]
    fn the_checksum_is_the_one_of_stores_that_are_there() {
        assert_eq!(sum(1, ACCOUNT, b"key", b"123456789"), 0x5E27_C457_u32.to_le_bytes());
    }

    #[test]
    fn any_flipped_bit_cut_or_other_key_is_damage() {
        let mail = mail(50);
        let record = encode_mail(b"key", &mail).unwrap();
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode_mail(b"key", &flipped), Err(StoreError::Damaged { .. })));
        }
        for cut in 0..record.len() {
            assert!(decode_mail(b"key", &record[..cut]).is_err());
        }
        assert!(decode_mail(b"kez", &record).is_err());
        assert!(decode_head(b"key", &record).is_err());
    }

    #[test]
    fn an_archive_with_a_right_checksum_is_still_validated() {
        for length in 0..80 {
            let archive = vec![0xFF; length];
            let mut record = vec![RECORD_VERSION];
            record.extend_from_slice(&sum(RECORD_VERSION, MAIL, b"key", &archive));
            record.extend_from_slice(&archive);
            assert!(decode_mail(b"key", &record).is_err());
        }
    }
}
