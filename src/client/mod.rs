//! How to be somebody in DIM: accounts, what is known of others, messages in and out, and a
//! connection to a station that mends itself.
//!
//! [`terminal::Terminal`] is the whole client as a state machine that does no I/O;
//! [`blocking::Client`] is the shell around it for programs that may wait.

pub mod account;
pub mod blocking;
pub mod bridge;
pub mod directory;
pub mod file;
pub mod folder;
pub mod keys;
pub mod login;
pub mod message;
pub mod messenger;
pub mod names;
pub mod outbox;
pub mod say;
pub mod seen;
pub mod source;
pub mod terminal;
