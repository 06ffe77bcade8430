//! Hash tables, hashed by a seeded multiplication instead of SipHash.
//!
//! A relayed message is looked up some thirty times, by a number of ours, by a digest or by an ID.
//! The seed is drawn anew by each process and nothing that a stranger sees depends on it.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// A map; made by `Table::default()`.
pub type Table<K, V> = HashMap<K, V, RandomState>;

/// A set; made by `Set::default()`.
pub type Set<K> = HashSet<K, RandomState>;
