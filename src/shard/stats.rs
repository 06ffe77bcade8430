//! What a shard counts: plain numbers, read by its own thread.

/// One row of the table of counters.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    /// Name, as metrics have it.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
}

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// Counters of one shard, all since its start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Stats {
            $(#[doc = $help] pub $name: u64,)*
        }

        impl Stats {
            /// The table of all counters.
            pub const TABLE: &[Counter] =
                &[$(Counter { name: stringify!($name), help: $help },)*];

            /// The values, in the order of the table.
            pub fn values(&self) -> Vec<u64> {
                vec![$(self.$name,)*]
            }
        }
    };
}

counters! {
    accepted: "connections accepted",
    logins: "logins proven",
    heard: "messages for the station itself",
    relayed: "messages taken for relay",
    delivered: "messages acknowledged by a session of the receiver",
    cached: "messages stored for a receiver that is absent or does not acknowledge",
    repeated: "messages that had been taken before",
    refused_frames: "connections closed for what is no framing or breaks a limit",
    refused_messages: "texts that are no message, or in another's name",
    refused_signatures: "messages whose signature is not their sender's",
    blocked: "messages that their receiver does not take",
    mailbox_full: "messages refused for a full mailbox",
    parked_dropped: "messages dropped that waited for a login, unacknowledged",
    slow_sessions: "times a session fell behind and went on from the store",
    closed_idle: "connections closed for silence",
    closed_no_login: "connections closed for not logging in",
    closed_refused: "connections closed for too many refused messages",
    slowed: "times reading stopped since a user went too fast",
    refused_uploads: "accounts of others not taken, before a login or beyond the bound",
    brought: "messages of others that neighbour stations brought",
    looped: "messages from neighbours that had been here before",
    strangers: "messages from neighbours given up, since their sender's account did not come",
    redirected: "messages taken for users who are at another station",
    wakes: "notifications for users who are away",
    wakes_dropped: "notifications dropped, since there were too many at once",
    expired: "stored messages thrown out for their age",
    store_failures: "requests the store could not carry out",
}
