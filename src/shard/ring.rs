//! Which shard owns an ID. The only place that knows the hash.

use crate::proto::id::Id;

/// A shard's place in the ring, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex(pub u16);

/// All shards of a station.
#[derive(Debug, Clone, Copy)]
pub struct Ring {
    shards: u16,
}

impl Ring {
    /// A ring of so many shards, at least one.
    pub fn new(shards: u16) -> Self {
        Self { shards: shards.max(1) }
    }

    /// The number of shards.
    pub fn len(self) -> u16 {
        self.shards
    }

    /// Whether the ring has no shard: never.
    pub fn is_empty(self) -> bool {
        false
    }

    /// The shard that owns an entity; its terminals belong to the same.
    ///
    /// Two lanes of a multiply-and-fold hash: an ID ends in a digest, so its text is spread
    /// already, and who chooses IDs to crowd one shard gains no more than with one busy ID.
    pub fn owner_of(self, id: &Id) -> ShardIndex {
        let naked = id.naked();
        let hash = naked.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let place =
            (u128::from(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(self.shards)) >> 64;
        ShardIndex(u16::try_from(place).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_of_an_id_have_one_owner_and_ids_are_spread() {
        let ring = Ring::new(3);
        let mut counts = [0_u32; 3];
        for n in 0..3000 {
            let id = Id::parse(&format!("u{n}@anywhere")).expect("an id");
            let owner = ring.owner_of(&id);
            assert_eq!(owner, ring.owner_of(&id.dressed("phone").expect("dressed")));
            counts[usize::from(owner.0)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
