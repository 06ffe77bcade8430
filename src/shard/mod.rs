//! A shard: every session, account and queue of the IDs that hash to it, and nothing else's.
//!
//! It is a function of what it is told: `handle(now, input)` pushes effects and changes nothing
//! outside. It opens no socket, reads no clock, draws no random number; so a test can run it in
//! virtual time from a seed, and the thin shell in `server` can be read for its I/O alone.
//!
//! The way of a message: `intake` finds it in the bytes and verifies it; what is for the station
//! goes to `talk`, what is for a user goes as a parcel to that user's shard, where `mail` pushes
//! or keeps it; `ticket` gathers the answer.

mod account;
mod archive;
pub mod census;
pub mod effect;
mod federation;
mod flight;
mod flow;
pub mod input;
mod intake;
mod lists;
mod mail;
mod monitor;
pub mod neighbor;
mod papers;
pub mod rate;
mod receipts;
mod rest;
pub mod ring;
pub mod route;
mod seal;
mod seen;
pub mod session;
pub mod stats;
mod switch;
mod talk;
mod ticket;
mod user;
mod wake;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::chunk::Chunk;
use crate::base::table::Table;
use crate::base::time::Now;
use crate::crypto::sign::Verified;
use crate::proto::directory::{Ans, Names};
use crate::proto::id::Id;
use crate::proto::json::Parser;
use crate::proto::message::ReliableMessage;
use crate::store::{MailDigest, QueueKey, StoreAnswer, StoreOp};
use crate::wire::{Ack, DeframeLimits};

use effect::{Effect, Outbox};
use federation::Federation;
use input::{AccountAnswer, AccountOp, ConnId, Input, Outcome, Parcel, ReplyTo, Ticket, Verdict};
use mail::Mail;
pub use mail::digest_of;
use neighbor::Neighbors;
use rate::Rate;
use ring::{Ring, ShardIndex};
use route::Route;
pub use seal::Station;
use seen::Seen;
use session::{AckTo, Sessions};
use stats::Stats;
use switch::Switching;
use ticket::{Reply, Stored};
use user::User;
pub use wake::Wake;
use wake::Wakes;

/// Which signatures are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Every message's.
    Every,
    /// The login's; what follows on that connection is taken as its user's.
    Session,
}

/// Whether login messages follow documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMessages {
    /// To clients that are known to read arrays.
    Auto,
    /// To nobody.
    Never,
    /// To everybody.
    Always,
}

/// What an operator decides; every bound of a shard.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which signatures are checked.
    pub verify: Verify,
    /// Whether login messages follow documents.
    pub login_messages: LoginMessages,
    /// Bounds of the framing.
    pub framing: DeframeLimits,
    /// Milliseconds for a connection to log in.
    pub login_ms_max: u64,
    /// Milliseconds for a frame that has begun to become whole.
    pub frame_ms_max: u64,
    /// Milliseconds of silence until a connection is closed.
    pub idle_ms_max: u64,
    /// Messages that wait for a login, per connection.
    pub parked_messages_max: usize,
    /// Packages, and bytes of them, on their way to one session; more stay in the store.
    pub flying_max: usize,
    /// See `flying_max`.
    pub flying_bytes_max: usize,
    /// Bytes of a connection's messages that may wait for an answer before reading stops.
    pub waiting_bytes_max: usize,
    /// Milliseconds in which a sender's receipts are gathered into one answer; 0: none are.
    pub receipts_ms: u64,
    /// Milliseconds for a receiver to acknowledge before the store keeps the message.
    pub acknowledge_ms: u64,
    /// Messages kept per device.
    pub mailbox_messages_max: u64,
    /// Bytes kept per user.
    pub mailbox_bytes_max: u64,
    /// Milliseconds that mail is kept.
    pub mail_ms_max: u64,
    /// Users without a session that are remembered between two looks into the store.
    pub users_idle_max: usize,
    /// Whether connections from this machine are spared the bounds below: bots, bridges, proxies.
    pub spare_loopback: bool,
    /// Messages that a user may send.
    pub messages: Rate,
    /// Bytes that a user may send.
    pub bytes: Rate,
    /// Packages that a connection may send until its login.
    pub early_messages_max: u32,
    /// Refused messages until a connection ends.
    pub refusals: Rate,
    /// Accounts of others that a user may bring.
    pub uploads: Rate,
    /// Who may ask the station about its users; naked IDs.
    pub admins: Vec<Id>,
    /// How often the bot `monitor` is told what was counted, in milliseconds.
    pub monitor_every_ms: u64,
    /// Whether it is told users' addresses.
    pub monitor_addresses: bool,
    /// Whether neighbours are dialled; if not, a bridge carries what goes to them.
    pub links: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            verify: Verify::Every,
            login_messages: LoginMessages::Auto,
            framing: DeframeLimits { bare_lines: true, ..DeframeLimits::default() },
            login_ms_max: 60_000,
            frame_ms_max: 150_000,
            idle_ms_max: 128_000,
            parked_messages_max: 33,
            flying_max: 256,
            flying_bytes_max: 256 << 10,
            waiting_bytes_max: 4 << 20,
            receipts_ms: 100,
            acknowledge_ms: 500,
            mailbox_messages_max: 20_480,
            mailbox_bytes_max: 256 << 20,
            mail_ms_max: 7 * 24 * 3600 * 1000,
            users_idle_max: 20_000,
            spare_loopback: true,
            messages: Rate::per_second(500),
            bytes: Rate::per_second(8 << 20),
            early_messages_max: 128,
            refusals: Rate::within(120, 60),
            uploads: Rate::within(240, 3600),
            admins: Vec::new(),
            monitor_every_ms: 60_000,
            monitor_addresses: false,
            links: true,
        }
    }
}

/// Work on a user, done when the user has been read from the store.
#[derive(Debug)]
enum Work {
    Line { conn: ConnId, message: Box<ReliableMessage>, ack: AckTo },
    Mail { to: Id, message: Box<Verified>, route: Box<Route>, reply: ReplyTo },
    Moved { to: Id, digest: MailDigest, received_ms: u64, body: Bytes, reply: ReplyTo },
    Brought { message: Box<ReliableMessage>, by: Id, reply: ReplyTo },
    Account { of: Id, asker: Id, op: AccountOp, reply: ReplyTo },
    Switch { message: Box<ReliableMessage>, key: String, reply: ReplyTo },
    Wake { of: Id, wake: Box<Wake> },
}

/// How often mail that is too old is looked for, in milliseconds.
const EXPIRE_EVERY_MS: u64 = 60_000;
/// Messages taken out in one step of that.
const EXPIRE_STEP: usize = 1000;

/// See the module.
#[derive(Debug)]
pub struct Shard {
    index: ShardIndex,
    ring: Ring,
    station: Arc<Station>,
    policy: Arc<Policy>,
    now: Now,
    parser: Parser,
    names: Names,
    sessions: Sessions,
    users: Table<Id, Box<User>>,
    loading: Table<Id, Vec<Work>>,
    replies: Table<Ticket, Reply>,
    packages: Table<Ticket, (Ack, usize)>,
    switching: Table<Ticket, Switching>,
    mails: Table<Ticket, Mail>,
    /// Mail that is not safe yet, by its digest.
    flying: Table<MailDigest, Ticket>,
    /// When mail has to be kept at the latest; in order, since the wait is the same for all.
    due_mail: VecDeque<(u64, Ticket)>,
    /// When to look at a connection again.
    due_conns: BTreeMap<(u64, ConnId), ()>,
    /// When to read on from a connection whose user went too fast.
    due_paced: BTreeMap<(u64, ConnId), ()>,
    /// When gathered receipts go; in order, since the wait is the same for all.
    due_receipts: VecDeque<(u64, ConnId)>,
    /// When to look whether a user is silent; in order, since the wait is the same for all.
    due_rest: VecDeque<(u64, Id)>,
    neighbors: Neighbors,
    federation: Federation,
    stored: Table<Ticket, Stored>,
    deletions: Vec<(Id, Arc<str>, u64)>,
    /// Heads and acknowledgements are cut from it.
    chunk: Chunk,
    /// The name of the queue for any device.
    any_device: Arc<str>,
    /// Account pieces of the message at hand, to be kept before it is answered.
    saves: Vec<StoreOp>,
    seen: Seen,
    wakes: Wakes,
    monitored: monitor::Seen,
    last_ticket: u64,
    last_sn: u64,
    expire_ms: u64,
    stopping: bool,
    /// What has been counted.
    pub stats: Stats,
}

impl Shard {
    /// A shard without any session. `seed` makes its serial numbers begin somewhere.
    pub fn new(
        index: ShardIndex,
        ring: Ring,
        station: Arc<Station>,
        policy: Arc<Policy>,
        ans: Arc<Ans>,
        seed: u64,
    ) -> Self {
        Self {
            index,
            ring,
            station,
            policy,
            now: Now::default(),
            parser: Parser::default(),
            names: Names::new(ans),
            sessions: Table::default(),
            users: Table::default(),
            loading: Table::default(),
            replies: Table::default(),
            packages: Table::default(),
            switching: Table::default(),
            mails: Table::default(),
            flying: Table::default(),
            due_mail: VecDeque::new(),
            due_conns: BTreeMap::new(),
            due_paced: BTreeMap::new(),
            due_receipts: VecDeque::new(),
            due_rest: VecDeque::new(),
            neighbors: Neighbors::new(seed),
            federation: Federation::default(),
            stored: Table::default(),
            deletions: Vec::new(),
            chunk: Chunk::default(),
            any_device: Arc::from(session::ANY_DEVICE),
            saves: Vec::new(),
            seen: Seen::default(),
            wakes: Wakes::default(),
            monitored: monitor::Seen::default(),
            last_ticket: 0,
            last_sn: seed % 0x7fff_ffff,
            expire_ms: 0,
            stopping: false,
            stats: Stats::default(),
        }
    }

    /// Takes one input and says what is to be done about it.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Outbox) {
        self.now = now;
        match input {
            Input::Opened { conn, peer, secret } => self.opened(conn, peer, secret, out),
            Input::Adopted { conn, session } => self.adopted(conn, session, out),
            Input::Received { conn, bytes } => self.received(conn, bytes, out),
            Input::Arrived { conn, total } => self.arrived(conn, total, out),
            Input::Closed { conn } => self.closed(conn, out),
            Input::Parcel(parcel) => self.parcel(parcel, out),
            Input::Stored { ticket, answer } => self.stored(ticket, answer, out),
            Input::Reload { policy, ans } => {
                self.take_policy(policy, ans);
                self.arrange_links(out);
            }
            Input::Neighbors(list) => self.take_neighbors(&list, out),
            Input::Dialed { link, conn, peer, secret } => {
                self.dialed(link, conn, peer, secret, out);
            }
            Input::NotDialed { link } => self.link_down(link),
            Input::Tick => self.tick(out),
            Input::Stop => self.stop(out),
        }
        self.flush_deletions(out);
        self.say_stopped(out);
    }

    /// When `Input::Tick` is due at the latest, on the monotonic clock; none while nothing is.
    pub fn next_deadline(&self) -> Option<u64> {
        let mail = self.due_mail.front().map(|(due, _)| *due);
        let conn = self.due_conns.keys().next().map(|(due, _)| *due);
        let paced = self.due_paced.keys().next().map(|(due, _)| *due);
        let link = self.neighbors.next_deadline();
        let receipts = self.due_receipts.front().map(|(due, _)| *due);
        let (wakes, monitor) = (self.wakes.next_deadline(), self.monitored.next_deadline());
        let rest = self.due_rest.front().map(|(due, _)| *due);
        [mail, conn, paced, receipts, link, wakes, monitor, rest].into_iter().flatten().min()
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// Checks what must always hold; for tests and simulation.
    ///
    /// # Panics
    /// If the shard is at odds with itself.
    pub fn check(&self) {
        for (id, user) in &self.users {
            assert_eq!(self.ring.owner_of(id), self.index, "{id} has another owner");
            for conn in &user.sessions {
                let session = self.sessions.get(conn).expect("a user's session exists");
                assert_eq!(session.user.as_ref(), Some(id), "a session knows its user");
            }
        }
        for (conn, session) in &self.sessions {
            if let Some(user) = &session.user {
                let user = self.users.get(user).expect("a session's user is loaded");
                assert!(user.sessions.contains(conn), "a user knows its sessions");
            }
            let receipts = session.receipts.as_ref();
            assert!(receipts.is_none_or(|receipts| receipts.is_sound()), "receipts are given");
            let bytes: usize = session.flying.iter().map(|push| push.bytes).sum();
            assert_eq!(bytes, session.flying_bytes, "bytes on the way add up");
        }
        for (digest, ticket) in &self.flying {
            assert!(self.mails.contains_key(ticket), "mail {digest:?} on its way exists");
        }
    }

    fn take_policy(&mut self, policy: Arc<Policy>, ans: Arc<Ans>) {
        // Waits that have become shorter hold for what waits already.
        let now_ms = self.now.mono_ms;
        for (due, _) in &mut self.due_mail {
            *due = (*due).min(now_ms + policy.acknowledge_ms);
        }
        for (due, _) in &mut self.due_receipts {
            *due = (*due).min(now_ms + policy.receipts_ms);
        }
        let conns = std::mem::take(&mut self.due_conns);
        self.due_conns = conns.into_keys().map(|(_, conn)| ((now_ms, conn), ())).collect();
        self.policy = policy;
        self.names = Names::new(ans);
    }

    fn parcel(&mut self, parcel: Parcel, out: &mut Outbox) {
        match parcel {
            Parcel::Mail { to, message, route, reply } => {
                self.with_user(to.clone(), Work::Mail { to, message, route, reply }, out);
            }
            Parcel::Moved { to, digest, received_ms, body, reply } => {
                let work = Work::Moved { to: to.clone(), digest, received_ms, body, reply };
                self.with_user(to, work, out);
            }
            Parcel::Brought { message, by, reply } => {
                let sender = message.sender().naked();
                self.with_user(sender, Work::Brought { message, by, reply }, out);
            }
            Parcel::Say { to, body } => self.say_to(&to, body, out),
            Parcel::Tell { to, content } => self.tell(&to, content, out),
            Parcel::Wake { of, wake } => {
                self.with_user(of.clone(), Work::Wake { of, wake }, out);
            }
            Parcel::Meet { host, port, asker } => self.tell_met(host, port, asker, out),
            Parcel::Met { host, port, id, proven } => self.met(&host, port, &id, proven, out),
            Parcel::Outcome { reply, outcome } => self.came_of(reply, outcome, out),
            Parcel::Account { of, asker, op, reply } => {
                self.with_user(of.clone(), Work::Account { of, asker, op, reply }, out);
            }
            Parcel::Switch { of, message, key, reply } => {
                self.with_user(of, Work::Switch { message, key, reply }, out);
            }
            Parcel::Expired { of, queue } => self.lost_mail(&of, &queue),
            Parcel::Census { asked, reply } => {
                let present = self.present(asked);
                self.forward(reply.shard, Parcel::Present { reply, present }, out);
            }
            Parcel::Present { reply, present } => self.counted(reply, present, out),
            Parcel::Switched { reply, verdict } => self.judged(reply.ticket, verdict, out),
            Parcel::Answer { reply, answer } => self.answered(reply, answer, out),
        }
    }

    fn forward(&mut self, to: ShardIndex, parcel: Parcel, out: &mut Outbox) {
        out.push(Effect::Forward { to, parcel });
    }

    fn store(&mut self, op: StoreOp, then: Stored, out: &mut Outbox) {
        let ticket = self.ticket();
        self.stored.insert(ticket, then);
        out.push(Effect::Store { ticket, op });
    }

    /// Does work on a user, now or when the store has told about the user.
    fn with_user(&mut self, user: Id, work: Work, out: &mut Outbox) {
        if self.is_at_hand(&user) {
            return self.work(work, out);
        }
        let waiting = self.loading.entry(user.clone()).or_default();
        waiting.push(work);
        if waiting.len() == 1 {
            let op = StoreOp::LoadUser { user: Arc::from(user.as_str()) };
            self.store(op, Stored::Load(user), out);
        }
    }

    /// Whether a user has been read, who is in use then.
    fn is_at_hand(&mut self, user: &Id) -> bool {
        let Some(entry) = self.users.get_mut(user) else {
            return false;
        };
        entry.used_ms = self.now.mono_ms;
        self.rouse(user);
        true
    }

    fn work(&mut self, work: Work, out: &mut Outbox) {
        match work {
            Work::Line { conn, message, ack } => self.before_login(conn, *message, ack, out),
            Work::Mail { to, message, route, reply } => {
                self.take_mail(&to, &message, *route, reply, out);
            }
            Work::Moved { to, digest, received_ms, body, reply } => {
                self.take_moved(&to, digest, received_ms, body, reply, out);
            }
            Work::Brought { message, by, reply } => self.brought(*message, by, reply, out),
            Work::Switch { message, key, reply } => {
                let verdict = self.judge(*message, &key, out);
                self.give_verdict(reply, verdict, out);
            }
            Work::Account { of, asker, op, reply } => self.account(&of, &asker, op, reply, out),
            Work::Wake { of, wake } => self.name_wake(&of, wake, out),
        }
    }

    fn give_verdict(&mut self, reply: ReplyTo, verdict: Verdict, out: &mut Outbox) {
        match reply.shard == self.index {
            true => self.judged(reply.ticket, verdict, out),
            false => self.forward(reply.shard, Parcel::Switched { reply, verdict }, out),
        }
    }

    /// The store could not tell about a user: nothing is acknowledged.
    fn cannot(&mut self, work: Work, out: &mut Outbox) {
        match work {
            Work::Line { .. } | Work::Wake { .. } => {}
            Work::Switch { reply, .. } => self.give_verdict(reply, Verdict::Refused, out),
            Work::Mail { reply, .. } | Work::Moved { reply, .. } | Work::Brought { reply, .. } => {
                self.outcome(reply, Outcome::Failed, out);
            }
            Work::Account { reply, .. } => {
                self.answer(reply, AccountAnswer::Say(ticket::storage_failed()), out);
            }
        }
    }

    fn stored(&mut self, ticket: Ticket, answer: StoreAnswer, out: &mut Outbox) {
        let Some(waiting) = self.stored.remove(&ticket) else {
            return;
        };
        let failed = if let StoreAnswer::Failed(error) = &answer {
            self.stats.store_failures += 1;
            tracing::warn!(%error, "the store could not do what it was asked");
            true
        } else {
            false
        };
        match (waiting, answer) {
            (Stored::Nothing, _) => {}
            (Stored::Answer { reply, answer }, _) => {
                let said = AccountAnswer::Say(ticket::storage_failed());
                self.answer(reply, if failed { said } else { answer }, out);
            }
            (Stored::Slot { ticket, slot, user }, _) => {
                if failed {
                    self.fail(ticket);
                    self.reload(user, out);
                }
                self.fill(ticket, slot, Vec::new(), out);
            }
            (Stored::Load(id), StoreAnswer::User(record)) => {
                // What is stored was taken before this station's memory begins, perhaps; for the
                // devices that it is stored for, and no others.
                for queue in &record.queues {
                    for digest in &queue.digests {
                        let copy = mail::copy_digest(digest, &queue.device);
                        self.seen.insert(copy, self.now.mono_ms);
                    }
                }
                let user = User::restore(id.clone(), record, self.now.mono_ms);
                self.users.insert(user.id.clone(), Box::new(user));
                self.rouse(&id);
                for work in self.loading.remove(&id).unwrap_or_default() {
                    self.work(work, out);
                }
            }
            (Stored::Load(id), _) => {
                for work in self.loading.remove(&id).unwrap_or_default() {
                    self.cannot(work, out);
                }
            }
            (Stored::Reload(id), StoreAnswer::User(record)) => {
                let fresh = User::restore(id.clone(), record, self.now.mono_ms);
                if let Some(user) = self.users.get_mut(&id) {
                    user.take_account(fresh);
                }
            }
            (Stored::Reload(_), _) => {}
            (Stored::Move { user, device, span }, answer) => {
                self.move_page(&user, &device, span, answer, out);
            }
            (Stored::Page { conn, user, device, span }, answer) => {
                self.page_answered(conn, &user, &device, span, answer, out);
            }
            // Not deleted means given out again some time: clients know it then.
            (Stored::Deleted { user, device, seqs }, _) => {
                if let Some(user) = self.users.get_mut(&user) {
                    user.queue(&device).confirm_deleted(&seqs);
                }
            }
            (Stored::Copy { mail, copy }, _) => self.kept(mail, copy, !failed, out),
            (Stored::Expire, StoreAnswer::Expired { queues, done }) => {
                self.expired(queues, done, out);
            }
            (Stored::Expire, _) => {}
        }
    }

    /// Account pieces that could not be written are not to be believed.
    fn reload(&mut self, user: Id, out: &mut Outbox) {
        let op = StoreOp::LoadUser { user: Arc::from(user.as_str()) };
        self.store(op, Stored::Reload(user), out);
    }

    fn flush_deletions(&mut self, out: &mut Outbox) {
        if self.deletions.is_empty() {
            return;
        }
        let mut by_queue: Vec<(Id, Arc<str>, Vec<u64>)> = Vec::new();
        for (user, device, seq) in std::mem::take(&mut self.deletions) {
            match by_queue.iter_mut().find(|(id, name, _)| *id == user && *name == device) {
                Some((_, _, seqs)) => seqs.push(seq),
                None => by_queue.push((user, device, vec![seq])),
            }
        }
        for (user, device, seqs) in by_queue {
            let queue = QueueKey { user: Arc::from(user.as_str()), device: device.clone() };
            let op = StoreOp::Delete { queue, seqs: seqs.clone() };
            self.store(op, Stored::Deleted { user, device, seqs }, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::account::Account;
    use crate::crypto::key::{OpenKey, SignKey};
    use crate::proto::meta::MetaKind;

    pub(super) fn station() -> Station {
        let (sign, open) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(2048).unwrap());
        let profile = serde_json::Map::new();
        let made = Account::create(MetaKind::Mkm, 2, Some("s"), sign, open, 1e9, profile).unwrap();
        Station {
            id: made.id().clone(),
            meta: made.meta().to_map(),
            visa: made.document().unwrap().to_map(),
            sign: made.sign_key().clone(),
            open: made.message_keys().to_vec(),
        }
    }

    #[test]
    fn another_policy_holds_for_what_waits_already() {
        let (index, ring) = (ShardIndex(0), Ring::new(1));
        let (station, policy) = (Arc::new(station()), Arc::new(Policy::default()));
        let ans = |id: &str| Arc::new(Ans::new([("helper".to_owned(), Id::parse(id).unwrap())]));
        let (one, two) =
            ("a@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR", "b@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR");
        let mut shard = Shard::new(index, ring, station, policy.clone(), ans(one), 0);
        assert_eq!(shard.names.read("helper").unwrap().as_str(), one);
        shard.due_mail.extend([(1_200, Ticket(1)), (1_500, Ticket(2)), (1_600, Ticket(3))]);
        shard.due_conns.insert((9_000, ConnId(7)), ());
        let reload = |acknowledge_ms, id| Input::Reload {
            policy: Arc::new(Policy { acknowledge_ms, ..Policy::clone(&policy) }),
            ans: ans(id),
        };
        let now = Now { mono_ms: 1_100, wall_us: 0 };
        shard.handle(now, reload(60_000, one), &mut Vec::new());
        let due = |shard: &Shard| shard.due_mail.iter().map(|(due, _)| *due).collect::<Vec<_>>();
        assert_eq!(due(&shard), [1_200, 1_500, 1_600], "nothing waits longer than was said");
        assert_eq!(shard.next_deadline(), Some(1_100), "every connection is looked at");
        shard.handle(now, reload(200, two), &mut Vec::new());
        assert_eq!(due(&shard), [1_200, 1_300, 1_300], "still in order");
        assert_eq!(shard.names.read("helper").unwrap().as_str(), two, "the old name is forgotten");
    }
}
