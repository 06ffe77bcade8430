//! What goes into a terminal, and what comes out.

use bytes::Bytes;

use crate::client::messenger::{Opened, Outgoing, Refusal};
use crate::crypto::error::CryptoError;
use crate::crypto::sign::Verified;
use crate::proto::id::Id;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Dial.
    Start,
    /// The connection that was asked for stands.
    Connected,
    /// Bytes were read.
    Received(Bytes),
    /// The connection is over, or could not be made.
    Closed,
    /// The application wants this sent.
    Send(Outgoing),
    /// What the application made of this package is safe: the station may forget it.
    Confirm(u64),
    /// A deadline has passed.
    Timer,
    /// The application leaves. What was not sent yet is not sent.
    Leave,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Connect to the station, and say [`Input::Connected`] or [`Input::Closed`].
    Dial,
    /// Write these bytes.
    Write(Bytes),
    /// Close the connection when all is written; nothing of it is of interest any more.
    Close,
    /// Tell the application.
    Event(Event),
}

/// What an application is told.
#[derive(Debug)]
pub enum Event {
    /// The station has accepted us.
    LoggedIn {
        /// Which station it is.
        station: Id,
    },
    /// A message for us, and what it says; commands that the terminal has acted upon, too. Of an
    /// array each part comes by itself.
    Received(Box<Opened>),
    /// A message to a group that is sealed for others; its sender is proved.
    Sealed(Box<Verified>),
    /// Everything of a package has been told. Only with [`confirms`](super::Settings::confirms):
    /// then the package is acknowledged by [`Input::Confirm`], and comes again after a new login
    /// as long as it is not.
    Whole {
        /// The terminal's name for it.
        package: u64,
    },
    /// A content became a message, by whose signature receipts will speak of it. To a group, once
    /// for each member.
    Packed {
        /// The caller's name for it.
        token: u64,
        /// Base64.
        signature: String,
    },
    /// The station has acknowledged a message: it will not be sent again.
    Acknowledged {
        /// The caller's name for it.
        token: u64,
    },
    /// A content is not sent, or not to everybody.
    Failed {
        /// The caller's name for it.
        token: u64,
        /// Why.
        why: Failure,
    },
    /// Something became known of an account.
    Learned(Id),
    /// A message came that cannot be read.
    Refused(Refusal),
    /// A message of this sender was dropped: too many wait for accounts.
    Dropped(Id),
    /// There is no connection.
    Disconnected {
        /// When the next one is tried, from now on, in milliseconds; none after leaving.
        pause_ms: Option<u64>,
    },
}

/// Why a content was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Too much waits for the station already.
    Full,
    /// Nothing became known of its receiver, and others wait too.
    Unknown,
    /// It was sent, but not to these members of the group, who are not known.
    Partly(Vec<Id>),
    /// The station did not acknowledge it.
    Silent,
    /// It could not be sealed or signed.
    Crypto(CryptoError),
}
