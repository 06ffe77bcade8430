//! The bots as programs of their own, and users of the library who talk to them.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Instant;

use dim::client::account::Account;
use dim::client::blocking::{Client, now_s};
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::terminal::{Event, Settings};
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::command::Stamp;
use dim::proto::content::Content;
use dim::proto::id::Id;
use dim::proto::kind::Kind;
use dim::proto::meta::MetaKind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{PATIENCE, Station};

/// `dims bot`, on a folder below the station's.
pub(crate) struct Bot {
    pub(crate) child: Child,
    pub(crate) id: Id,
    /// What it says on standard output.
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

impl Bot {
    pub(crate) fn start(name: &str, folder: &Path, port: u16) -> Self {
        Self::start_with(name, folder, port, &[])
    }

    pub(crate) fn start_with(name: &str, folder: &Path, port: u16, flags: &[&str]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let mut child = Command::new(env!("CARGO_BIN_EXE_dims"))
            .args(["bot", name, "--log", "debug", "--station", &format!("127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(folder.join(name))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let id = lines.next().unwrap().unwrap();
        let id = Id::parse(id.strip_prefix("bot").unwrap().trim()).unwrap();
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line, format!("[ans]    {name} = \"{id}\""));
        Self { child, id, lines }
    }

    pub(crate) fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A station that knows a bot by its name, and the bot.
pub(crate) fn with_bot(name: &str) -> (Station, Bot, TempDir) {
    with_bot_in(tempfile::tempdir().unwrap(), name, &[])
}

/// Writes the settings of a bot that has not been started yet.
pub(crate) fn write_bot_settings(place: &Path, name: &str, text: &str) {
    let dir = place.join(name);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
    std::fs::write(dir.join(name).with_extension("toml"), text).unwrap();
}

/// The same in a place with settings.
pub(crate) fn with_bot_in(place: TempDir, name: &str, flags: &[&str]) -> (Station, Bot, TempDir) {
    // Nobody listens at port 1: its account is made all the same.
    let id = Bot::start(name, place.path(), 1).id.clone();
    let ans = format!("{name}={id}");
    let station = Station::start(&[&["--ans", &ans], flags].concat());
    let bot = Bot::start(name, place.path(), station.address.port());
    assert_eq!(bot.id, id, "the account stays");
    (station, bot, place)
}

pub(crate) struct User {
    pub(crate) client: Client<Directory>,
    pub(crate) id: Id,
    pub(crate) events: Vec<Event>,
}

impl User {
    pub(crate) fn login(station: &Station, account: Account) -> Self {
        let id = account.id().clone();
        let settings = Settings {
            pause_ms_min: 50,
            pause_ms_max: 400,
            ..Settings::new("127.0.0.1", station.address.port())
        };
        let client = Client::start(settings, account, Directory::default(), KeyStore::default());
        let mut user = Self { client: client.unwrap(), id, events: Vec::new() };
        user.wait("a login", |event| matches!(event, Event::LoggedIn { .. }).then_some(()));
        user
    }

    /// What the first event says that says it; events are looked at once.
    pub(crate) fn wait<T>(&mut self, what: &str, found: impl Fn(&Event) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(event) = self.client.next_event(left) else {
                panic!("{what} did not come, only {:#?}", self.events)
            };
            let said = found(&event);
            self.events.push(event);
            if let Some(said) = said {
                return said;
            }
        }
    }

    /// The next content from `sender`, but for where it is logged in, which comes with its documents.
    pub(crate) fn wait_from(&mut self, sender: &Id) -> Map<String, Value> {
        self.wait("an answer", |event| match event {
            Event::Received(came) if came.message.sender().is_same_as(sender) => {
                let said = came.content.map.clone();
                (said.get("command") != Some(&json!("login"))).then_some(said)
            }
            _ => None,
        })
    }

    /// The next content from `sender` with this text.
    pub(crate) fn wait_text(&mut self, sender: &Id, text: &str) -> Map<String, Value> {
        self.wait(text, |event| match event {
            Event::Received(came) if came.message.sender().is_same_as(sender) => {
                let said = &came.content.map;
                (said.get("text") == Some(&json!(text))).then(|| said.clone())
            }
            _ => None,
        })
    }

    /// Sends `value` to `to`, and yields what `from` answers.
    pub(crate) fn ask(&mut self, to: &str, from: &Id, value: &impl Kind) -> Map<String, Value> {
        self.client.send(&Id::parse(to).unwrap(), unstamped(value));
        self.wait_from(from)
    }
}

/// A content whose number and time the messenger puts in.
pub(crate) fn unstamped(value: &impl Kind) -> Map<String, Value> {
    let mut map = Content::of(Stamp { sn: 0, time: 0.0 }, value).to_map();
    map.shift_remove("sn");
    map.shift_remove("time");
    map
}

/// A key as quickly made as the published clients make theirs.
pub(crate) fn account(name: &str) -> Account {
    let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
    let properties = Map::from_iter([("name".to_owned(), name.into())]);
    Account::create(MetaKind::Eth, 0, None, sign, message, now_s() - 1.0, properties).unwrap()
}
