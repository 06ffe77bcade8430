//! The one table of column families; no other file names one.

/// How a column family is tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A handful of keys.
    Tiny,
    /// Read by whole key: a Bloom filter tells without the disk that a user is unknown.
    Point,
    /// Small records read in ranges, all of a user's at once.
    Index,
    /// Bodies, written once, read in order once, deleted.
    Queue,
}

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name on disk; never changes its meaning.
    pub name: &'static str,
    /// What one entry is called in messages to people.
    pub what: &'static str,
    /// Shape of the key.
    pub key: &'static str,
    /// Shape of the value.
    pub record: &'static str,
    /// How it is tuned.
    pub preset: Preset,
    /// Which ops write it.
    pub writer: &'static str,
}

/// The format version of all the others. RocksDB insists on a family of this name.
pub const FORMAT: Column = Column {
    name: "default",
    what: "format version",
    key: "the word `format`",
    record: "decimal digits",
    preset: Preset::Tiny,
    writer: "migrate",
};

/// What is known of a user, apart from mail.
pub const ACCOUNT: Column = Column {
    name: "account",
    what: "account",
    key: "user, part (1 meta, 2 documents, 3 logins, 4 blocked, 5 muted)",
    record: "Account",
    preset: Preset::Point,
    writer: "Save",
};

/// What a queue's summary and expiry need of a message. A family of its own, not a suffix of the
/// mail's key: a delete knows the place and not the digest, and would have to read first.
pub const HEAD: Column = Column {
    name: "head",
    what: "mail head",
    key: "user, device, place",
    record: "Head",
    preset: Preset::Index,
    writer: "Enqueue, Delete, Expire",
};

/// The messages.
pub const MAIL: Column = Column {
    name: "mail",
    what: "mail",
    key: "user, device, place",
    record: "Mail",
    preset: Preset::Queue,
    writer: "Enqueue, Delete, Expire",
};

/// Records that failed their check, as they were found, for a person to look at.
pub const DAMAGED: Column = Column {
    name: "damaged",
    what: "damaged record",
    key: "name of its family, `:`, its key there",
    record: "the bytes as found; empty if the disk gave none",
    preset: Preset::Tiny,
    writer: "any read that meets one",
};

/// All of them.
pub const ALL: [Column; 5] = [FORMAT, ACCOUNT, HEAD, MAIL, DAMAGED];

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn names_are_told_apart() {
        for (index, column) in ALL.iter().enumerate() {
            assert!(ALL.iter().skip(index + 1).all(|other| other.name != column.name));
            assert!(!column.name.contains(':'));
        }
    }
}
