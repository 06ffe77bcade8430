//! What a terminal sends for its application, and whom it asks for on the way.

use super::{
    Effects, Event, Failure, MEMBERS_MS_MAX, OWN, QUERIES_MAX, QUERY_AGAIN_MS, Terminal, tell,
};
use crate::base::time::Now;
use crate::client::messenger::{Outgoing, PARKED_MAX};
use crate::client::say;
use crate::client::source::Source;
use crate::proto::address::EntityKind;
use crate::proto::id::Id;
use crate::wire::Framing;

impl<S: Source> Terminal<S> {
    /// Packs a content that has waited since `since_ms`, or parks it.
    pub(super) fn send(&mut self, outgoing: Outgoing, since_ms: u64, now: Now, out: &mut Effects) {
        let missing = self.messenger.missing_for(&outgoing.receiver);
        for id in &missing {
            self.want(id, now, out);
        }
        let patient = now.mono_ms < since_ms.saturating_add(MEMBERS_MS_MAX);
        if !missing.is_empty() && (patient || !outgoing.receiver.is_group()) {
            return self.park(outgoing, since_ms, out);
        }
        let Outgoing { token, receiver, content } = &outgoing;
        let token = *token;
        let failed = |why, out: &mut Effects| tell(token, Event::Failed { token, why }, out);
        let packed = match self.messenger.encrypt_sign(content, receiver, now.wall_s()) {
            Ok(packed) => packed,
            Err(error) => return failed(Failure::Crypto(error), out),
        };
        if packed.ready.is_empty() {
            return self.park(outgoing, since_ms, out);
        }
        let bytes = packed.ready.iter().map(|letter| letter.bytes.len()).sum();
        if !self.outbox.has_room(packed.ready.len(), bytes) {
            return failed(Failure::Full, out);
        }
        for letter in packed.ready {
            let signature = letter.signature.clone();
            tell(token, Event::Packed { token, signature }, out);
            // Over WebSocket only receipts acknowledge, and only messages to users have them.
            let to = &letter.receiver;
            let receipted = !to.is_broadcast() && to.kind() != EntityKind::Station;
            let awaits = receipted || self.settings.framing != Framing::WebSocket;
            let id = self.next_id();
            self.outbox.push(token, id, letter, awaits);
        }
        if !packed.missing.is_empty() {
            failed(Failure::Partly(packed.missing), out);
        }
    }

    fn park(&mut self, outgoing: Outgoing, since_ms: u64, out: &mut Effects) {
        // Receipts for strangers leave the application its half.
        if outgoing.token == OWN && self.messenger.parked_out() >= PARKED_MAX / 2 {
            return;
        }
        if let Some(Outgoing { token, .. }) = self.messenger.park_out(outgoing, since_ms) {
            tell(token, Event::Failed { token, why: Failure::Unknown }, out);
        }
    }

    /// Asks the station for an account, unless that was done just now.
    pub(super) fn want(&mut self, id: &Id, now: Now, out: &mut Effects) {
        self.query_ms.get_or_insert(now.mono_ms.saturating_add(QUERY_AGAIN_MS));
        let asked = self.queries.get(id);
        let lately = asked.is_some_and(|at| now.mono_ms < at.saturating_add(QUERY_AGAIN_MS));
        if lately || id.is_broadcast() || !self.is_logged_in() {
            return;
        }
        if self.queries.len() >= QUERIES_MAX {
            self.queries.retain(|_, at| now.mono_ms < at.saturating_add(QUERY_AGAIN_MS));
        }
        // Strangers who come in crowds are asked for a crowd at a time.
        if self.queries.len() >= QUERIES_MAX {
            return;
        }
        self.queries.insert(id.clone(), now.mono_ms);
        let anywhere = Id::station_any();
        if self.messenger.source().meta(id).is_none() {
            self.say(&say::meta_query(id), &anywhere, now, out);
        }
        self.say(&say::documents_query(id), &anywhere, now, out);
    }

    pub(super) fn ask_for_missing(&mut self, now: Now, out: &mut Effects) {
        self.query_ms = None;
        if self.messenger.is_waiting() {
            self.try_parked(now, out);
            for id in self.messenger.missing() {
                self.want(&id, now, out);
            }
        }
    }
}
