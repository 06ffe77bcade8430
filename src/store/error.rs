//! What can go wrong with a store, whose fault it is and what to do about it.

use std::fmt;

/// Why an op was not carried out, or a store not opened. Never the fault of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The disk has no room left. Reads and deletes go on; the operator must make room.
    Full,
    /// Stored bytes are not what was written. The disk's fault; `what` was damaged, at `key`.
    Damaged {
        /// The kind of record, or the part of the database.
        what: &'static str,
        /// Which one, readable.
        key: Box<str>,
    },
    /// Another process has the folder open. The operator's fault.
    Locked {
        /// The folder.
        path: Box<str>,
    },
    /// The folder was written by a newer program. The operator's fault.
    NewerFormat {
        /// The format version in the folder.
        found: u32,
        /// The newest one that this program knows.
        known: u32,
    },
    /// The folder may not be written or cannot be made. The operator's fault.
    Denied {
        /// The folder.
        path: Box<str>,
        /// What the system said.
        text: Box<str>,
    },
    /// The disk or the system failed in another way.
    Io(Box<str>),
    /// The store is being closed; ask again after the restart.
    Closed,
    /// An op was given to a call that does not carry it out. A bug of the caller.
    Misused(&'static str),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "the disk is full: free some space, nothing else is needed"),
            Self::Damaged { what, key } => write!(
                f,
                "{what} damaged on disk at {key}: check the disk; if the store no longer opens, \
                 restore a backup or open it with salvage"
            ),
            Self::Locked { path } => write!(
                f,
                "{path} is in use by another process: stop that one or choose another folder"
            ),
            Self::NewerFormat { found, known } => write!(
                f,
                "the store has format {found}, this program knows up to {known}: run the newer \
                 program, or restore a backup from before the upgrade"
            ),
            Self::Denied { path, text } => {
                write!(f, "{path} cannot be used ({text}): check its owner and permissions")
            }
            Self::Io(text) => write!(f, "the disk or the system failed: {text}"),
            Self::Closed => write!(f, "the store is being closed"),
            Self::Misused(text) => write!(f, "wrong use of the store: {text}"),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_folder_and_the_way_out() {
        let text = StoreError::Locked { path: "/var/lib/dims".into() }.to_string();
        assert!(text.contains("/var/lib/dims") && text.contains("stop that one"));
        let text = StoreError::NewerFormat { found: 9, known: 1 }.to_string();
        assert!(text.contains('9') && text.contains("up to 1"));
    }
}
