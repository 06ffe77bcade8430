//! Stored records and keys as a damaged disk gives them; the checksum is made right, so that what
//! is behind it is reached too.
#![no_main]

use arbitrary::Arbitrary;
use dim::store::columns::{ACCOUNT, Column, HEAD, MAIL};
use dim::store::key::{
    account_key, mail_key, parse_account_key, parse_mail_key, queue_part, queue_range, readable,
    seq_part, successor, user_range,
};
use dim::store::record::{
    Head, RECORD_VERSION, decode_account, decode_head, decode_mail, encode_account, encode_head,
    encode_mail,
};
use dim::store::{AccountPart, Mail, QueueKey};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    key: Vec<u8>,
    archive: Vec<u8>,
    user: String,
    device: String,
    other: String,
    seq: u64,
    received_ms: u64,
}

/// CRC-32C, a bit a step.
fn crc(parts: &[&[u8]]) -> u32 {
    !parts.iter().copied().flatten().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

fn whole(column: Column, key: &[u8], archive: &[u8]) -> Vec<u8> {
    let sum = crc(&[&[RECORD_VERSION], column.name.as_bytes(), key, archive]).to_le_bytes();
    [&[RECORD_VERSION], &sum[..], archive].concat()
}

fuzz_target!(|input: Input| {
    let Input { key, archive, .. } = &input;
    let _ = decode_mail(key, &whole(MAIL, key, archive));
    let _ = decode_head(key, &whole(HEAD, key, archive));
    let _ = decode_account(key, &whole(ACCOUNT, key, archive));
    let _ = (decode_mail(key, archive), decode_head(key, archive), decode_account(key, archive));
    let _ = (queue_part(key), seq_part(key), successor(key), readable(key));
    if let Ok((queue, seq)) = parse_mail_key(key) {
        assert_eq!(&mail_key(&queue, seq), key);
    }
    if let Ok((user, part)) = parse_account_key(key) {
        assert_eq!(&account_key(&user, part), key);
    }

    let mail =
        Mail { received_ms: input.received_ms, digest: [7; 16], body: archive.clone().into() };
    let queue = QueueKey { user: input.user.as_str().into(), device: input.device.as_str().into() };
    let name = mail_key(&queue, input.seq);
    assert_eq!(parse_mail_key(&name), Ok((queue.clone(), input.seq)));
    let stored = encode_mail(&name, &mail).expect("a record");
    assert_eq!(stored, whole(MAIL, &name, &stored[5..]));
    assert_eq!(decode_mail(&name, &stored).as_ref(), Ok(&mail));
    assert!(decode_mail(key, &stored).is_err() || *key == name, "a record has one place");
    let head = Head::of(&mail);
    let stored = encode_head(&name, &head).expect("a record");
    assert_eq!(decode_head(&name, &stored), Ok(head));
    let stored = encode_account(&name, archive).expect("a record");
    assert_eq!(decode_account(&name, &stored).as_deref(), Ok(&archive[..]));

    // Whose a key is, the ranges say.
    let (from, to) = user_range(&input.user);
    assert!(from <= name && name < to);
    let (from, to) = queue_range(&queue, input.seq);
    assert!(from <= name && name < to);
    let other = QueueKey { user: input.other.as_str().into(), device: queue.device.clone() };
    let strange = mail_key(&other, input.seq);
    assert!(other == queue || strange < from || to <= strange);
    for part in AccountPart::ALL {
        let key = account_key(&input.user, part);
        assert_eq!(parse_account_key(&key), Ok((queue.user.clone(), part)));
    }
});
