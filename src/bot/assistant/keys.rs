//! Content keys of groups, sealed for each member: the assistant can open none of them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::proto::id::Id;

/// Keys of one sender in one group that are kept; the latest comes last. An older one serves
/// messages that are on their way.
pub(super) const GENERATIONS_MAX: usize = 2;
/// All sealed keys together, in bytes; whose came first makes room, and is asked for them again.
pub(super) const KEYS_BYTES_MAX: usize = 256 << 20;

/// From whom, to which group.
pub(super) type Direction = (Id, Id);

/// One key under many seals.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sealed {
    /// The short digest that names the key; empty where none was given.
    pub(super) digest: String,
    /// By ID, perhaps with terminal, in base64.
    pub(super) keys: BTreeMap<String, String>,
}

impl Sealed {
    fn bytes(&self) -> usize {
        let keys = self.keys.iter().map(|(name, key)| name.len() + key.len());
        keys.sum::<usize>() + self.digest.len()
    }

    /// The seals for one member's devices.
    pub(super) fn of<'a>(&'a self, member: &'a Id) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = |name: &str| Id::parse(name).is_ok_and(|id| id.is_same_as(member));
        let keys = self.keys.iter().filter(move |(name, _)| own(name));
        keys.map(|(name, key)| (name.as_str(), key.as_str()))
    }
}

/// All that are known.
#[derive(Debug, Default)]
pub(super) struct KeyBook {
    directions: HashMap<Direction, VecDeque<Sealed>>,
    order: VecDeque<Direction>,
    bytes: usize,
}

impl KeyBook {
    /// The key of that digest, or the latest one where none is named.
    pub(super) fn sealed(&self, direction: &Direction, digest: Option<&str>) -> Option<&Sealed> {
        let all = self.directions.get(direction)?;
        match digest {
            Some(digest) => all.iter().find(|sealed| sealed.digest == digest),
            None => all.back(),
        }
    }

    /// Adds seals to the key of that digest; whether anything is new.
    pub(super) fn add(&mut self, direction: &Direction, more: Sealed) -> bool {
        if more.keys.is_empty() {
            return false;
        }
        let all = self.directions.entry(direction.clone()).or_default();
        if all.is_empty() {
            self.order.push_back(direction.clone());
        }
        let known = all.iter_mut().find(|sealed| sealed.digest == more.digest);
        let changed = match known {
            Some(known) => {
                let before = known.bytes();
                let mut changed = false;
                for (name, key) in more.keys {
                    changed |= known.keys.insert(name, key.clone()) != Some(key);
                }
                self.bytes = self.bytes - before + known.bytes();
                changed
            }
            None => {
                self.bytes += more.bytes();
                all.push_back(more);
                true
            }
        };
        if all.len() > GENERATIONS_MAX {
            self.bytes -= all.pop_front().map_or(0, |old| old.bytes());
        }
        while self.bytes > KEYS_BYTES_MAX
            && self.order.len() > 1
            && let Some(oldest) = self.order.pop_front()
        {
            let gone = self.directions.remove(&oldest).unwrap_or_default();
            self.bytes -= gone.iter().map(Sealed::bytes).sum::<usize>();
        }
        changed
    }

    pub(super) fn len(&self) -> usize {
        self.directions.values().map(VecDeque::len).sum()
    }

    /// Everything, in the order in which it has to be added again.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Direction, &Sealed)> {
        let all = self.order.iter().filter_map(|d| self.directions.get_key_value(d));
        all.flat_map(|(direction, all)| all.iter().map(move |sealed| (direction, sealed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_a_member_sends_along_counts() {
        let (mut book, direction) = (KeyBook::default(), (Id::moky(), Id::everyone()));
        let keys = BTreeMap::from([("ab".to_owned(), "cde".to_owned())]);
        let sealed = |digest: &str| Sealed { digest: digest.repeat(100), keys: keys.clone() };
        assert!(book.add(&direction, sealed("1")));
        assert_eq!(book.bytes, 105);
        assert!(book.add(&direction, sealed("2")) && book.add(&direction, sealed("3")));
        assert_eq!((book.len(), book.bytes), (GENERATIONS_MAX, 210));
    }
}
