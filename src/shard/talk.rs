//! What is said to the station itself: contents and commands, each answered.

use serde_json::{Map, Value, json};
use smallvec::smallvec;

use super::effect::Outbox;
use super::federation::NO_CONN;
use super::input::{AccountOp, ConnId, Parcel, ReplyTo, Ticket};
use super::intake::Way;
use super::session::AckTo;
use super::ticket::{After, Echo, Reply, Sink, Stored, Wrap};
use super::user::{is_device, terminal_of};
use super::{LoginMessages, Shard, Work};
use crate::base::limits::DOCUMENT_AHEAD_S_MAX;
use crate::crypto::seal;
use crate::crypto::sign::Verified;
use crate::proto::address::EntityKind;
use crate::proto::command::{self, Command, ReceiptText, title};
use crate::proto::content::{Body, Content, kind};
use crate::proto::id::Id;
use crate::proto::json as text;
use crate::store::{AccountPart, StoreOp};
use crate::wire::Framing;

/// Contents of an array, or messages in a forward, that are handled; more are declined together.
pub(super) const PARTS_MAX: usize = 64;

/// A question and where its answer goes.
pub(super) struct Question<'a> {
    pub(super) conn: ConnId,
    pub(super) message: &'a Verified,
    pub(super) content: &'a Content,
    pub(super) ticket: Ticket,
    pub(super) slot: usize,
}

impl Shard {
    /// Opens what was sent to the station, and answers it.
    pub(super) fn hear(
        &mut self,
        conn: ConnId,
        message: Verified,
        ack: AckTo,
        sink: Sink,
        out: &mut Outbox,
    ) {
        self.stats.heard += 1;
        self.see_message(&message);
        let opened = self.open(conn, &message);
        let read = opened.and_then(|bytes| text::parse(&bytes).ok()).map(Content::read);
        let broadcast = matches!(self.way_of(message.receiver()), Way::HereWhenLoggedIn);
        let route = broadcast.then(|| self.route_of(conn, &ack, &message));
        let ticket = self.expect(conn, &message, ack, sink, out);
        if let Some(route) = route {
            self.spread(ticket, &message, route, out);
        }
        let content = match read {
            Some(Ok(content)) => content,
            Some(Err(error)) => {
                let said = ReceiptText::new(
                    "Content not support.",
                    "Content error: ${error}.",
                    json!({"error": error.to_string()}),
                );
                return self.say(ticket, 0, said, out);
            }
            None => {
                let said = ReceiptText::new(
                    "Content not support.",
                    "Content error: ${error}.",
                    json!({"error": "it cannot be opened or is no JSON object"}),
                );
                return self.say(ticket, 0, said, out);
            }
        };
        if let Some(reply) = self.replies.get_mut(&ticket) {
            if let Echo::Fields(origin) = &mut reply.origin {
                origin.insert("sn".into(), content.sn.into());
                let signature = message.signature_text();
                origin.insert("signature".into(), signature.into());
            }
            reply.group.clone_from(&content.group.clone().filter(|g| {
                // The station's own group is no group that a receipt would be about.
                g != "stations@everywhere"
            }));
        }
        self.tell_archivist(&message, &content.body, out);
        let question = Question { conn, message: &message, content: &content, ticket, slot: 0 };
        match &content.body {
            Body::Array(parts) if !parts.is_empty() => self.hear_array(&question, parts, out),
            Body::Forward(secrets) if !secrets.is_empty() => {
                self.hear_forward(&question, secrets, sink, out);
            }
            _ => self.respond(&question, out),
        }
    }

    /// Begins to gather the answer to a message, in one slot.
    pub(super) fn expect(
        &mut self,
        conn: ConnId,
        message: &Verified,
        ack: AckTo,
        sink: Sink,
        out: &mut Outbox,
    ) -> Ticket {
        let mut origin = message.envelope(&mut self.parser);
        origin.insert("signature".into(), message.signature_text().into());
        self.owe(conn, message, Echo::Fields(origin), ack, sink, out)
    }

    /// The same, with what receipts repeat.
    pub(super) fn owe(
        &mut self,
        conn: ConnId,
        message: &Verified,
        origin: Echo,
        ack: AckTo,
        sink: Sink,
        out: &mut Outbox,
    ) -> Ticket {
        let ticket = self.ticket();
        let broadcast = message.receiver().is_broadcast();
        let bytes = if sink == Sink::Conn { message.raw().len() } else { 0 };
        let reply = Reply {
            conn,
            user: message.sender().naked(),
            ack,
            origin,
            profile: false,
            group: message.group().map(|g| g.as_str().to_owned()).filter(|_| !message.is_plain()),
            introduce: broadcast || message.is_plain(),
            wrap: Wrap::Apart,
            slots: smallvec![Vec::new()],
            left: 1,
            sink,
            after: After::Nothing,
            bytes,
            failed: false,
        };
        self.replies.insert(ticket, reply);
        // The account that came along is kept before anything is acknowledged.
        for op in std::mem::take(&mut self.saves) {
            self.hold(ticket, op, message.sender().naked(), out);
        }
        ticket
    }

    pub(super) fn say(&mut self, ticket: Ticket, slot: usize, said: ReceiptText, out: &mut Outbox) {
        let contents = self.receipt(ticket, said).into_iter().collect();
        self.fill(ticket, slot, contents, out);
    }

    fn open(&mut self, conn: ConnId, message: &Verified) -> Option<Vec<u8>> {
        let station = self.station.clone();
        let mut none = None;
        let session = self.sessions.get_mut(&conn);
        let known = session.map_or(&mut none, |session| &mut session.heard_key);
        seal::open(message, &station.id, &station.open, known, &mut self.parser).ok()
    }

    fn hear_array(&mut self, question: &Question<'_>, parts: &[Value], out: &mut Outbox) {
        let count = parts.len().min(PARTS_MAX);
        let first = self.add_slots(question.ticket, count, Wrap::Array);
        for (slot, part) in (first..).zip(parts.iter().take(count)) {
            match Content::read(part.clone()) {
                Ok(content) => {
                    let inner = Question { content: &content, slot, ..*question };
                    self.respond(&inner, out);
                }
                Err(error) => {
                    let said = ReceiptText::new(
                        "Content not support.",
                        "Content error: ${error}.",
                        json!({"error": error.to_string()}),
                    );
                    self.say(question.ticket, slot, said, out);
                }
            }
        }
        self.fill(question.ticket, question.slot, Vec::new(), out);
    }

    /// Makes room for so many parts of an answer; the place of the first of them.
    pub(super) fn add_slots(&mut self, ticket: Ticket, count: usize, wrap: Wrap) -> usize {
        let Some(reply) = self.replies.get_mut(&ticket) else {
            return 0;
        };
        reply.wrap = wrap;
        let first = reply.slots.len();
        reply.slots.resize(first + count, Vec::new());
        reply.left += count;
        first
    }

    /// Messages inside a message: each is handled as if it had come by itself, from its own sender,
    /// who has to be the session's user.
    fn hear_forward(
        &mut self,
        question: &Question<'_>,
        secrets: &[Value],
        sink: Sink,
        out: &mut Outbox,
    ) {
        if sink != Sink::Conn {
            return self.not_supported(question, out);
        }
        let count = secrets.len().min(PARTS_MAX);
        let first = self.add_slots(question.ticket, count, Wrap::Forward);
        for (slot, secret) in (first..).zip(secrets.iter().take(count)) {
            let raw = bytes::Bytes::from(text::write(secret));
            self.inner_message(question.conn, raw, Sink::Slot(question.ticket, slot), out);
        }
        self.fill(question.ticket, question.slot, Vec::new(), out);
    }

    fn respond(&mut self, question: &Question<'_>, out: &mut Outbox) {
        let Body::Command(command) = &question.content.body else {
            if question.content.kind != kind::TEXT || !self.census(question, out) {
                self.not_supported(question, out);
            }
            return;
        };
        match command {
            // Only on a connection of its own.
            Command::Handshake { .. } | Command::Report { .. } if question.conn == NO_CONN => {
                self.fill(question.ticket, question.slot, Vec::new(), out);
            }
            Command::Handshake { title, session } => {
                self.handshake(question, title, session.as_deref(), out);
            }
            Command::Meta { did, meta } => {
                let op = match meta {
                    Some(meta) => AccountOp::MetaUpload(meta.clone()),
                    None => AccountOp::MetaQuery,
                };
                self.ask_account(question, did.as_deref(), op, "Meta command error.", out);
            }
            Command::Documents { did, meta, documents, last_time, profile } => {
                if let Some(reply) = self.replies.get_mut(&question.ticket) {
                    reply.profile = *profile;
                }
                let op = match documents {
                    Some(documents) => AccountOp::DocumentsUpload {
                        meta: meta.clone(),
                        documents: documents.clone(),
                    },
                    None => AccountOp::DocumentsQuery {
                        last_time: *last_time,
                        logins: self.may_have_logins(question),
                    },
                };
                self.ask_account(question, did.as_deref(), op, "Document command error.", out);
            }
            Command::Login { did, station, terminal } => {
                self.login(question, did.as_deref(), station.as_deref(), terminal.as_deref(), out);
            }
            Command::Report { title } => self.report(question, title, out),
            Command::Ans { names } => self.ans(question, names, out),
            Command::List { which, entries } => {
                self.list(question, *which, entries.as_deref(), out);
            }
            Command::Receipt => self.fill(question.ticket, question.slot, Vec::new(), out),
            Command::Unknown { name } => {
                let said = ReceiptText::new(
                    "Command not support.",
                    "Command (name: ${command}) not support yet!",
                    json!({"command": name}),
                );
                self.say(question.ticket, question.slot, said, out);
            }
        }
    }

    fn not_supported(&mut self, question: &Question<'_>, out: &mut Outbox) {
        let kind = match question.content.map.get("type") {
            Some(Value::String(text)) => text.clone(),
            Some(number) => number.to_string(),
            None => "0".to_owned(),
        };
        let mut said = ReceiptText::new(
            "Content not support.",
            "Content (type: ${type}) not support yet!",
            json!({"type": kind}),
        );
        said.group.clone_from(&question.content.group);
        self.say(question.ticket, question.slot, said, out);
    }

    /// Whether login messages go along with documents: by policy, and never to who cannot read an
    /// array, nor to bots.
    fn may_have_logins(&self, question: &Question<'_>) -> bool {
        let arrays = self.reads_arrays(question.conn);
        let person = question.message.sender().kind() == EntityKind::User;
        match self.policy.login_messages {
            LoginMessages::Never => false,
            LoginMessages::Auto => arrays && person,
            LoginMessages::Always => person,
        }
    }

    /// Whether a client is known to read several contents in one: all that speak MTP do, web
    /// clients do not.
    fn reads_arrays(&self, conn: ConnId) -> bool {
        let framing = self.sessions.get(&conn).and_then(|s| s.deframer.framing());
        framing == Some(Framing::Mtp)
    }

    fn ask_account(
        &mut self,
        question: &Question<'_>,
        did: Option<&str>,
        op: AccountOp,
        error: &'static str,
        out: &mut Outbox,
    ) {
        let of = did.and_then(|did| self.names.read(did)).map(|id| id.naked());
        let Some(of) = of.filter(|id| !id.is_broadcast()) else {
            return self.say(question.ticket, question.slot, ReceiptText::plain(error), out);
        };
        let asker = question.message.sender().clone();
        // Through a bridge a neighbour has no connection here.
        let may_bring =
            |shard: &mut Self| shard.is_neighbor(&asker.naked()) || shard.may_bring(question.conn);
        if op.is_upload() && !asker.is_same_as(&of) && !may_bring(self) {
            self.stats.refused_uploads += 1;
            let said = ReceiptText::new(
                "Document not accepted.",
                "Document not accepted: ${reason}.",
                json!({"did": of.as_str(), "reason": "log in first, or bring fewer of others"}),
            );
            return self.say(question.ticket, question.slot, said, out);
        }
        let reply = ReplyTo { shard: self.index, ticket: question.ticket, slot: question.slot };
        let owner = self.ring.owner_of(&of);
        if owner == self.index {
            self.with_user(of.clone(), Work::Account { of, asker, op, reply }, out);
        } else {
            self.forward(owner, Parcel::Account { of, asker, op, reply }, out);
        }
    }

    fn handshake(
        &mut self,
        question: &Question<'_>,
        said: &str,
        offered: Option<&str>,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get(&question.conn) else {
            return;
        };
        if session.link.is_some() {
            return self.shake_hands(question, said, offered, out);
        }
        let (key, peer) = (session.key(), session.peer);
        let host = peer.ip().to_string();
        let remote = Some((host.as_str(), peer.port()));
        let mut contents = Vec::new();
        match said {
            title::PING => {
                contents.push(command::handshake(self.stamp(), title::PONG, offered, remote));
            }
            title::PONG => {}
            title::HELLO if offered.is_some_and(|offered| same_text(offered, &key)) => {
                self.log_in(question.conn, question.message);
                contents.push(command::handshake(self.stamp(), title::SUCCESS, Some(&key), remote));
                contents.extend(self.other_devices(question.conn, question.message.sender()));
                if let Some(reply) = self.replies.get_mut(&question.ticket) {
                    reply.after = After::Begin;
                }
            }
            title::HELLO => {
                contents.push(command::handshake(self.stamp(), title::AGAIN, Some(&key), remote));
            }
            other => {
                let said = ReceiptText::new(
                    "Command not support.",
                    "Handshake command error: title=\"${title}\".",
                    json!({"title": other}),
                );
                contents.extend(self.receipt(question.ticket, said));
            }
        }
        self.fill(question.ticket, question.slot, contents, out);
    }

    /// The visas of a user's other devices.
    fn other_devices(&mut self, conn: ConnId, user: &Id) -> Option<Map<String, Value>> {
        let own = self.sessions.get(&conn)?.terminal.clone();
        let stamp = self.stamp();
        let user = self.users.get(&user.naked())?;
        let others: Vec<Value> = user
            .papers
            .documents()
            .iter()
            .filter(|d| d.visa_key().is_some() && *terminal_of(d) != *own)
            .map(|d| Value::Object(d.to_map()))
            .collect();
        (!others.is_empty()).then(|| command::documents(stamp, user.id.as_str(), None, others))
    }

    fn login(
        &mut self,
        question: &Question<'_>,
        did: Option<&str>,
        station: Option<&str>,
        terminal: Option<&str>,
        out: &mut Outbox,
    ) {
        let sender = question.message.sender();
        let claimed = did.and_then(|did| self.names.read(did));
        let time = question.content.time.unwrap_or_default();
        // A date far ahead would keep every later login out.
        let dated = time <= self.now.wall_s() + DOCUMENT_AHEAD_S_MAX;
        if !dated || !claimed.is_some_and(|id| id.is_same_as(sender)) {
            let said = ReceiptText::new(
                "Login not accepted.",
                "Login command error: ${did}.",
                json!({"did": did}),
            );
            return self.say(question.ticket, question.slot, said, out);
        }
        let mut record = question.content.map.clone();
        if let Some(terminal) = terminal.or(sender.terminal()) {
            record.insert("terminal".into(), terminal.into());
        }
        let message = text::parse(question.message.raw()).unwrap_or(Value::Null);
        let naked = sender.naked();
        let now_s = self.now.wall_s();
        let Some(user) = self.users.get_mut(&naked) else {
            return;
        };
        if !user.keep_login(&record, message, now_s) {
            let said = ReceiptText::new(
                "Login not changed.",
                "Login command expired: ${did}.",
                json!({"did": sender.as_str()}),
            );
            return self.say(question.ticket, question.slot, said, out);
        }
        let json = bytes::Bytes::copy_from_slice(user.papers.logins_text());
        let op = StoreOp::Save { user: user.text.clone(), part: AccountPart::Logins, json };
        let here = station
            .and_then(|s| self.names.read(s))
            .is_some_and(|s| s.is_same_as(&self.station.id));
        let ours =
            self.sessions.get(&question.conn).is_some_and(|s| s.user.as_ref() == Some(&naked));
        // Where the user is elsewhere now, the reference is silent, and clients expect no more.
        let contents = if here && ours {
            self.set_active(question.conn, true, out);
            let said = ReceiptText::new(
                "Login received.",
                "Login command received: ${did}.",
                json!({"did": sender.as_str()}),
            );
            self.receipt(question.ticket, said).into_iter().collect()
        } else {
            Vec::new()
        };
        self.follow(&naked, out);
        self.fill_when_stored(question.ticket, question.slot, contents, op, naked, out);
    }

    /// Fills a slot now, but holds the whole answer back until something is stored.
    pub(super) fn fill_when_stored(
        &mut self,
        ticket: Ticket,
        slot: usize,
        contents: Vec<Map<String, Value>>,
        op: StoreOp,
        user: Id,
        out: &mut Outbox,
    ) {
        self.hold(ticket, op, user, out);
        self.fill(ticket, slot, contents, out);
    }

    /// Adds an empty slot that is filled when the store has kept something.
    pub(super) fn hold(&mut self, ticket: Ticket, op: StoreOp, user: Id, out: &mut Outbox) {
        let Some(reply) = self.replies.get_mut(&ticket) else {
            return;
        };
        let slot = reply.slots.len();
        reply.slots.push(Vec::new());
        reply.left += 1;
        self.store(op, Stored::Slot { ticket, slot, user }, out);
    }

    fn report(&mut self, question: &Question<'_>, said: &str, out: &mut Outbox) {
        let sender = question.message.sender();
        let ours = self.is_the_user(question);
        let mut contents = Vec::new();
        match said {
            "online" | "offline" if !ours => {
                let key = self.sessions.get(&question.conn).map(|s| s.key());
                contents.push(command::handshake(self.stamp(), title::AGAIN, key.as_deref(), None));
            }
            "online" => {
                self.set_active(question.conn, true, out);
                let said = ReceiptText::new(
                    "Online received.",
                    "Online command received: ${did}.",
                    json!({"did": sender.as_str()}),
                );
                contents.extend(self.receipt(question.ticket, said));
            }
            "offline" => self.set_active(question.conn, false, out),
            other => {
                let said = ReceiptText::new(
                    "Command not support.",
                    "Report command (title: ${title}) not support yet!",
                    json!({"title": other}),
                );
                contents.extend(self.receipt(question.ticket, said));
            }
        }
        self.fill(question.ticket, question.slot, contents, out);
    }

    fn ans(&mut self, question: &Question<'_>, names: &str, out: &mut Outbox) {
        let mut records = Map::new();
        let mut missed = Vec::new();
        for name in names.split_whitespace().take(PARTS_MAX) {
            match self.names.ans().resolve(name) {
                Some(id) => {
                    records.insert(name.to_owned(), id.as_str().into());
                }
                None => missed.push(name.to_owned()),
            }
        }
        let contents = if records.is_empty() && missed.is_empty() {
            self.receipt(question.ticket, ReceiptText::plain("ANS command error."))
        } else {
            Some(command::ans(self.stamp(), names, records, missed))
        };
        self.fill(question.ticket, question.slot, contents.into_iter().collect(), out);
    }

    /// Asks a connection that is not logged in to sign its session key.
    pub(super) fn ask_to_log_in(&mut self, conn: ConnId, user: &Id, ack: AckTo, out: &mut Outbox) {
        let Some(key) = self.sessions.get(&conn).map(|s| s.key()) else {
            return;
        };
        let content = command::handshake(self.stamp(), title::AGAIN, Some(&key), None);
        let question = self.sealed(conn, &user.naked(), &content, true);
        self.give(conn, ack, question, out);
    }

    /// Switches the pushing of mail on or off.
    pub(super) fn set_active(&mut self, conn: ConnId, active: bool, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if active && !session.active && self.stands_back(conn) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let was = std::mem::replace(&mut session.active, active);
        if active {
            self.forget_badge(conn);
        }
        if active && !was {
            self.read_from_start(conn, out);
        } else if was && !active {
            self.give_up_pushes(conn, out);
        }
    }

    /// A session's proven user, with the device whose visa came along.
    pub(super) fn log_in(&mut self, conn: ConnId, message: &Verified) {
        let user = message.sender().naked();
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if let Some(terminal) = message.sender().terminal().filter(|t| is_device(t)) {
            session.terminal = terminal.into();
        }
        let again = session.user.as_ref() == Some(&user);
        session.user = Some(user.clone());
        session.active = false;
        if self.neighbors.contains(&user) || user.is_same_as(&self.station.id) {
            session.spared = true;
        }
        if !again {
            self.stats.logins += 1;
            self.see_user(&user, conn);
            tracing::debug!(%user, %conn, "logged in");
        }
        let now_s = self.now.wall_s();
        if let Some(user) = self.users.get_mut(&user) {
            user.here_s = now_s;
            user.badge = 0;
            if !user.sessions.contains(&conn) {
                user.sessions.push(conn);
            }
        }
        self.stay(&user);
        let active = !self.stands_back(conn);
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.active = active;
        }
    }
}

/// Compares two texts without telling by the time how much of them is the same.
pub(super) fn same_text(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}
