//! Neighbour stations: which ones there are, and the links that this station dials to them.
//!
//! A neighbour is a user of its own shard. What goes to it is its mail; a link is a session of it
//! that happens to have been opened from here, and so is one that it opened itself. Mail is pushed
//! on one session at a time, a link if there is one: on a session that the neighbour opened, a bridge
//! may acknowledge what it cannot take to its station.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Map;

use super::Shard;
use super::effect::{Close, Effect, Outbox};
use super::input::{ConnId, Parcel};
use super::ring::ShardIndex;
use super::route::Route;
use super::session::Session;
use super::talk::Question;
use super::ticket::After;
use crate::client::login::{Login, Step};
use crate::client::message::{Envelope, Instant};
use crate::crypto::key::CipherKey;
use crate::proto::address::EntityKind;
use crate::proto::command::{self, title};
use crate::proto::id::Id;
use crate::proto::message::ReliableMessage;
use crate::wire::{self, Deframer};

/// Milliseconds until a station that could not be reached is dialled again; doubled each time.
const REDIAL_MS_MIN: u64 = 500;
/// The longest of these waits.
const REDIAL_MS_MAX: u64 = 30_000;
/// Seconds that a handshake of a dialled station may be old, or early: an older one could be a
/// recording. Clocks of stations differ by less.
const HANDSHAKE_S_MAX: f64 = 600.0;

/// A station as the operator lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// Its ID; without one, whoever stands there is believed to be it.
    pub id: Option<Id>,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it is dialled under TLS.
    pub tls: bool,
}

/// A place that this shard dials, unique in the shard for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// All neighbours, and the links of this shard.
#[derive(Debug, Default)]
pub(super) struct Neighbors {
    known: Vec<Known>,
    links: BTreeMap<LinkId, Link>,
    last_link: u64,
    /// State of the numbers that keep stations from dialling in step.
    jitter: u64,
}

#[derive(Debug)]
struct Known {
    listed: Neighbor,
    /// As listed or as it introduced itself.
    id: Option<Id>,
    /// Whether it may be trusted to be that one: listed so, or proven by a handshake.
    proven: bool,
}

#[derive(Debug)]
struct Link {
    to: Neighbor,
    state: LinkState,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    /// To be dialled at this time, in milliseconds.
    Due(u64),
    Dialing,
    Open(ConnId),
}

/// What a session has that was opened from here.
#[derive(Debug)]
pub(super) struct Outgoing {
    link: LinkId,
    login: Login,
}

impl Neighbors {
    pub(super) fn new(seed: u64) -> Self {
        Self { jitter: seed | 1, ..Self::default() }
    }

    /// Stations that are trusted with messages of others.
    pub(super) fn ids(&self) -> impl Iterator<Item = &Id> {
        self.known.iter().filter(|known| known.proven).filter_map(|known| known.id.as_ref())
    }

    pub(super) fn contains(&self, id: &Id) -> bool {
        self.ids().any(|known| known.is_same_as(id))
    }

    /// When a link is to be dialled next.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let due = |link: &Link| match link.state {
            LinkState::Due(due) => Some(due),
            _ => None,
        };
        self.links.values().filter_map(due).min()
    }

    /// A number below `end` (xorshift; nothing secret depends on it).
    fn draw(&mut self, end: u64) -> u64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        self.jitter % end.max(1)
    }

    /// The wait after so many failures: between half of it and all of it.
    fn wait_ms(&mut self, failures: u32) -> u64 {
        let whole = REDIAL_MS_MIN.saturating_mul(1 << failures.min(16)).min(REDIAL_MS_MAX);
        whole / 2 + self.draw(whole / 2 + 1)
    }
}

impl Shard {
    /// Whether an ID is that of a neighbour, which is trusted with messages of others.
    pub(super) fn is_neighbor(&self, id: &Id) -> bool {
        self.neighbors.contains(id)
    }

    /// Whether mail for a neighbour is left to the bridge: a process beside this station that is
    /// logged in here with the station's own ID, and so there.
    pub(super) fn is_bridged(&self, to: &Id) -> bool {
        !self.policy.links && self.is_neighbor(to)
    }

    /// The route of a message that the bridge is to take to a neighbour.
    pub(super) fn by_bridge(&self, to: &Id, route: Route) -> Route {
        Route { neighbor: Some(to.naked()), ..route }
    }

    /// The neighbour that a message comes from: who is logged in, or, if that is the bridge, the
    /// station that the bridge has it from.
    pub(super) fn bearer(&mut self, user: &Id, message: &ReliableMessage) -> Option<Id> {
        if !user.is_same_as(&self.station.id) {
            return self.is_neighbor(user).then(|| user.clone());
        }
        let sender = message.sender().naked();
        if self.is_neighbor(&sender) {
            return Some(sender);
        }
        let route = Route::read(message, user, &mut self.names, &mut self.parser);
        let last = route.passed_ids().last()?;
        self.neighbors.ids().find(|id| id.is_named_by(last)).cloned()
    }

    /// Messages, and bytes of them, that may be on their way to a session. What one neighbour does
    /// not take must not hold up what the bridge has for others, so it is given all there may be.
    pub(super) fn window(&self, conn: ConnId) -> (usize, usize) {
        let user = self.sessions.get(&conn).and_then(|session| session.user.as_ref());
        let policy = &self.policy;
        let wide = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        match user.is_some_and(|user| user.is_same_as(&self.station.id)) {
            true => (wide(policy.mailbox_messages_max), wide(policy.mailbox_bytes_max)),
            false => (policy.flying_max, policy.flying_bytes_max),
        }
    }

    /// The neighbour that is logged in on a connection.
    pub(super) fn neighbor_on(&self, conn: ConnId) -> Option<Id> {
        let user = self.sessions.get(&conn)?.user.as_ref()?;
        self.is_neighbor(user).then(|| user.clone())
    }

    /// Another list of neighbours. What a station without a listed ID has proven to be stays known.
    pub(super) fn take_neighbors(&mut self, list: &[Neighbor], out: &mut Outbox) {
        let mut old = std::mem::take(&mut self.neighbors.known);
        for listed in list {
            let known = old.iter().position(|known| known.listed == *listed);
            self.neighbors.known.push(match known {
                Some(at) => old.swap_remove(at),
                None => Known {
                    id: listed.id.as_ref().map(Id::naked),
                    proven: listed.id.is_some(),
                    listed: listed.clone(),
                },
            });
        }
        tracing::debug!(shard = self.index.0, neighbors = list.len(), "neighbours taken over");
        self.arrange_links(out);
        // Shards that took the list earlier may have met a station, and said so, before it was known
        // here.
        let asker = self.index;
        let others = (0..self.ring.len()).map(ShardIndex).filter(|shard| *shard != asker);
        let strange = self.neighbors.known.iter().filter(|known| known.id.is_none());
        for Known { listed: Neighbor { host, port, .. }, .. } in strange {
            out.extend(others.clone().map(|to| Effect::Forward {
                to,
                parcel: Parcel::Meet { host: host.clone(), port: *port, asker },
            }));
        }
    }

    /// Another shard asks who stands at a place.
    pub(super) fn tell_met(
        &mut self,
        host: String,
        port: u16,
        asker: ShardIndex,
        out: &mut Outbox,
    ) {
        let there = |known: &&Known| {
            known.listed.id.is_none() && known.listed.host == host && known.listed.port == port
        };
        if let Some(known) = self.neighbors.known.iter().find(there)
            && let Some(id) = known.id.clone()
        {
            let proven = known.proven;
            self.forward(asker, Parcel::Met { host, port, id, proven }, out);
        }
    }

    /// A station that is listed without ID has introduced itself.
    pub(super) fn met(&mut self, host: &str, port: u16, id: &Id, proven: bool, out: &mut Outbox) {
        for known in &mut self.neighbors.known {
            let listed = &known.listed;
            if listed.id.is_none() && listed.host == host && listed.port == port {
                // A claim does not take a proven ID away: whoever stands there has to prove more.
                if proven || !known.proven {
                    known.proven = proven;
                    known.id = Some(id.clone());
                }
            }
        }
        self.arrange_links(out);
    }

    /// Links for the neighbours that are this shard's to dial, and for no others.
    pub(super) fn arrange_links(&mut self, out: &mut Outbox) {
        let mut wanted: Vec<Neighbor> = Vec::new();
        for known in &self.neighbors.known {
            let place = match &known.id {
                _ if !self.policy.links => break,
                Some(id) if id.is_same_as(&self.station.id) => continue,
                Some(id) => self.ring.owner_of(id),
                // Nobody's yet: the first shard asks who is there.
                None => ShardIndex(0),
            };
            let to = Neighbor { id: known.id.clone(), ..known.listed.clone() };
            if place == self.index && !wanted.contains(&to) {
                wanted.push(to);
            }
        }
        let links = &mut self.neighbors.links;
        let gone: Vec<LinkId> = links
            .iter()
            .filter(|(_, link)| !wanted.contains(&link.to))
            .map(|(id, _)| *id)
            .collect();
        wanted.retain(|to| !links.values().any(|link| link.to == *to));
        for id in gone {
            if let Some(Link { state: LinkState::Open(conn), .. }) =
                self.neighbors.links.remove(&id)
            {
                self.close(conn, Close::NotWanted, out);
            }
        }
        for to in wanted {
            self.neighbors.last_link += 1;
            let id = LinkId(self.neighbors.last_link);
            let state = LinkState::Due(self.now.mono_ms);
            self.neighbors.links.insert(id, Link { to, state, failures: 0 });
        }
        self.dial_due(out);
    }

    /// Dials what is due.
    pub(super) fn dial_due(&mut self, out: &mut Outbox) {
        if self.stopping {
            return;
        }
        for (id, link) in &mut self.neighbors.links {
            if matches!(link.state, LinkState::Due(due) if due <= self.now.mono_ms) {
                link.state = LinkState::Dialing;
                let Neighbor { host, port, tls, .. } = link.to.clone();
                out.push(Effect::Dial { link: *id, host, port, tls });
            }
        }
    }

    /// A dialled connection stands: this station introduces itself.
    pub(super) fn dialed(
        &mut self,
        id: LinkId,
        conn: ConnId,
        peer: SocketAddr,
        secret: [u8; 32],
        out: &mut Outbox,
    ) {
        let Some(link) = self.neighbors.links.get_mut(&id).filter(|_| !self.stopping) else {
            return out.push(Effect::Close { conn, why: Close::NotWanted });
        };
        link.state = LinkState::Open(conn);
        let mut login = Login::new(link.to.id.clone());
        login.begin();
        let mut session = Session::new(peer, secret, self.policy.framing, self.now.mono_ms);
        session.deframer = Deframer::mtp_client(self.policy.framing);
        session.spared = true;
        session.link = Some(Box::new(Outgoing { link: id, login }));
        self.sessions.insert(conn, Box::new(session));
        self.watch(conn);
        let hello = command::handshake(self.stamp(), title::HELLO, None, None);
        if let Some(body) = self.in_the_open(hello) {
            self.send_message(conn, body, out);
        }
    }

    /// A link has ended, or could not be made: it is dialled again after a while.
    pub(super) fn link_down(&mut self, id: LinkId) {
        let failures = match self.neighbors.links.get_mut(&id) {
            Some(link) => {
                link.failures = link.failures.saturating_add(1);
                link.failures - 1
            }
            None => return,
        };
        let due = self.now.mono_ms + self.neighbors.wait_ms(failures);
        if let Some(link) = self.neighbors.links.get_mut(&id) {
            link.state = LinkState::Due(due);
        }
    }

    /// The connection of a link is gone.
    pub(super) fn link_closed(&mut self, conn: ConnId, outgoing: &Outgoing) {
        let open = self.neighbors.links.get(&outgoing.link);
        if open.is_some_and(|link| link.state == LinkState::Open(conn)) {
            self.link_down(outgoing.link);
        }
    }

    /// Who speaks on a link that is not logged in yet: whether it may be the one looked for.
    pub(super) fn is_awaited(
        &mut self,
        conn: ConnId,
        message: &ReliableMessage,
        out: &mut Outbox,
    ) -> bool {
        let Some(outgoing) = self.sessions.get(&conn).and_then(|session| session.link.as_ref())
        else {
            return true;
        };
        let link = self.neighbors.links.get(&outgoing.link);
        let Some(to) = link.map(|link| link.to.clone()) else { return false };
        let sender = message.sender().naked();
        if to.id.as_ref().is_some_and(|id| id.is_same_as(&sender)) {
            return true;
        }
        if let Some(id) = &to.id {
            tracing::warn!(%sender, %id, host = to.host, port = to.port, "another station there");
        }
        if sender.kind() == EntityKind::Station {
            self.tell_all(to.host, to.port, &sender, false, out);
        }
        self.close(conn, Close::NotWanted, out);
        false
    }

    fn tell_all(&mut self, host: String, port: u16, id: &Id, proven: bool, out: &mut Outbox) {
        for shard in (0..self.ring.len()).map(ShardIndex) {
            let (host, id) = (host.clone(), id.clone());
            match shard == self.index {
                true => self.met(&host, port, &id, proven, out),
                false => self.forward(shard, Parcel::Met { host, port, id, proven }, out),
            }
        }
    }

    /// A handshake of the station that was dialled.
    pub(super) fn shake_hands(
        &mut self,
        question: &Question<'_>,
        said: &str,
        offered: Option<&str>,
        out: &mut Outbox,
    ) {
        let now_s = self.now.wall_s();
        let dated =
            question.content.time.is_some_and(|time| (time - now_s).abs() <= HANDSHAKE_S_MAX);
        let sender = question.message.sender().naked();
        let outgoing = self.sessions.get_mut(&question.conn).and_then(|s| s.link.as_mut());
        let (step, id) = match outgoing {
            Some(outgoing) if dated => {
                (outgoing.login.heard(&sender, said, offered), Some(outgoing.link))
            }
            _ => (Step::Nothing, None),
        };
        let mut contents = Vec::new();
        match step {
            Step::Sign { session } => {
                contents.push(command::handshake(self.stamp(), title::HELLO, Some(&session), None));
            }
            Step::Done => {
                let link = id.and_then(|id| self.neighbors.links.get_mut(&id));
                if let Some(link) = link {
                    link.failures = 0;
                    let Neighbor { host, port, tls, .. } = link.to.clone();
                    tracing::info!(%sender, host, port, tls, "neighbour reached");
                    self.tell_all(host, port, &sender, true, out);
                }
                self.log_in(question.conn, question.message);
                self.take_lead(question.conn, out);
                if let Some(reply) = self.replies.get_mut(&question.ticket) {
                    reply.after = After::Begin;
                }
            }
            Step::Ask | Step::Nothing => {}
        }
        self.fill(question.ticket, question.slot, contents, out);
    }

    /// Keeps a link awake, which ends when nothing is said for too long.
    pub(super) fn ping(&mut self, conn: ConnId, out: &mut Outbox) {
        if let Some(session) = self.sessions.get_mut(&conn).filter(|s| s.link.is_some()) {
            let ping = wire::mtp_ping(session.next_sn());
            self.send(conn, ping.into(), out);
        }
    }

    /// Whether a neighbour's mail does not go out on this session of it, but on another one.
    pub(super) fn stands_back(&self, conn: ConnId) -> bool {
        let Some(id) = self.neighbor_on(conn) else { return false };
        let is_link = |conn: &ConnId| self.sessions.get(conn).is_some_and(|s| s.link.is_some());
        let own = is_link(&conn);
        let active = |other: &ConnId| self.sessions.get(other).is_some_and(|s| s.active);
        let sessions = self.users.get(&id).map(|user| user.sessions.as_slice()).unwrap_or_default();
        sessions.iter().any(|other| *other != conn && active(other) && (!own || is_link(other)))
    }

    /// A link that is logged in pushes mail from now on, and what the neighbour opened does not.
    fn take_lead(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(id) = self.neighbor_on(conn).filter(|_| !self.stands_back(conn)) else { return };
        let conns = self.users.get(&id).map(|user| user.sessions.clone()).unwrap_or_default();
        for other in conns.into_iter().filter(|other| *other != conn) {
            self.set_active(other, false, out);
        }
    }

    /// Pushes the mail of a neighbour on one of its sessions, if none does so yet.
    pub(super) fn lead_session(&mut self, user: &Id, out: &mut Outbox) {
        if !self.is_neighbor(user) {
            return;
        }
        let conns = self.users.get(user).map(|user| user.sessions.clone()).unwrap_or_default();
        let open = |conn: &&ConnId| self.sessions.get(conn).is_some_and(|s| !s.closing);
        let active = |conn: &ConnId| self.sessions.get(conn).is_some_and(|s| s.active);
        let is_link = |conn: &&ConnId| self.sessions.get(conn).is_some_and(|s| s.link.is_some());
        let best = conns.iter().filter(open).max_by_key(is_link);
        if let (false, Some(conn)) = (conns.iter().any(active), best) {
            self.set_active(*conn, true, out);
        }
    }

    /// A plain message of this station, with its account attached, for whichever station it reaches.
    pub(super) fn in_the_open(
        &self,
        content: Map<String, serde_json::Value>,
    ) -> Option<bytes::Bytes> {
        let station: &Arc<_> = &self.station;
        let envelope = Envelope {
            sender: station.id.clone(),
            receiver: Id::station_any(),
            group: None,
            time: self.now.wall_s(),
        };
        let secure = Instant { envelope, content }.seal(&CipherKey::Plain, Map::new()).ok()?;
        let reliable = secure.sign(&station.sign).ok()?;
        Some(reliable.attach(station.meta.clone(), Some(station.visa.clone())).to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_never_the_same_for_all() {
        let (mut one, mut two) = (Neighbors::new(1), Neighbors::new(2));
        let waits: Vec<u64> = (0..20).map(|failures| one.wait_ms(failures)).collect();
        let others: Vec<u64> = (0..20).map(|failures| two.wait_ms(failures)).collect();
        assert_ne!(waits, others);
        for (failures, wait) in waits.iter().enumerate() {
            let whole = (REDIAL_MS_MIN << failures).min(REDIAL_MS_MAX);
            assert!((whole / 2..=whole).contains(wait), "{failures}: {wait}");
        }
    }
}
