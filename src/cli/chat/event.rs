//! What happened to the client, as it is shown.

use serde_json::{Value, json};

use super::super::now_s;
use super::files::{self, SAVED_BYTES_MAX, Shelf};
use super::said::{Said, clock};
use super::talk::{Talk, attachment};
use crate::client::file;
use crate::client::messenger::Opened;
use crate::client::terminal::{Event, Failure};
use crate::proto::command::{Command, Receipt, Search};
use crate::proto::content::{Body, Card, Content, Page, kind};
use crate::proto::id::Id;

/// Users of one answer that are listed.
const FOUND_MAX: usize = 256;

impl Talk {
    /// Takes an event in; what it shows is in `out` then.
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::LoggedIn { station } => {
                let fields = vec![("station", station.as_str().into())];
                let screen = format!("- logged in at {station}");
                self.show(Said::new("login", fields).shown(screen));
                self.names_asked.clear();
            }
            Event::Disconnected { pause_ms: Some(pause_ms) } => {
                let seconds = pause_ms.div_ceil(1000);
                let fields = vec![("seconds", seconds.into())];
                let screen = format!("- no connection; trying again within {seconds} s");
                self.show(Said::new("disconnected", fields).shown(screen));
            }
            Event::Disconnected { pause_ms: None }
            | Event::Learned(_)
            | Event::Sealed(_)
            | Event::Whole { .. } => {}
            Event::Packed { token, signature } => {
                if let Some(sent) = self.sent.iter_mut().find(|sent| sent.token == token) {
                    sent.letters += 1;
                    self.sign(token, signature);
                } else if self.asked.contains(&token) {
                    self.sign(token, signature);
                }
            }
            Event::Acknowledged { token } => {
                if let Some(sent) = self.sent.iter_mut().find(|sent| sent.token == token) {
                    sent.acknowledged += 1;
                } else if self.hello == Some(token) {
                    self.hello = None;
                    self.station();
                }
            }
            Event::Failed { token, why } => self.failed(token, &why),
            Event::Refused(refusal) => self.note(&format!("a message was not read: {refusal}")),
            Event::Dropped(sender) => {
                self.note(&format!("a message of {sender} was dropped: the account is not known"));
            }
            Event::Received(opened) => {
                self.received(&opened);
                self.save_keys();
            }
        }
        for fault in self.book(super::book::Book::take_faults) {
            self.show(Said::error(&fault));
        }
    }

    fn failed(&mut self, token: u64, why: &Failure) {
        let said = match why {
            Failure::Full => "too much waits for the station".to_owned(),
            Failure::Unknown => "the station knows nothing of the receiver".to_owned(),
            Failure::Partly(members) => {
                let members: Vec<&str> = members.iter().map(Id::as_str).collect();
                format!("not sent to {}, who are not known", members.join(" "))
            }
            Failure::Silent => "the station does not acknowledge it".to_owned(),
            Failure::Crypto(error) => error.to_string(),
        };
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.token == token) else { return };
        sent.failed |= !matches!(why, Failure::Partly(_));
        let number = sent.number;
        self.receipt(number, "failed", &said, None);
    }

    fn receipt(&mut self, number: u64, state: &'static str, said: &str, who: Option<&Id>) {
        let mark = match state {
            "delivered" | "received" => "✓✓",
            "cached" => "✓",
            _ => "✗",
        };
        let fields = vec![
            ("number", number.into()),
            ("state", state.into()),
            ("receiver", who.map_or(Value::Null, |id| id.as_str().into())),
            ("text", said.into()),
        ];
        let to = who.map(|id| format!(" {}", self.name_of(id))).unwrap_or_default();
        let reason = match state {
            "delivered" | "received" | "cached" => String::new(),
            _ => format!(": {said}"),
        };
        let screen = format!("{mark} #{number} {state}{to}{reason}");
        self.show(Said::new("receipt", fields).shown(screen));
    }

    fn received(&mut self, opened: &Opened) {
        let (sender, content) = (opened.message.sender().naked(), &opened.content);
        match &content.body {
            Body::Command(command) => self.on_command(&sender, command, content),
            // Their parts come one by one.
            Body::Forward(_) | Body::Array(_) => {}
            Body::Other if content.kind == kind::HISTORY => self.on_history(opened),
            Body::Other if self.book(|book| book.is_blocked(&sender)) => {}
            Body::Other if content.kind == kind::CUSTOMIZED => self.on_customized(opened),
            Body::Other => self.on_message(&sender, opened),
        }
    }

    fn on_command(&mut self, sender: &Id, command: &Command, content: &Content) {
        match command {
            Command::Receipt => self.on_receipt(sender, content),
            Command::Documents { did: Some(did), documents: Some(_), .. } => {
                let asked = self.profiles.iter().position(|id| id.is_named_by(did));
                if let Some(at) = asked {
                    let id = self.profiles.remove(at);
                    self.show_profile(&id);
                }
            }
            _ => {
                if let Ok(Search { users: Some(users), .. }) = content.view::<Search>() {
                    if users.is_empty() {
                        self.note("nobody was found");
                    }
                    for user in users.iter().take(FOUND_MAX) {
                        self.show_user("user", user);
                    }
                } else if !Self::is_somebody(sender)
                    && let Command::List { entries: Some(_), .. } = command
                {
                    self.note("the station keeps the list");
                }
            }
        }
    }

    fn on_receipt(&mut self, sender: &Id, content: &Content) {
        let Ok(receipt) = content.view::<Receipt>() else { return };
        let token = receipt.signature().and_then(|signature| self.signatures.get(signature));
        let Some(token) = token.copied() else { return };
        let receiver = receipt.origin.as_ref().and_then(|o| o.get("receiver")?.as_str());
        let receiver = receiver.and_then(|text| Id::parse(text).ok());
        let from_station = !Self::is_somebody(sender);
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.token == token) else {
            self.profiles.retain(|id| receipt.text.is_empty() || !id.is_same_as(sender));
            return self.note(&receipt.text);
        };
        let lower = receipt.text.to_ascii_lowercase();
        let state = match from_station {
            false => "received",
            true if lower.contains("not accepted") || lower.contains("block") => "refused",
            true if lower.contains("deliver") => "delivered",
            true if lower.contains("cach") => "cached",
            true => "told",
        };
        if from_station {
            sent.answered += 1;
            sent.failed |= state == "refused" && sent.letters <= 1;
        }
        let number = sent.number;
        let reason = receipt.replacements.as_ref().and_then(|r| r.get("reason")?.as_str());
        let said = match reason {
            Some(reason) => format!("{} {reason}", receipt.text),
            None => receipt.text.clone(),
        };
        self.receipt(number, state, &said, receiver.as_ref().or(Some(sender)));
    }

    /// The conversation that a message belongs to.
    fn conversation(&mut self, sender: &Id, opened: &Opened) -> Id {
        let named = opened.content.group.as_deref().and_then(|group| Id::parse(group).ok());
        let group = named.or_else(|| opened.message.group().cloned());
        let Some(group) = group.filter(|id| id.is_group() && !id.is_broadcast()) else {
            return sender.clone();
        };
        let group = group.naked();
        let members = self.members_of(&group);
        if members.is_empty() {
            self.ask_members(&group, sender);
        } else if !members.iter().any(|member| member.is_same_as(sender)) {
            // Whoever writes to us may name any group; only members speak in it.
            return sender.clone();
        }
        group
    }

    fn on_message(&mut self, sender: &Id, opened: &Opened) {
        let content = &opened.content;
        let with = self.conversation(sender, opened);
        if Self::is_somebody(sender) {
            self.book(|book| book.meet(sender));
        }
        if let Some(file) = attachment(content) {
            return self.on_file(sender, &with, content, file.data, file.filename);
        }
        let field = |name: &str| content.map.get(name).and_then(Value::as_str);
        let text = match content.kind {
            kind::PAGE => content.view::<Page>().map_or_else(
                |_| "[page]".to_owned(),
                |page| format!("[{}] {}", page.title, page.url.unwrap_or_default()),
            ),
            kind::CARD => content.view::<Card>().map_or_else(
                |_| "[card]".to_owned(),
                |card| format!("[card of {}] {}", card.name, card.did),
            ),
            number => {
                field("text").map_or_else(|| format!("[content of kind {number}]"), str::to_owned)
            }
        };
        let time = opened.message.time().or(content.time).unwrap_or_else(now_s);
        let fields = vec![
            ("conversation", with.as_str().into()),
            ("from", sender.as_str().into()),
            ("text", text.clone().into()),
        ];
        let who = self.speaker(sender, &with);
        let screen = format!("{} {who}: {text}", clock(time));
        self.show(Said::new("message", fields).shown(screen));
        self.remember(&with, json!({"time": time, "from": sender.as_str(), "text": text}));
    }

    fn speaker(&self, sender: &Id, with: &Id) -> String {
        match with.is_group() {
            true => format!("[{}] {}", self.name_of(with), self.called(sender)),
            false => self.called(sender),
        }
    }

    fn on_file(
        &mut self,
        sender: &Id,
        with: &Id,
        content: &Content,
        inside: Option<Vec<u8>>,
        name: Option<String>,
    ) {
        let name = name.unwrap_or_default();
        let bytes = match (inside, &self.upload_dir) {
            (Some(bytes), _) => Ok(bytes),
            (None, Some(folder)) => file::download(&mut Shelf(folder.clone()), content)
                .map_err(|error| error.to_string()),
            (None, None) => Err("it lies on a file server, and --upload-dir names none".to_owned()),
        };
        let saved = bytes.and_then(|bytes| {
            let length = bytes.len() as u64;
            if self.saved_bytes.saturating_add(length) > SAVED_BYTES_MAX {
                return Err("too many files came in this run".to_owned());
            }
            let path = files::save_download(&self.downloads, &name, &bytes)
                .map_err(|error| format!("{}: {error}", self.downloads.display()))?;
            self.saved_bytes += length;
            Ok((path, length))
        });
        let who = self.speaker(sender, with);
        let (path, length) = match saved {
            Ok(saved) => saved,
            Err(why) => return self.show(Said::error(&format!("file {name} of {who}: {why}"))),
        };
        let place = path.display().to_string();
        let fields = vec![
            ("conversation", with.as_str().into()),
            ("from", sender.as_str().into()),
            ("bytes", length.into()),
            ("path", place.clone().into()),
        ];
        let screen = format!("{} {who}: [file, {length} bytes: {place}]", clock(now_s()));
        self.show(Said::new("file", fields).shown(screen));
        self.remember(with, json!({"time": now_s(), "from": sender.as_str(), "file": place}));
    }
}
