//! A command of an application's own: two users play dice through a station that knows nothing of it.
//!
//!     cargo run --no-default-features --example command -- HOST PORT

use std::time::Duration;

use dim::client::account::Account;
use dim::client::blocking::{Client, now_s};
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::terminal::{Event, Settings};
use dim::proto::command::Stamp;
use dim::proto::content::{Content, ContentError};
use dim::proto::field::Source;
use dim::proto::kind::{Key, Kind};
use serde_json::{Map, Value};

/// `{"command": "dice", "sides": 6}` asks, with `thrown` it answers.
struct Dice {
    sides: u64,
    thrown: Option<u64>,
}

impl Kind for Dice {
    const KEYS: &'static [Key<'static>] = &[Key::Command("dice")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        Ok(Self { sides: source.field(&["sides"])?, thrown: source.field(&["thrown"])? })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        map.insert("sides".to_owned(), self.sides.into());
        if let Some(thrown) = self.thrown {
            map.insert("thrown".to_owned(), thrown.into());
        }
    }
}

type User = Client<Directory>;

fn say(from: &User, to: &dim::proto::id::Id, dice: &Dice) {
    let stamp: Stamp = from.with(|terminal| terminal.messenger_mut().stamp(now_s()));
    from.send(to, Content::of(stamp, dice).to_map());
}

/// The next throw, or question for one, that comes.
fn heard(at: &User) -> Result<(dim::proto::id::Id, Dice), Box<dyn std::error::Error>> {
    while let Some(event) = at.next_event(Duration::from_secs(30)) {
        if let Event::Received(came) = event
            && let Ok(dice) = came.content.view::<Dice>()
        {
            return Ok((came.message.sender().clone(), dice));
        }
    }
    Err("nothing came within 30 seconds".into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [host, port] = words.try_into().map_err(|_| "HOST PORT")?;
    let settings = Settings::new(&host, port.parse()?);
    let start = |name: &str| -> Result<User, Box<dyn std::error::Error>> {
        let account = Account::register(name, now_s())?;
        Ok(Client::start(settings.clone(), account, Directory::default(), KeyStore::default())?)
    };
    let (asker, thrower) = (start("Asker")?, start("Thrower")?);
    let bank = thrower.with(|terminal| terminal.messenger().account().id().clone());
    // The station must know the receiver's key before anybody can write to them.
    let mut known = false;
    while !known {
        let event = thrower.next_event(Duration::from_secs(30)).ok_or("no station answers")?;
        known = matches!(event, Event::LoggedIn { .. });
    }

    say(&asker, &bank, &Dice { sides: 6, thrown: None });
    let (player, Dice { sides, .. }) = heard(&thrower)?;
    let thrown = Some(1 + (now_s() * 1e6) as u64 % sides.max(1));
    say(&thrower, &player, &Dice { sides, thrown });
    let (_, answer) = heard(&asker)?;
    println!("a die of {} sides shows {}", answer.sides, answer.thrown.unwrap_or_default());
    Ok(())
}
