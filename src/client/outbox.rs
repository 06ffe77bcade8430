//! Messages on their way to the station, kept until it has them: sent again after a while, and
//! after a new login, always as the same bytes, so that the station knows a repetition.

use std::collections::VecDeque;

use bytes::Bytes;

use super::messenger::Letter;

/// Messages that wait at once.
pub const OUTBOX_MESSAGES_MAX: usize = 1024;

/// Bytes of messages that wait at once; one alone always may.
pub const OUTBOX_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Patience with the station's acknowledgement, in milliseconds: what the reference grants.
pub const ANSWER_MS_MAX: u64 = 120_000;

/// How often a message is sent on connections that stand; then it is given up.
pub const SENDS_MAX: u8 = 3;

/// A message that waits.
#[derive(Debug)]
struct Waiting {
    token: u64,
    letter: Letter,
    /// Number of the package, the same each time.
    id: u64,
    /// Whether the station will acknowledge it; if not, it is forgotten once it was sent.
    awaits: bool,
    /// When patience ends; none while it has not been sent on this connection.
    deadline_ms: Option<u64>,
    sends: u8,
}

/// What the outbox wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Send this.
    Send {
        /// Number of the package.
        id: u64,
        /// The message.
        bytes: Bytes,
    },
    /// The station never acknowledged it.
    GivenUp {
        /// The caller's name for it.
        token: u64,
    },
}

/// The messages of one client that wait for their acknowledgement. Empty, it holds no memory.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Outbox {
    /// Whether so many more messages, of so many bytes, may wait.
    pub fn has_room(&self, messages: usize, bytes: usize) -> bool {
        self.waiting.is_empty()
            || (self.waiting.len() + messages <= OUTBOX_MESSAGES_MAX
                && self.bytes + bytes <= OUTBOX_BYTES_MAX)
    }

    /// Keeps a message; [`due`](Self::due) will want it sent. What no acknowledgement is awaited
    /// for is forgotten then.
    pub fn push(&mut self, token: u64, id: u64, letter: Letter, awaits: bool) {
        self.bytes += letter.bytes.len();
        self.waiting.push_back(Waiting { token, letter, id, awaits, deadline_ms: None, sends: 0 });
    }

    /// The next thing to do at `now_ms`; call until there is nothing.
    pub fn due(&mut self, now_ms: u64) -> Option<Due> {
        let at = self.waiting.iter().position(|w| w.deadline_ms.is_none_or(|end| end <= now_ms))?;
        let waiting = self.waiting.get_mut(at)?;
        if waiting.sends >= SENDS_MAX {
            return self.remove(at).map(|token| Due::GivenUp { token });
        }
        waiting.sends += 1;
        waiting.deadline_ms = Some(now_ms.saturating_add(ANSWER_MS_MAX));
        let send = Due::Send { id: waiting.id, bytes: waiting.letter.bytes.clone() };
        if !waiting.awaits {
            self.remove(at);
        }
        Some(send)
    }

    /// The station has the package of this number.
    pub fn acknowledged(&mut self, id: u64) -> Option<u64> {
        let at = self.waiting.iter().position(|waiting| waiting.id == id)?;
        self.remove(at)
    }

    /// The station speaks of the message with this signature.
    pub fn answered(&mut self, signature: &str) -> Option<u64> {
        let at = self.waiting.iter().position(|waiting| waiting.letter.signature == signature)?;
        self.remove(at)
    }

    /// The connection is over: all is to be sent again on the next one, and a broken connection is
    /// no silence of the station.
    pub fn disconnected(&mut self) {
        for waiting in &mut self.waiting {
            waiting.deadline_ms = None;
            waiting.sends = 0;
        }
    }

    /// When [`due`](Self::due) will next have something to say; none while nothing was sent.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.waiting.iter().map(|waiting| waiting.deadline_ms.unwrap_or(0)).min()
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn remove(&mut self, at: usize) -> Option<u64> {
        let waiting = self.waiting.remove(at)?;
        self.bytes -= waiting.letter.bytes.len();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(waiting.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::Id;

    fn letter(signature: &str) -> Letter {
        let bytes = Bytes::from_static(b"{}");
        Letter { receiver: Id::anyone(), signature: signature.to_owned(), bytes }
    }

    fn send(id: u64) -> Option<Due> {
        Some(Due::Send { id, bytes: Bytes::from_static(b"{}") })
    }

    #[test]
    fn a_message_is_sent_three_times_and_then_given_up() {
        let mut outbox = Outbox::default();
        outbox.push(7, 1, letter("a"), true);
        for now in [0, ANSWER_MS_MAX, 2 * ANSWER_MS_MAX] {
            assert_eq!(outbox.due(now), send(1));
            assert_eq!(outbox.due(now), None);
            assert_eq!(outbox.next_deadline_ms(), Some(now + ANSWER_MS_MAX));
        }
        assert_eq!(outbox.due(3 * ANSWER_MS_MAX), Some(Due::GivenUp { token: 7 }));
        assert!(outbox.is_empty() && outbox.bytes == 0);
    }

    #[test]
    fn a_new_connection_gets_all_that_was_not_acknowledged_in_order() {
        let mut outbox = Outbox::default();
        for (token, name) in [(1, "a"), (2, "b"), (3, "c")] {
            outbox.push(token, token, letter(name), true);
            assert_eq!(outbox.due(0), send(token));
        }
        assert_eq!(outbox.acknowledged(2), Some(2));
        assert_eq!(outbox.acknowledged(2), None);
        outbox.disconnected();
        assert_eq!((outbox.due(9), outbox.due(9), outbox.due(9)), (send(1), send(3), None));
        assert_eq!(outbox.answered("c"), Some(3));
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn what_waits_is_bounded_but_one_always_may() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(1, 2 * OUTBOX_BYTES_MAX));
        (0..OUTBOX_MESSAGES_MAX as u64).for_each(|n| outbox.push(n, n, letter("x"), true));
        assert!(!outbox.has_room(1, 1));
    }
}
