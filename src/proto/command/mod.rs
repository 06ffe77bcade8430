//! Commands: what stations, bots and clients ask of each other, each as a type of its own; and the
//! view that a station has of them, [`Command`], with the answers it gives.

mod account;
mod ans;
mod group;
mod handshake;
mod lists;
mod push;
mod receipt;
mod relayed;
mod search;
mod session;
mod station;
mod storage;

pub use account::{DocumentsCommand, MetaCommand};
pub use ans::Ans;
pub use group::{Change, GroupCommand};
pub use handshake::Handshake;
pub use lists::{Block, Mute};
pub use push::{Push, PushItem};
pub use receipt::Receipt;
pub use relayed::{News, Origin, write_array_head, write_receipt};
pub use search::Search;
pub use session::{Device, Login, PushService, Report, StationPlace};
pub use station::{
    Command, List, ReceiptText, Stamp, ans, array, documents, forward, handshake, list, meta,
    profile, receipt, title,
};
pub use storage::Storage;
