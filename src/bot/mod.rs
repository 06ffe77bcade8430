//! Bots: clients that answer by themselves. What one decides is here, without I/O and without a
//! clock; `cli/bot.rs` connects it, and writes down what it must not forget.

pub mod announcer;
pub mod archivist;
pub mod assistant;
pub mod index;
pub mod monitor;
mod turn;

use serde_json::{Map, Value};

use crate::client::source::Source;
use crate::proto::content::Content;
use crate::proto::id::Id;
use crate::proto::message::ReliableMessage;

pub use announcer::Announcer;
pub use archivist::Archivist;
pub use assistant::Assistant;
pub use monitor::Monitor;

/// A content that reached a bot. The sender was proved.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// The message that it came in.
    pub message: &'a ReliableMessage,
    /// What it says.
    pub content: &'a Content,
    /// Seconds since 1970.
    pub now_s: f64,
}

/// A content that a bot wants sent, without number and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// To whom.
    pub to: Id,
    /// With `type`.
    pub content: Map<String, Value>,
}

/// A note that cannot be recalled: it was damaged, or another bot wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteError(String);

impl std::fmt::Display for NoteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a note of this bot: {}", self.0)
    }
}

impl std::error::Error for NoteError {}

impl From<serde_json::Error> for NoteError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a bot does with what it is told. `known` is what its client knows of others.
///
/// A bot keeps its state in memory and hands out notes: JSON texts of one line, each of which
/// replaces an earlier one about the same thing. Whoever runs it writes them down before anything
/// of the same turn is sent, and reads them back to it at the next start.
pub trait Bot: Send {
    /// A content came.
    fn hear(&mut self, heard: Heard<'_>, known: &dyn Source) -> Vec<Post>;

    /// A message to a group came, by a proven sender, that is not sealed for this bot.
    fn pass(&mut self, _message: &ReliableMessage, _known: &dyn Source, _now_s: f64) -> Vec<Post> {
        Vec::new()
    }

    /// Something became known of an account.
    fn learned(&mut self, id: &Id, known: &dyn Source, now_s: f64) -> Vec<Post>;

    /// It is logged in, perhaps after a restart: asks again for what it waits for.
    fn resume(&mut self, _known: &dyn Source, _now_s: f64) -> Vec<Post> {
        Vec::new()
    }

    /// The station has accepted it.
    fn logged_in(&mut self, _station: &Id) {}

    /// Notes about what has changed since the last call.
    fn take_notes(&mut self) -> Vec<String>;

    /// What waited, by number, and is dealt with by the answers since the last call.
    fn take_ending(&mut self) -> Vec<u64> {
        Vec::new()
    }

    /// The station has these answers: what waited under this number is forgotten.
    fn end(&mut self, _number: u64) {}

    /// Reads back a note.
    fn recall(&mut self, note: &[u8]) -> Result<(), NoteError>;

    /// How many notes tell the whole state.
    fn size(&self) -> usize;

    /// Hands out notes that tell the whole state.
    fn tell_all(&self, write: &mut dyn FnMut(String));
}
