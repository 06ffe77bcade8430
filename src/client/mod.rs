//! How to be somebody in DIM.

pub mod account;
