//! A station for DIM (Decentralized Instant Messaging), and the library that it is made of.
//!
//! Layers, from the ground up; each row may name only rows above it (`tests/tidy.rs` holds that):
//!
//! | row | modules | know |
//! | --- | --- | --- |
//! | 0 | [`base`] | bytes, time, digests, encodings |
//! | 1 | [`wire`] | streams of bytes and the frames in them |
//! | 2 | [`proto`] | IDs, metas, documents, messages, contents, commands |
//! | 3 | [`crypto`] | keys and what they prove |
//! | 4 | [`client`], [`store`] | how to be somebody; how to remember |
//! | 5 | [`shard`], [`bot`] | sessions, routing, mailboxes; clients that answer: deciding, without I/O |
//! | 6 | `server`, `cli` | sockets, threads, files; the command line |
//!
//! Rows 0 to 5 build without the feature `station`, that is without glommio and RocksDB: but for
//! [`client::blocking`], they open no socket, read no clock and start no thread.

pub mod base;
pub mod bot;
#[cfg(feature = "station")]
pub mod cli;
pub mod client;
pub mod crypto;
pub mod proto;
#[cfg(feature = "station")]
pub mod server;
pub mod shard;
pub mod store;
pub mod wire;
