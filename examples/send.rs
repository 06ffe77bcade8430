//! Registers somebody, and sends a text to somebody else.
//!
//!     cargo run --no-default-features --example send -- HOST PORT ID TEXT
//!
//! Whoever is written to must have been at the station once: their key is there.

use std::time::Duration;

use dim::client::account::Account;
use dim::client::blocking::{Client, now_s};
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::say;
use dim::client::terminal::{Event, Settings};
use dim::proto::id::Id;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, receiver, text] = words.try_into().map_err(|_| "HOST PORT ID TEXT")?;
    let receiver = Id::parse(&receiver)?;
    let account = Account::register("Sender", now_s())?;
    println!("from {}", account.id());

    let settings = Settings::new(&host, port.parse()?);
    let client = Client::start(settings, account, Directory::default(), KeyStore::default())?;
    // It may be sent at once: it waits for the login, and for the receiver's key.
    let token = client.send(&receiver, say::text(&text));
    while let Some(event) = client.next_event(Duration::from_secs(30)) {
        match event {
            Event::LoggedIn { station } => println!("logged in at {station}"),
            Event::Acknowledged { token: sent } if sent == token => {
                println!("the station has it");
                client.close();
                return Ok(());
            }
            Event::Failed { why, .. } => return Err(format!("not sent: {why:?}").into()),
            _ => {}
        }
    }
    Err("no answer within 30 seconds; is the receiver known there?".into())
}
