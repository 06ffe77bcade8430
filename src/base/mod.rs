//! Bytes, time, digests, encodings and bounds. Knows nothing of DIM's messages.

pub mod chunk;
pub mod digest;
pub mod encode;
pub mod limits;
pub mod random;
pub mod table;
pub mod time;
