//! Streams of bytes to and from packages: MTP, WebSocket, Mars and the bare lines of 2019.
//!
//! Bytes that were read go into a [`Deframer`], which recognises the framing once and then yields
//! [`Event`]s; what is to be written is put together from [`push_head`], the shared body and
//! [`push_tail`]. Nothing here looks inside a body, knows a session, or waits: there is no clock,
//! no socket and no thread. It is separate so that the same rules serve the station, clients,
//! tests and fuzzers.

pub mod delivery;
pub mod limits;
pub mod lines;
pub mod mars;
pub mod mtp;
pub mod upgrade;
pub mod websocket;

mod buffer;
mod deframe;
mod encode;
mod error;
mod event;
mod fragments;
mod scan;
mod sniff;

pub use deframe::Deframer;
pub use encode::{
    SmallHead, encode_ack, mtp_ping, push_head, push_key, push_tail, response_head, text_ack,
    text_key,
};
pub use error::WireError;
pub use event::{Ack, Event, Framing, PushKey};
pub use limits::DeframeLimits;
pub use lines::{lines_of, split_lines};
pub use scan::Scan;
