//! Mail for absent users, which the reference keeps in Redis only: `dkd.msg.{ID}.messages` names the
//! messages of an ID, by the ends of their signatures, and `dkd.msg.{ID}.{end}` is one of them.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{Refusal, complain};
use super::redis::{Redis, RedisError};
use super::{Import, refused};
use crate::crypto::identity::{Proven, prove_document, prove_meta, verify_keys};
use crate::crypto::key::VerifyKey;
use crate::crypto::sign;
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json as text;
use crate::proto::message::ReliableMessage;
use crate::proto::meta::Meta;
use crate::server::config;
use crate::shard::{digest_of, session::ANY_DEVICE};
use crate::store::{
    Mail, MailDigest, QueueKey, QueueSummary, Store, StoreAnswer, StoreOp, UserRecord,
};

const PREFIX: &str = "dkd.msg.";
const SUFFIX: &str = ".messages";

/// What is in a receiver's way.
struct Bounds {
    config: config::Mail,
    /// Nothing that was received before is kept, in microseconds since 1970.
    oldest_us: u64,
    now_us: u64,
}

/// What the receiver has already.
struct Room {
    digests: HashSet<MailDigest>,
    count: u64,
    bytes: u64,
    /// The newest place in this queue from before, and those that were given away here.
    last_seq: u64,
    taken: HashSet<u64>,
}

impl Room {
    /// Copies that the device would be given, and the sizes of all.
    fn of(queues: &[QueueSummary], device: Option<&str>) -> Self {
        let own = device.unwrap_or(ANY_DEVICE);
        let given = |queue: &&QueueSummary| {
            device.is_none_or(|device| [device, ANY_DEVICE].contains(&&*queue.device))
        };
        Self {
            digests: queues.iter().filter(given).flat_map(|q| q.digests.iter().copied()).collect(),
            count: queues.iter().map(|queue| queue.count).max().unwrap_or_default(),
            bytes: queues.iter().map(|queue| queue.bytes).sum(),
            last_seq: queues.iter().find(|q| *q.device == *own).map_or(0, |queue| queue.last_seq),
            taken: HashSet::new(),
        }
    }

    /// The place of a message of this time, in microseconds since 1970: messages are sorted by it.
    fn place(&mut self, time_us: u64) -> u64 {
        let mut place = time_us.max(self.last_seq.saturating_add(1));
        while !self.taken.insert(place) {
            place = place.saturating_add(1);
        }
        place
    }
}

/// The messages stored for one ID: whose they are, and for which device.
struct Mailbox {
    key: Vec<u8>,
    owner: Id,
    device: Option<String>,
}

impl Import<'_> {
    pub(super) fn mail(&mut self, url: &str, limits: &config::Mail) -> Result<(), Refusal> {
        let said = |error: RedisError| Refusal::here(format!("redis: {error}"));
        let mut redis = Redis::connect(url).map_err(said)?;
        let now_us = (self.now_s * 1e6) as u64;
        let age_us = u64::from(limits.expiry_days) * 86_400_000_000;
        let bounds =
            Bounds { config: limits.clone(), oldest_us: now_us.saturating_sub(age_us), now_us };
        // Devices first: a copy for anybody is not needed where a device has its own.
        for for_devices in [true, false] {
            let mut cursor = "0".to_owned();
            loop {
                let pattern = format!("{PREFIX}*{SUFFIX}");
                let (next, keys) = redis.scan(&cursor, &pattern).map_err(said)?;
                for key in keys {
                    match box_of(key) {
                        Ok(found) if found.device.is_some() == for_devices => {
                            self.mailbox(&mut redis, &found, &bounds, said)?;
                        }
                        Err(key) if for_devices => {
                            self.bad_mail(&key, "not the messages of an ID");
                        }
                        _ => {}
                    }
                }
                if next == "0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    fn bad_mail(&mut self, key: &str, why: &str) {
        self.tally.damaged += 1;
        complain(format_args!("redis: {}: {why}", key.escape_debug()));
    }

    fn mailbox(
        &mut self,
        redis: &mut Redis,
        found: &Mailbox,
        bounds: &Bounds,
        said: impl Fn(RedisError) -> Refusal,
    ) -> Result<(), Refusal> {
        // What was put before must count.
        self.commit()?;
        let record = self.record(&found.owner.as_str().into())?;
        let mut room = Room::of(&record.queues, found.device.as_deref());
        let most = bounds.config.messages_per_user_max;
        for end in redis.last_members(&found.key, most).map_err(&said)? {
            let list = found.key.len() - SUFFIX.len();
            let key = [&found.key[..list], b".", &end].concat();
            // What has expired is still named.
            if let Some(value) = redis.value(&key).map_err(&said)?
                && let Err(why) = self.message(found, &mut room, value.into(), bounds)?
            {
                self.bad_mail(&String::from_utf8_lossy(&key), why);
            }
        }
        Ok(())
    }

    /// Puts one message into its queue, or says why not.
    fn message(
        &mut self,
        found: &Mailbox,
        room: &mut Room,
        body: Bytes,
        bounds: &Bounds,
    ) -> Result<Result<(), &'static str>, Refusal> {
        let message = ReliableMessage::parse(body.clone(), &mut self.parser, &mut self.names);
        let Ok(message) = message else {
            return Ok(Err("not a message"));
        };
        if !message.receiver().is_same_as(&found.owner) {
            return Ok(Err("a message for somebody else"));
        }
        let keys = self.keys_of(&message)?;
        if keys.is_empty() {
            return Ok(Err("its sender is unknown here, so it cannot be verified"));
        }
        let Ok(message) = sign::verify(message, &keys) else {
            return Ok(Err("its signature does not match"));
        };
        // The sender's clock may be wrong; what is not to come is taken for new.
        let time_us = message.time().map_or(bounds.now_us, |time| (time * 1e6) as u64);
        let time_us = time_us.min(bounds.now_us);
        if time_us < bounds.oldest_us {
            self.tally.mail.old += 1;
            return Ok(Ok(()));
        }
        let digest = digest_of(&message, &found.owner);
        if room.digests.contains(&digest) {
            self.tally.mail.known += 1;
            return Ok(Ok(()));
        }
        let bytes = room.bytes.saturating_add(body.len() as u64);
        if bytes > bounds.config.bytes_per_user_max
            || room.count >= u64::from(bounds.config.messages_per_user_max)
        {
            return Ok(Err("the receiver's mailbox is full"));
        }
        (room.bytes, room.count) = (bytes, room.count + 1);
        room.digests.insert(digest);
        let device = found.device.as_deref().unwrap_or(ANY_DEVICE);
        let queue = QueueKey { user: found.owner.as_str().into(), device: device.into() };
        let mail = Mail { received_ms: time_us / 1000, digest, body };
        self.tally.mail.new += 1;
        self.put(StoreOp::Enqueue { queue, seq: room.place(time_us), mail })?;
        Ok(Ok(()))
    }

    fn record(&mut self, user: &Arc<str>) -> Result<UserRecord, Refusal> {
        match self.store.read(&StoreOp::LoadUser { user: user.clone() }) {
            StoreAnswer::User(record) => Ok(record),
            StoreAnswer::Failed(error) => Err(refused(error)),
            _ => Ok(UserRecord::default()),
        }
    }

    /// The keys that the sender may have signed with, from the store or from the message itself.
    fn keys_of(&mut self, message: &ReliableMessage) -> Result<Vec<VerifyKey>, Refusal> {
        let sender = message.sender().naked();
        let record = self.record(&sender.as_str().into())?;
        let stored = record.meta.and_then(|bytes| text::parse_object(&bytes).ok());
        let meta = stored.or_else(|| message.meta(&mut self.parser));
        let meta = meta.and_then(|map| prove_meta(&sender, Meta::from_map(&map).ok()?).ok());
        let Some(meta) = meta else {
            return Ok(Vec::new());
        };
        let mut maps = match record.documents.map(|bytes| text::parse(&bytes)) {
            Some(Ok(serde_json::Value::Array(list))) => list,
            _ => Vec::new(),
        };
        maps.extend(message.visa(&mut self.parser).map(serde_json::Value::Object));
        let documents: Vec<Proven<Document>> = maps
            .iter()
            .filter_map(|value| Document::from_map(value.as_object()?).ok())
            .filter_map(|document| prove_document(&meta, &sender, document).ok())
            .collect();
        Ok(verify_keys(&meta, &documents))
    }
}

/// What a key names; gives the key as text if it names nothing.
fn box_of(key: Vec<u8>) -> Result<Mailbox, String> {
    let name = String::from_utf8_lossy(&key).into_owned();
    let id = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    // The reference writes a terminal of "/" where there is none.
    let id = id.map(|text| text.trim_end_matches('/'));
    match id.and_then(|text| Id::parse(text).ok()) {
        Some(id) if !id.is_broadcast() => {
            let device = id.terminal().map(str::to_owned);
            Ok(Mailbox { key, owner: id.naked(), device })
        }
        _ => Err(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_owner_and_device() {
        const USER: &str = "a.b@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR";
        let read = |text: &str| {
            let found = box_of(text.as_bytes().to_vec()).ok()?;
            Some((found.owner.as_str().to_owned(), found.device))
        };
        let of = |terminal: &str| read(&format!("dkd.msg.{USER}{terminal}.messages"));
        assert_eq!(of(""), Some((USER.to_owned(), None)));
        assert_eq!(of("//"), Some((USER.to_owned(), None)));
        assert_eq!(of("/my.phone"), Some((USER.to_owned(), Some("my.phone".to_owned()))));
        assert_eq!(read("dkd.msg.everyone@everywhere.messages"), None);
        assert_eq!(read("dkd.msg..messages"), None);
    }
}
