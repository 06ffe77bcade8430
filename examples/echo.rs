//! A bot that answers every text with the same text.
//!
//!     cargo run --no-default-features --example echo -- [ws] HOST PORT
//!
//! Prints its ID once it has logged in, and ends when its input does.

#![allow(clippy::disallowed_methods, reason = "a program of its own may start threads")]

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dim::client::account::Account;
use dim::client::blocking::{Client, now_s};
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::say;
use dim::client::terminal::{Event, Settings};
use dim::wire::Framing;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let web = words.first().is_some_and(|word| word == "ws");
    let [host, port] = words.split_off(usize::from(web)).try_into().map_err(|_| "HOST and PORT")?;
    let mut settings = Settings::new(&host, port.parse()?);
    if web {
        settings.framing = Framing::WebSocket;
    }
    let account = Account::register("Echo", now_s())?;
    let id = account.id().clone();
    let bot = Client::start(settings, account, Directory::default(), KeyStore::default())?;

    let ended = Arc::new(AtomicBool::new(false));
    let end = ended.clone();
    std::thread::spawn(move || {
        let read = std::io::stdin().read_to_end(&mut Vec::new());
        end.store(true, Ordering::Relaxed);
        read
    });
    while !ended.load(Ordering::Relaxed) {
        match bot.next_event(Duration::from_millis(100)) {
            Some(Event::LoggedIn { .. }) => println!("{id}"),
            Some(Event::Received(came)) if came.content.kind == say::TEXT => {
                let text = came.content.map.get("text").and_then(|text| text.as_str());
                bot.send(came.message.sender(), say::text(text.unwrap_or_default()));
            }
            _ => {}
        }
    }
    bot.close();
    Ok(())
}
