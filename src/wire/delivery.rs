//! Pushes that wait for their acknowledgement: what to send again, and when to give up.
//!
//! A package-numbering client (MTP, Mars) is sent the identical bytes again after 120 s and 240 s
//! and given up after 360 s; a text client is given up after 120 s. Given up is only for this
//! connection: the stored copy stays.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::PushKey;
use super::limits::{PENDING_BYTES_MAX, PENDING_PUSHES_MAX};

/// Patience with an unanswered push, in milliseconds: what the reference grants.
pub const ANSWER_MS_MAX: u64 = 120_000;

/// How often a push is sent in all where the client numbers its packages.
pub const SENDS_MAX: u32 = 3;

/// A push that was written and wants an answer. `F` is whatever writes it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push<F> {
    /// Under what the client will acknowledge it.
    pub key: PushKey,
    /// The message's own signature in text, where the key was cut from a text and may have met
    /// another one.
    pub signature: Option<Bytes>,
    /// The caller's name for the push.
    pub token: u64,
    /// Bytes that the frame keeps in memory.
    pub frame_bytes: usize,
    /// What to send again; dropped at once if the client is never sent it again.
    pub frame: F,
}

/// What the clock demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due<F> {
    /// Send these identical bytes again.
    Resend {
        /// Name of the push.
        token: u64,
        /// Its bytes.
        frame: F,
    },
    /// No answer came: the push has failed on this connection.
    GivenUp {
        /// Name of the push.
        token: u64,
    },
}

/// The unanswered pushes of one connection.
#[derive(Debug)]
pub struct PendingPushes<F> {
    /// All wait equally long, so they are in the order of their deadlines.
    pending: VecDeque<Pending<F>>,
    bytes: usize,
    pushes_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Pending<F> {
    key: PushKey,
    signature: Option<Bytes>,
    token: u64,
    frame_bytes: usize,
    /// None where the client is not sent it again.
    frame: Option<F>,
    sends: u32,
    deadline_ms: u64,
}

impl<F> Default for PendingPushes<F> {
    fn default() -> Self {
        Self::new(PENDING_PUSHES_MAX, PENDING_BYTES_MAX)
    }
}

impl<F> PendingPushes<F> {
    /// None pending, and never more than `pushes_max` pushes or `bytes_max` bytes of frames.
    pub fn new(pushes_max: usize, bytes_max: usize) -> Self {
        Self { pending: VecDeque::new(), bytes: 0, pushes_max, bytes_max }
    }

    /// Whether a push that keeps `frame_bytes` bytes may be sent now. One alone always may, or a
    /// long one would never leave the inbox.
    pub fn has_room(&self, frame_bytes: usize) -> bool {
        let bytes = self.bytes.saturating_add(frame_bytes);
        self.pending.is_empty() || (self.pending.len() < self.pushes_max && bytes <= self.bytes_max)
    }

    /// Wait for the answer to a push that was written at `now_ms`; times never go back. The push
    /// is handed back if there is no room: ask [`has_room`](Self::has_room) before writing.
    pub fn sent(&mut self, push: Push<F>, now_ms: u64) -> Result<(), Push<F>> {
        let repeats = !matches!(push.key, PushKey::Text(_));
        let kept_bytes = if repeats { push.frame_bytes } else { 0 };
        if !self.has_room(kept_bytes) {
            return Err(push);
        }
        self.bytes += kept_bytes;
        self.pending.push_back(Pending {
            key: push.key,
            signature: push.signature,
            token: push.token,
            frame_bytes: kept_bytes,
            frame: repeats.then_some(push.frame),
            sends: 1,
            deadline_ms: now_ms.saturating_add(ANSWER_MS_MAX),
        });
        Ok(())
    }

    /// The client has acknowledged `key`: the name of the push that is now delivered, or none if
    /// nothing waits for it. Clients answer in order, so the search ends at once as a rule.
    pub fn acknowledged(&mut self, key: &PushKey) -> Option<u64> {
        let at = self.pending.iter().position(|pending| pending.is_answered_by(key))?;
        let pending = self.pending.remove(at)?;
        self.bytes -= pending.frame_bytes;
        Some(pending.token)
    }

    /// When [`due`](Self::due) will next have something to say, in milliseconds.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.pending.front().map(|pending| pending.deadline_ms)
    }

    /// Gives back room that nothing uses.
    pub fn shrink(&mut self) {
        self.pending.shrink_to_fit();
    }

    /// Pushes that wait.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

impl<F: Clone> PendingPushes<F> {
    /// The next push whose time has come; call until there is none.
    pub fn due(&mut self, now_ms: u64) -> Option<Due<F>> {
        if self.next_deadline_ms()? > now_ms {
            return None;
        }
        let mut pending = self.pending.pop_front()?;
        let token = pending.token;
        match pending.frame.clone() {
            Some(frame) if pending.sends < SENDS_MAX => {
                pending.sends += 1;
                pending.deadline_ms = now_ms.saturating_add(ANSWER_MS_MAX);
                self.pending.push_back(pending);
                Some(Due::Resend { token, frame })
            }
            _ => {
                self.bytes -= pending.frame_bytes;
                Some(Due::GivenUp { token })
            }
        }
    }
}

impl<F> Pending<F> {
    fn is_answered_by(&self, key: &PushKey) -> bool {
        let by_signature = match key {
            PushKey::Text(text) => self.signature.as_ref() == Some(text),
            PushKey::Mtp(_) | PushKey::Mars(_) => false,
        };
        self.key == *key || by_signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(token: u64, key: PushKey) -> Push<&'static str> {
        Push { key, signature: None, token, frame_bytes: 10, frame: "frame" }
    }

    fn text(text: &'static str) -> PushKey {
        PushKey::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_numbered_push_is_sent_three_times() {
        let mut pending = PendingPushes::default();
        pending.sent(push(1, PushKey::Mars(9)), 1000).unwrap();
        assert_eq!(pending.next_deadline_ms(), Some(121_000));
        assert_eq!(pending.due(120_999), None);
        let resend = || Some(Due::Resend { token: 1, frame: "frame" });
        assert_eq!(pending.due(121_000), resend());
        assert_eq!(pending.due(121_000), None);
        assert_eq!(pending.due(241_000), resend());
        assert_eq!(pending.due(361_000), Some(Due::GivenUp { token: 1 }));
        assert!(pending.is_empty());
        assert_eq!(pending.bytes, 0);
        assert_eq!(pending.acknowledged(&PushKey::Mars(9)), None);
    }

    #[test]
    fn a_text_push_is_never_sent_again() {
        let mut pending = PendingPushes::default();
        pending.sent(push(1, text("a")), 0).unwrap();
        assert_eq!(pending.due(119_999), None);
        assert_eq!(pending.due(120_000), Some(Due::GivenUp { token: 1 }));
    }

    #[test]
    fn either_signature_acknowledges_a_text_push() {
        let mut pending = PendingPushes::default();
        for (token, key) in [(1, "cut"), (2, "other")] {
            let signature = Some(Bytes::from_static(b"own"));
            pending.sent(Push { signature, ..push(token, text(key)) }, 0).unwrap();
        }
        assert_eq!(pending.acknowledged(&text("cut")), Some(1));
        assert_eq!(pending.acknowledged(&text("cut")), None);
        assert_eq!(pending.acknowledged(&text("own")), Some(2));
    }

    #[test]
    fn what_waits_is_bounded_but_one_always_may() {
        let mut pending = PendingPushes::new(2, 25);
        let long = Push { frame_bytes: 99, ..push(1, PushKey::Mars(1)) };
        pending.sent(long, 0).unwrap();
        assert!(!pending.has_room(1));
        assert_eq!(pending.acknowledged(&PushKey::Mars(1)), Some(1));
        pending.sent(push(2, PushKey::Mars(2)), 0).unwrap();
        assert!(!pending.has_room(16));
        pending.sent(push(3, PushKey::Mars(3)), 0).unwrap();
        let refused = push(4, PushKey::Mars(4));
        assert_eq!(pending.sent(refused.clone(), 0), Err(refused));
        assert_eq!(pending.len(), 2);
    }
}
