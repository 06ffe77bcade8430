//! Everything that a shard can want.

use bytes::Bytes;

use super::input::{ConnId, Parcel, Ticket};
use super::neighbor::LinkId;
use super::ring::ShardIndex;
use super::session::Session;
use crate::store::op::StoreOp;

/// What a shard wants done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Write these bytes; several in a row make one write.
    Send {
        /// To whom.
        conn: ConnId,
        /// What.
        bytes: Bytes,
    },
    /// Tell when the peer's kernel has everything that was sent so far ([`super::Input::Arrived`]).
    WatchArrival {
        /// On which connection.
        conn: ConnId,
    },
    /// Stop reading until `Resume`: too much of this connection's work is waiting.
    Pause {
        /// Which.
        conn: ConnId,
    },
    /// Read again.
    Resume {
        /// Which.
        conn: ConnId,
    },
    /// Write what is to be written, then close.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        why: Close,
    },
    /// Connect to a neighbour, and tell how it went ([`super::Input::Dialed`],
    /// [`super::Input::NotDialed`]).
    Dial {
        /// For which link.
        link: LinkId,
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Whether under TLS.
        tls: bool,
    },
    /// Hand the connection to another shard, with what has not been written yet.
    Move {
        /// Which.
        conn: ConnId,
        /// To whom.
        to: ShardIndex,
        /// Its state.
        session: Box<Session>,
    },
    /// Tell another shard.
    Forward {
        /// To whom.
        to: ShardIndex,
        /// What.
        parcel: Parcel,
    },
    /// Ask the store.
    Store {
        /// To be given back with the answer.
        ticket: Ticket,
        /// What.
        op: StoreOp,
    },
    /// After `Stop`: nothing is in flight any more.
    Stopped,
}

/// Why the station ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The peer asked for it.
    Asked,
    /// Nothing was heard for too long.
    Idle,
    /// Nobody logged in in time, or before too many messages.
    NoLogin,
    /// What came is no framing we know, or breaks its rules or limits.
    Framing,
    /// Too many of its messages had to be refused.
    Refused,
    /// A dialled station is not the one that was looked for, or no neighbour any more.
    NotWanted,
    /// The station stops.
    Stopping,
}

impl Close {
    /// The status of a WebSocket's CLOSE frame (RFC 6455, 7.4); none where one has been sent.
    pub(super) fn web_status(self) -> Option<u16> {
        match self {
            Self::Asked | Self::Framing | Self::NotWanted => None,
            Self::Stopping => Some(1001),
            Self::Idle | Self::NoLogin | Self::Refused => Some(1008),
        }
    }

    /// The word for it in logs and counters.
    pub fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Idle => "idle",
            Self::NoLogin => "no login",
            Self::Framing => "framing",
            Self::Refused => "too many refused messages",
            Self::NotWanted => "not the neighbour that was dialled",
            Self::Stopping => "stopping",
        }
    }
}

/// The effects of one input, in order.
pub type Outbox = Vec<Effect>;
