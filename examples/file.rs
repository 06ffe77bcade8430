//! Sends a file from one user to another; a folder stands for the server that keeps it.
//!
//!     cargo run --no-default-features --example file -- HOST PORT FILE FOLDER

#![allow(clippy::disallowed_methods, reason = "a program of its own may open files")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use dim::base::digest::sha256;
use dim::base::encode::hex_encode;
use dim::client::account::Account;
use dim::client::blocking::{Client, now_s};
use dim::client::directory::Directory;
use dim::client::file::{self, FileServer};
use dim::client::keys::KeyStore;
use dim::client::terminal::{Event, Settings};

/// Where covered files lie, under the digest of their bytes.
struct Shelf(PathBuf);

impl FileServer for Shelf {
    type Error = std::io::Error;

    fn upload(&mut self, covered: &[u8], _name: &str) -> std::io::Result<String> {
        let path = self.0.join(hex_encode(&sha256(covered)));
        std::fs::write(&path, covered)?;
        Ok(format!("file:{}", path.display()))
    }

    fn download(&mut self, url: &str) -> std::io::Result<Vec<u8>> {
        let name = Path::new(url).file_name().ok_or(std::io::ErrorKind::NotFound)?;
        std::fs::read(self.0.join(name))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, path, folder] = words.try_into().map_err(|_| "HOST PORT FILE FOLDER")?;
    let port = port.parse()?;
    let mut shelf = Shelf(folder.into());
    let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy();
    let start = |name: &str| -> Result<_, Box<dyn std::error::Error>> {
        let (account, settings) = (Account::register(name, now_s())?, Settings::new(&host, port));
        let id = account.id().clone();
        Ok((Client::start(settings, account, Directory::default(), KeyStore::default())?, id))
    };
    let (alice, _) = start("Alice")?;
    let (bob, bob_id) = start("Bob")?;

    alice.send(&bob_id, file::upload(&mut shelf, &std::fs::read(&path)?, &name)?);
    while let Some(event) = bob.next_event(Duration::from_secs(60)) {
        if let Event::Received(came) = event
            && let Ok(bytes) = file::download(&mut shelf, &came.content)
        {
            println!("{} bytes of {name} from {}", bytes.len(), came.message.sender());
            return Ok(());
        }
    }
    Err("the file did not come".into())
}
