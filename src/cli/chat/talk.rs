//! The conversation itself: what a command does, and what an event of the client becomes.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::{Refusal, now_s};
use super::ChatArgs;
use super::book::{Book, Found, short};
use super::command::{COMMANDS, Command, Until};
use super::files::{self, INLINE_BYTES_MAX, Shelf};
use super::said::{Said, clock};
use crate::client::account::Account;
use crate::client::blocking::Client;
use crate::client::file::{self, FILE_BYTES_MAX};
use crate::client::say;
use crate::client::source::{Groups, People};
use crate::client::terminal::Settings;
use crate::proto::address::EntityKind;
use crate::proto::command::{Ans, Block, Mute, Search, Stamp};
use crate::proto::content::{Attachment, Content, File, Image, kind};
use crate::proto::id::Id;
use crate::proto::kind::Kind;
use crate::wire::Framing;

/// Messages whose answers are awaited, and signatures by which answers speak of them.
const SENT_MAX: usize = 1024;
const SIGNATURES_MAX: usize = 8192;

/// Longest name of an account, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Name of the bot that knows the users.
const ARCHIVIST: &str = "archivist";

/// What a command leads to.
pub(super) enum Step {
    Done,
    Leave,
    /// Go on as somebody else.
    Switch(String),
    /// The next line has to wait.
    Wait {
        until: Awaited,
        seconds: u64,
    },
    /// The station was asked what this name means; then the line is to be tried again.
    Asked,
}

/// What the next line waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    Login,
    Receipts,
    Text(String),
}

/// Why a command was not done.
pub(super) enum Not {
    Said(String),
    /// Nobody here is called so; the station may know.
    Unknown(String),
}

impl<T: Into<String>> From<T> for Not {
    fn from(said: T) -> Self {
        Self::Said(said.into())
    }
}

pub(super) type Done<T> = Result<T, Not>;

/// A message of ours on its way.
pub(super) struct Sent {
    pub(super) token: u64,
    pub(super) number: u64,
    /// Messages that it became, one for each member of a group; none while it waits.
    pub(super) letters: u32,
    pub(super) acknowledged: u32,
    pub(super) answered: u32,
    pub(super) failed: bool,
}

impl Sent {
    pub(super) fn is_safe(&self) -> bool {
        self.failed || (self.letters > 0 && self.acknowledged.max(self.answered) >= self.letters)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.failed || (self.letters > 0 && self.answered >= self.letters)
    }
}

/// One account at one station.
pub(super) struct Talk {
    pub(super) client: Arc<Client<Book>>,
    pub(super) me: Id,
    place: String,
    framing: Framing,
    /// With whom.
    pub(super) to: Option<Id>,
    pub(super) downloads: PathBuf,
    pub(super) saved_bytes: u64,
    pub(super) upload_dir: Option<PathBuf>,
    last_number: u64,
    pub(super) sent: VecDeque<Sent>,
    /// By signature: the token.
    pub(super) signatures: HashMap<String, u64>,
    pub(super) signatures_order: VecDeque<String>,
    /// Commands whose answers are shown, by token.
    pub(super) asked: VecDeque<u64>,
    /// The handshake that was asked for, by token.
    pub(super) hello: Option<u64>,
    /// Whose profile is to be shown when it comes.
    pub(super) profiles: Vec<Id>,
    /// Names that the station was asked for.
    pub(super) names_asked: Vec<String>,
    /// Groups whose members were asked for in this run.
    pub(super) groups_asked: Vec<Id>,
    /// What is to be shown next.
    pub(super) out: Vec<Said>,
}

impl Talk {
    pub(super) fn start(
        args: &ChatArgs,
        settings: Settings,
        root: &Path,
        account: Account,
        book: Book,
    ) -> Result<Self, Refusal> {
        let me = account.id().clone();
        let place = format!("{}:{}", settings.host, settings.port);
        let (keys, framing) = (book.keys()?, settings.framing);
        let client = Client::start(settings, account, book, keys).map_err(Refusal::here)?;
        Ok(Self {
            client: Arc::new(client),
            me,
            place,
            framing,
            to: None,
            downloads: root.join("downloads"),
            saved_bytes: 0,
            upload_dir: args.upload_dir.clone(),
            last_number: 0,
            sent: VecDeque::new(),
            signatures: HashMap::new(),
            signatures_order: VecDeque::new(),
            asked: VecDeque::new(),
            hello: None,
            profiles: Vec::new(),
            names_asked: Vec::new(),
            groups_asked: Vec::new(),
            out: Vec::new(),
        })
    }

    pub(super) fn book<T>(&self, f: impl FnOnce(&mut Book) -> T) -> T {
        self.client.with(|terminal| f(terminal.messenger_mut().source_mut()))
    }

    /// Keeps the content keys: what comes after a crash may be covered with them.
    pub(super) fn save_keys(&mut self) {
        let saved = self.client.with(|terminal| {
            let keys = terminal.messenger().keys().save();
            terminal.messenger_mut().source_mut().save_keys(keys)
        });
        if let Err(error) = saved {
            self.show(Said::error(&error.to_string()));
        }
    }

    pub(super) fn name_of(&self, id: &Id) -> String {
        if id.is_same_as(&self.me) {
            return "you".to_owned();
        }
        self.book(|book| book.name_of(id))
    }

    /// Name and short ID, for people.
    pub(super) fn called(&self, id: &Id) -> String {
        let (name, short) = (self.name_of(id), short(id));
        if name == short { name } else { format!("{name} ({short})") }
    }

    pub(super) fn show(&mut self, said: Said) {
        self.out.push(said);
    }

    pub(super) fn note(&mut self, text: &str) {
        self.show(Said::note(text));
    }

    /// Does what a line says.
    pub(super) fn command(&mut self, command: Command<'_>) -> Done<Step> {
        match command {
            Command::Nothing => {}
            Command::Say(text) => {
                let to = self.to.clone().ok_or("to whom? choose somebody: /to WHO")?;
                self.say_to(&to, text);
            }
            Command::To(who) => self.talk_to(who)?,
            Command::Call(who) => {
                self.talk_to(who)?;
                self.profile(Some(who))?;
            }
            Command::File(path) => self.send_file(Path::new(path))?,
            Command::History(count) => self.history(count)?,
            Command::Profile(who) => self.profile(who)?,
            Command::Contacts => self.contacts(),
            Command::Nick { who, name } => self.nick(who, name)?,
            Command::Users => self.search(Search::ONLINE)?,
            Command::Search(words) => self.search(words)?,
            Command::Found { name, members } => self.found_group(name, &members)?,
            Command::Invite { group, members } => self.invite(group, &members)?,
            Command::Expel { group, members } => self.expel(group, &members)?,
            Command::Quit(group) => self.quit_group(group)?,
            Command::Members(group) => self.members(group)?,
            Command::Assist { group, bot } => self.assist(group, bot)?,
            Command::SayIn { group, text } => {
                let group = self.group(group)?;
                self.say_to(&group, text);
            }
            Command::Lists { mute } => self.lists(mute),
            Command::List { mute, add, who } => self.list(mute, add, who)?,
            Command::Name(name) => self.rename(name)?,
            Command::Login(who) => return Ok(Step::Switch(who.to_owned())),
            Command::Hello => self.hello(),
            Command::Station => self.station(),
            Command::Report { online } => self.report(online)?,
            Command::Wait { until, seconds } => {
                let until = match until {
                    Until::Login => Awaited::Login,
                    Until::Receipts => Awaited::Receipts,
                    Until::Text(text) => Awaited::Text(text.to_owned()),
                };
                return Ok(Step::Wait { until, seconds });
            }
            Command::Help => self.help(),
            Command::Exit => return Ok(Step::Leave),
        }
        Ok(Step::Done)
    }

    /// Whom a word stands for, by our own names first, then by the station's.
    pub(super) fn whom(&self, word: &str) -> Done<Id> {
        if ["me", "myself"].contains(&word) {
            return Ok(self.me.clone());
        }
        let id = match self.book(|book| book.find(word)) {
            Found::One(id) => id,
            Found::Several(all) => {
                let all: Vec<&str> = all.iter().map(Id::as_str).collect();
                return Err(format!("several are called {word}: {}", all.join(", ")).into());
            }
            Found::Nobody => {
                let told = self.client.with(|terminal| terminal.names().resolve(word).cloned());
                told.ok_or_else(|| Not::Unknown(word.to_owned()))?
            }
        };
        if id.is_broadcast() {
            return Err(format!("{word} is everybody, and nobody one can talk with").into());
        }
        Ok(id.naked())
    }

    /// Asks the station what a name means, unless that was done; whether it was asked now.
    pub(super) fn ask_name(&mut self, word: &str) -> bool {
        let online = self.client.with(|terminal| terminal.is_logged_in());
        if !online || self.names_asked.iter().any(|asked| asked == word) {
            return false;
        }
        self.names_asked.push(word.to_owned());
        self.client.send(&Id::station_any(), say::names_query(word));
        true
    }

    fn talk_to(&mut self, who: &str) -> Done<()> {
        let id = self.whom(who)?;
        if id.is_same_as(&self.me) {
            return Err("that is you".into());
        }
        self.book(|book| book.meet(&id));
        let called = self.called(&id);
        let fields = vec![("id", id.as_str().into()), ("name", self.name_of(&id).into())];
        self.show(Said::new("to", fields).shown(format!("- talking with {called}")));
        self.to = Some(id);
        Ok(())
    }

    fn say_to(&mut self, to: &Id, text: &str) {
        let number = self.send(to, say::text(text));
        let fields =
            vec![("number", number.into()), ("to", to.as_str().into()), ("text", text.into())];
        let screen = format!("{} #{number} you to {}: {text}", clock(now_s()), self.name_of(to));
        self.show(Said::new("sent", fields).shown(screen));
        self.remember(to, json!({"time": now_s(), "from": self.me.as_str(), "text": text}));
    }

    /// Sends what is answered by receipts; yields its number.
    fn send(&mut self, to: &Id, content: Map<String, Value>) -> u64 {
        self.book(|book| book.meet(to));
        let token = self.client.send(to, content);
        self.last_number += 1;
        let number = self.last_number;
        let (letters, acknowledged, answered, failed) = (0, 0, 0, false);
        let sent = Sent { token, number, letters, acknowledged, answered, failed };
        self.sent.push_back(sent);
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        number
    }

    /// Sends a command whose answer is to be shown.
    pub(super) fn ask(&mut self, to: &Id, content: Map<String, Value>) {
        self.asked.push_back(self.client.send(to, content));
        if self.asked.len() > SENT_MAX {
            self.asked.pop_front();
        }
    }

    pub(super) fn sign(&mut self, token: u64, signature: String) {
        self.signatures_order.push_back(signature.clone());
        self.signatures.insert(signature, token);
        if self.signatures_order.len() > SIGNATURES_MAX
            && let Some(oldest) = self.signatures_order.pop_front()
        {
            self.signatures.remove(&oldest);
        }
    }

    /// A content of ours, without the number and time that the messenger will give it.
    pub(super) fn content(value: &impl Kind) -> Map<String, Value> {
        let mut map = Content::of(Stamp { sn: 0, time: 0.0 }, value).to_map();
        map.shift_remove("sn");
        map.shift_remove("time");
        map
    }

    fn send_file(&mut self, path: &Path) -> Done<()> {
        let to = self.to.clone().ok_or("to whom? choose somebody: /to WHO")?;
        let limit = match self.upload_dir {
            Some(_) => FILE_BYTES_MAX as u64,
            None => INLINE_BYTES_MAX,
        };
        let (bytes, name) = files::read_upload(path, limit)?;
        let length = bytes.len() as u64;
        let content = match &self.upload_dir {
            Some(folder) => file::upload(&mut Shelf(folder.clone()), &bytes, &name)
                .map_err(|error| error.to_string())?,
            None => inline(&name, bytes),
        };
        let number = self.send(&to, content);
        let fields = vec![
            ("number", number.into()),
            ("to", to.as_str().into()),
            ("bytes", length.into()),
            ("text", name.clone().into()),
        ];
        let called = self.name_of(&to);
        let screen =
            format!("{} #{number} you to {called}: [{name}, {length} bytes]", clock(now_s()));
        self.show(Said::new("sent", fields).shown(screen));
        self.remember(&to, json!({"time": now_s(), "from": self.me.as_str(), "file": name}));
        Ok(())
    }

    /// Writes to the record of a conversation.
    pub(super) fn remember(&mut self, with: &Id, entry: Value) {
        let path = self.book(|book| book.record(with));
        if let Err(error) = files::remember(&path, &entry) {
            self.show(Said::error(&format!("{}: {error}", path.display())));
        }
    }

    fn history(&mut self, count: usize) -> Done<()> {
        let with = self.to.clone().ok_or("of which conversation? choose one: /to WHO")?;
        let path = self.book(|book| book.record(&with));
        let entries =
            files::recall(&path, count).map_err(|e| format!("{}: {e}", path.display()))?;
        if entries.is_empty() {
            self.note("nothing was said here yet");
        }
        for entry in entries {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
            let time = entry.get("time").and_then(Value::as_f64).unwrap_or_default();
            let said = match text("file") {
                "" => text("text").to_owned(),
                file => format!("[{file}]"),
            };
            let from = Id::parse(text("from")).ok();
            let called = from.map_or_else(|| "?".to_owned(), |id| self.name_of(&id));
            let fields = vec![
                ("time", time.into()),
                ("from", text("from").into()),
                ("text", said.clone().into()),
            ];
            let when = crate::base::time::utc(time);
            self.show(Said::new("history", fields).shown(format!("{when} {called}: {said}")));
        }
        Ok(())
    }

    fn profile(&mut self, who: Option<&str>) -> Done<()> {
        let id = match who {
            Some(who) => self.whom(who)?,
            None => self.me.clone(),
        };
        if id.is_same_as(&self.me) {
            self.show_profile(&id);
            return Ok(());
        }
        self.profiles.push(id.clone());
        if self.book(|book| book.meta(&id)).is_none() {
            self.client.send(&Id::station_any(), say::meta_query(&id));
        }
        self.ask(&Id::station_any(), say::documents_query(&id));
        Ok(())
    }

    /// What is known of somebody.
    pub(super) fn show_profile(&mut self, id: &Id) {
        let documents = self.book(|book| book.documents(id));
        let mut properties = Map::new();
        for document in documents.iter().rev() {
            properties.extend(document.properties().clone());
        }
        // Long, and of use to programs only.
        properties.remove("key");
        let name = self.name_of(id);
        let told = Value::Object(properties).to_string();
        let fields =
            vec![("id", id.as_str().into()), ("name", name.into()), ("text", told.clone().into())];
        let screen = format!("- {}\n{id}\n{told}", self.called(id));
        self.show(Said::new("profile", fields).shown(screen));
    }

    pub(super) fn show_user(&mut self, event: &'static str, id: &Id) {
        let fields = vec![("id", id.as_str().into()), ("name", self.name_of(id).into())];
        let screen = format!("- {:<20} {id}", self.name_of(id));
        self.show(Said::new(event, fields).shown(screen));
    }

    fn contacts(&mut self) {
        let all = self.book(|book| book.known());
        if all.is_empty() {
            self.note("nobody yet; whoever you write to, or who writes to you, is kept here");
        }
        for id in all {
            self.show_user(if id.is_group() { "group" } else { "contact" }, &id);
        }
    }

    fn nick(&mut self, who: &str, name: &str) -> Done<()> {
        if name.contains(char::is_whitespace)
            || name.len() > NAME_BYTES_MAX
            || name.starts_with('/')
        {
            return Err(format!("a name has no blanks and at most {NAME_BYTES_MAX} bytes").into());
        }
        if Id::parse(name).is_ok() {
            return Err("that is an ID, and nobody's name".into());
        }
        let id = self.whom(who)?;
        let text = id.as_str().to_owned();
        self.book(|book| {
            book.keep(|kept| {
                kept.nicknames.retain(|_, known| *known != text);
                kept.nicknames.insert(name.to_owned(), text);
            });
            book.meet(&id);
        });
        self.show_user("contact", &id);
        Ok(())
    }

    fn search(&mut self, words: &str) -> Done<()> {
        self.client
            .with(|terminal| terminal.names().resolve(ARCHIVIST).cloned())
            .ok_or_else(|| Not::Unknown(ARCHIVIST.to_owned()))?;
        let archivist = Id::parse("archivist@anywhere").map_err(|error| error.to_string())?;
        self.ask(
            &archivist,
            Self::content(&Search { keywords: words.to_owned(), ..Search::default() }),
        );
        Ok(())
    }

    /// Why a name leads nowhere.
    pub(super) fn nobody(word: &str) -> String {
        match word {
            ARCHIVIST => "this station has no archivist, the bot that knows its users".to_owned(),
            _ => format!("nobody is called {word}: no contact, and no short name of the station"),
        }
    }

    fn lists(&mut self, mute: bool) {
        let all = self
            .book(|book| if mute { book.kept.muted.clone() } else { book.kept.blocked.clone() });
        if all.is_empty() {
            self.note("nobody");
        }
        for id in super::book::ids(&all) {
            self.show_user(if mute { "muted" } else { "blocked" }, &id);
        }
    }

    fn list(&mut self, mute: bool, add: bool, who: &str) -> Done<()> {
        let id = self.whom(who)?;
        let text = id.as_str().to_owned();
        let list = self.book(|book| {
            book.keep(|kept| {
                let list = if mute { &mut kept.muted } else { &mut kept.blocked };
                list.retain(|known| *known != text);
                if add {
                    list.push(text);
                }
            });
            if mute { book.kept.muted.clone() } else { book.kept.blocked.clone() }
        });
        let list = Some(super::book::ids(&list));
        let content = match mute {
            true => Self::content(&Mute { list }),
            false => Self::content(&Block { list }),
        };
        self.ask(&Id::station_any(), content);
        Ok(())
    }

    fn rename(&mut self, name: &str) -> Done<()> {
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("a name has at most {NAME_BYTES_MAX} bytes").into());
        }
        let documents = self.client.with(|terminal| {
            let messenger = terminal.messenger_mut();
            let visa = messenger.account().document();
            let mut properties = visa.map(|visa| visa.properties().clone()).unwrap_or_default();
            properties.insert("name".into(), name.into());
            messenger.publish(properties, now_s()).map_err(|error| error.to_string())?;
            let account = messenger.account();
            let documents = account.documents().iter().map(|document| &**document);
            Ok::<_, String>(say::documents(account.id(), documents))
        })?;
        self.client.send(&Id::everyone(), documents.clone());
        let contacts = self.book(|book| super::book::ids(&book.kept.contacts));
        for contact in contacts.iter().take(crate::client::terminal::CONTACTS_TOLD_MAX) {
            self.client.send(contact, documents.clone());
        }
        let fields = vec![("id", self.me.as_str().into()), ("name", name.into())];
        self.show(Said::new("name", fields).shown(format!("- you are {name} now")));
        Ok(())
    }

    /// Shakes hands again; the station is shown when it has acknowledged that.
    fn hello(&mut self) {
        self.hello = Some(self.client.send(&Id::station_any(), say::handshake(None)));
        if self.framing == Framing::WebSocket {
            // There, nothing acknowledges it.
            self.station();
        }
    }

    pub(super) fn station(&mut self) {
        let (station, online, waiting) = self.client.with(|terminal| {
            (terminal.station().cloned(), terminal.is_logged_in(), terminal.unacknowledged())
        });
        let id = station.as_ref().map_or("-", Id::as_str).to_owned();
        let state = if online { "online" } else { "offline" };
        let fields = vec![
            ("place", self.place.clone().into()),
            ("id", id.clone().into()),
            ("state", state.into()),
            ("waiting", waiting.into()),
        ];
        let screen =
            format!("- station {id} at {}: {state}, {waiting} messages wait for it", self.place);
        self.show(Said::new("station", fields).shown(screen));
    }

    fn report(&mut self, online: bool) -> Done<()> {
        let station = self.client.with(|terminal| terminal.station().cloned());
        self.ask(&station.ok_or("not logged in yet")?, say::report(online));
        let text = match online {
            true => "the station sends messages again",
            false => "the station keeps messages for you until /online",
        };
        self.note(text);
        Ok(())
    }

    fn help(&mut self) {
        for (name, args, does) in COMMANDS {
            let form = format!("/{name} {args}");
            let fields = vec![("command", form.trim().into()), ("text", (*does).into())];
            self.show(Said::new("help", fields).shown(format!("  {form:<32} {does}")));
        }
    }

    /// What a terminal may complete a word to.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.book(|book| {
            let known = book.known();
            let names = known.iter().map(|id| book.name_of(id));
            names.chain(known.iter().map(|id| id.as_str().to_owned())).collect()
        });
        words.retain(|word| !word.contains(char::is_whitespace));
        words
    }

    /// Whether an answer about names has come that this line waits for.
    pub(super) fn told_names(&mut self, content: &Content) -> bool {
        content.view::<Ans>().is_ok_and(|ans| {
            let (records, missed) =
                (ans.records.unwrap_or_default(), ans.missed.unwrap_or_default());
            self.names_asked.iter().any(|name| records.contains_key(name) || missed.contains(name))
        })
    }

    /// Whether a sender is a person or bot, and not a station.
    pub(super) fn is_somebody(id: &Id) -> bool {
        id.kind() != EntityKind::Station
    }

    pub(super) fn members_of(&self, group: &Id) -> Vec<Id> {
        self.book(|book| Groups::members(book, group))
    }
}

fn inline(name: &str, bytes: Vec<u8>) -> Map<String, Value> {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    let file = Attachment::inside(name, bytes);
    match ending.as_deref() {
        Some("png" | "jpg" | "jpeg" | "gif" | "webp") => {
            Talk::content(&Image { file, ..Image::default() })
        }
        _ => Talk::content(&File { file }),
    }
}

/// The file of a content, whatever it shows.
pub(super) fn attachment(content: &Content) -> Option<Attachment> {
    use crate::proto::content::{Audio, Video};
    match content.kind {
        kind::FILE => content.view::<File>().ok().map(|it| it.file),
        kind::IMAGE => content.view::<Image>().ok().map(|it| it.file),
        kind::AUDIO => content.view::<Audio>().ok().map(|it| it.file),
        kind::VIDEO => content.view::<Video>().ok().map(|it| it.file),
        _ => None,
    }
}
