//! Content keys by direction: from whom, and to whom or to which group. One key serves for many
//! messages, since wrapping it for every device is the dear part.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value};

use crate::crypto::aes::AesKey;
use crate::crypto::error::CryptoError;
use crate::crypto::key::{CipherKey, SealKey};
use crate::crypto::seal::{HeardKey, wrap_key};
use crate::proto::id::Id;

/// Directions that are kept; the one that came first makes room. A lost key costs one wrapping, or
/// a message that has none of its own.
pub const DIRECTIONS_MAX: usize = 4096;

/// From a sender to a receiver or group, both without terminals.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Direction {
    from: Id,
    to: Id,
}

#[derive(Debug, Clone)]
struct Entry {
    key: CipherKey,
    wrapped: Wrapped,
}

/// The key under seal, to spare doing it again.
#[derive(Debug, Clone)]
enum Wrapped {
    /// Not known: the key was read from a file.
    No,
    /// `keys` as we send them, with what names the receivers' documents at that time.
    Ours { edition: [u8; 32], keys: Map<String, Value> },
    /// It came from somebody, in a text of this SHA-256.
    Theirs([u8; 32]),
}

/// The content keys of one client. Empty, it holds no memory.
#[derive(Debug, Default)]
pub struct KeyStore {
    entries: HashMap<Direction, Entry>,
    order: VecDeque<Direction>,
}

impl KeyStore {
    /// The key for a direction: the one in use, or a new one. Broadcasts go in the open.
    pub fn key(&mut self, from: &Id, to: &Id) -> Result<CipherKey, CryptoError> {
        if to.is_broadcast() {
            return Ok(CipherKey::Plain);
        }
        if let Some(key) = self.known(from, to) {
            return Ok(key.clone());
        }
        let key = CipherKey::Aes(AesKey::generate()?);
        self.keep(from, to, Entry { key: key.clone(), wrapped: Wrapped::No });
        Ok(key)
    }

    /// The key in use for a direction, if there is one.
    pub fn known(&self, from: &Id, to: &Id) -> Option<&CipherKey> {
        self.entries.get(&direction(from, to)).map(|entry| &entry.key)
    }

    /// The key for a direction with the `keys` of a message: wrapped for all `receivers` and named
    /// by its digest. `edition` names their documents; while it stays, nothing is wrapped anew.
    pub fn wrapped(
        &mut self,
        from: &Id,
        to: &Id,
        edition: [u8; 32],
        receivers: impl FnOnce() -> Vec<(Id, SealKey)>,
    ) -> Result<(CipherKey, Map<String, Value>), CryptoError> {
        let key = self.key(from, to)?;
        let entry = self.entries.get_mut(&direction(from, to));
        if let Some(Wrapped::Ours { edition: made_for, keys }) = entry.as_ref().map(|e| &e.wrapped)
            && *made_for == edition
        {
            return Ok((key, keys.clone()));
        }
        let mut keys = wrap_key(&key, &receivers());
        if keys.is_empty() {
            return Err(CryptoError::Key);
        }
        if let CipherKey::Aes(key) = &key {
            keys.insert("digest".into(), key.digest().into());
        }
        if let Some(entry) = entry {
            entry.wrapped = Wrapped::Ours { edition, keys: keys.clone() };
        }
        Ok((key, keys))
    }

    /// What is known of a direction towards us, for [`open`](crate::crypto::seal::open).
    pub fn heard(&self, from: &Id, to: &Id) -> HeardKey {
        let entry = self.entries.get(&direction(from, to))?;
        let digest = match &entry.wrapped {
            Wrapped::Theirs(digest) => *digest,
            Wrapped::No | Wrapped::Ours { .. } => [0; 32],
        };
        Some((digest, entry.key.clone()))
    }

    /// Keeps the key that somebody used towards us.
    pub fn hear(&mut self, from: &Id, to: &Id, heard: HeardKey) {
        if let Some((digest, key)) = heard {
            self.keep(from, to, Entry { key, wrapped: Wrapped::Theirs(digest) });
        }
    }

    /// All keys as one JSON object, secrets included: sender to receiver to key.
    pub fn save(&self) -> Value {
        let mut all = Map::new();
        for direction in &self.order {
            let Some(entry) = self.entries.get(direction) else { continue };
            let from = all.entry(direction.from.as_str()).or_insert_with(|| Map::new().into());
            if let Value::Object(from) = from {
                from.insert(direction.to.as_str().into(), entry.key.to_map().into());
            }
        }
        Value::Object(all)
    }

    /// Reads what [`save`](Self::save) wrote. What is no key is left out: the next message brings
    /// a new one.
    pub fn load(saved: &Value) -> Self {
        let mut store = Self::default();
        for (from, keys) in saved.as_object().into_iter().flatten() {
            for (to, key) in keys.as_object().into_iter().flatten() {
                let key = key.as_object().and_then(|map| CipherKey::from_map(map).ok());
                if let (Ok(from), Ok(to), Some(key)) = (Id::parse(from), Id::parse(to), key) {
                    store.keep(&from, &to, Entry { key, wrapped: Wrapped::No });
                }
            }
        }
        store
    }

    fn keep(&mut self, from: &Id, to: &Id, entry: Entry) {
        let direction = direction(from, to);
        if self.entries.insert(direction.clone(), entry).is_some() {
            return;
        }
        if self.order.len() >= DIRECTIONS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        self.order.push_back(direction);
    }
}

fn direction(from: &Id, to: &Id) -> Direction {
    Direction { from: from.naked(), to: to.naked() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id::parse(&format!("{name}@4WDfe3zZ4T7opFSi3iDAKiuTnUHjxmXekk")).unwrap()
    }

    #[test]
    fn a_direction_keeps_its_key_across_saving() {
        let mut store = KeyStore::default();
        let (alice, bob) = (id("alice"), id("bob"));
        let key = store.key(&alice, &bob).unwrap();
        let tablet = bob.dressed("tablet").unwrap();
        assert_eq!(store.key(&alice, &tablet).unwrap(), key);
        assert_ne!(store.key(&bob, &alice).unwrap(), key);
        let loaded = KeyStore::load(&store.save());
        assert_eq!(loaded.known(&alice, &bob), Some(&key));
        assert_eq!(loaded.save(), store.save());
        assert_eq!(store.key(&alice, &Id::everyone()).unwrap(), CipherKey::Plain);
        let broken = serde_json::json!({"x": 1, "everyone": {"anyone": {"algorithm": "?"}}});
        assert_eq!(KeyStore::load(&broken).save(), serde_json::json!({}));
    }

    #[test]
    fn the_oldest_direction_makes_room() {
        let mut store = KeyStore::default();
        let me = id("me");
        for n in 0..=DIRECTIONS_MAX {
            store.hear(&id(&format!("n{n}")), &me, Some(([0; 32], CipherKey::Plain)));
        }
        assert_eq!((store.entries.len(), store.order.len()), (DIRECTIONS_MAX, DIRECTIONS_MAX));
        assert!(store.known(&id("n0"), &me).is_none() && store.known(&id("n1"), &me).is_some());
    }
}
