//! Where a station waits: sockets, threads, files, signals. It decides nothing about a message.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the layer that may wait, read clocks and start threads"
)]

pub mod config;
mod connection;
pub(crate) mod dial;
mod executor;
pub mod identity;
pub(crate) mod ini;
mod listen;
pub mod lock;
pub mod log;
pub mod mesh;
pub mod neighbors;
mod notify;
pub mod probe;
mod reload;
pub mod start;
mod sys;
pub mod tls;
pub mod trouble;
