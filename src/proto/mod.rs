//! The nouns of DIM as they travel: identifiers, metas, documents, messages, contents and commands,
//! as sent and unproven.

pub mod address;
pub mod command;
pub mod compat;
pub mod content;
pub mod directory;
pub mod document;
pub mod error;
pub mod field;
pub mod id;
pub mod json;
pub mod kind;
pub mod message;
pub mod meta;
pub mod processors;
pub mod registry;
pub mod splice;
