//! `dims chat` through pipes, against the real station: two and three who talk, files, absence,
//! restarts, and lines that mean nothing.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts programs and stops at the first surprise"
)]

mod kit;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use kit::{PATIENCE, Station};
use serde_json::Value;
use tempfile::TempDir;

fn command(station: &Station, folder: &Path, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dims"));
    command
        .args(["chat", "--as", name, "--station", &station.address.to_string(), "--data-dir"])
        .arg(folder);
    command
}

/// A chat that runs, and what it has said.
struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    heard: Vec<String>,
    at: usize,
    name: String,
}

impl Chat {
    fn start(station: &Station, folder: &Path, name: &str, flags: &[&str]) -> Self {
        let mut command = command(station, folder, name);
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines, heard: Vec::new(), at: 0, name: name.to_owned() }
    }

    /// One that has logged in; yields its ID, too.
    fn login(station: &Station, folder: &Path, name: &str) -> (Self, String) {
        let mut chat = Self::start(station, folder, name, &[]);
        let account = chat.wait("account 0x");
        chat.wait("login ");
        let id = account.split(' ').nth(1).unwrap().to_owned();
        assert!(account.ends_with(name), "{account}");
        (chat, id)
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line with `part` after the one waited for before.
    fn wait(&mut self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some(line) = self.heard.get(self.at) {
                self.at += 1;
                if line.contains(part) {
                    return line.clone();
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.heard.push(line),
                Err(_) => panic!("{} did not hear {part:?}, only {:#?}", self.name, self.heard),
            }
        }
    }

    /// The end of the input; yields the exit code and all that was said.
    fn end(mut self) -> (i32, Vec<String>) {
        drop(self.input.take());
        let code = self.child.wait().unwrap().code().unwrap();
        self.heard.extend(self.lines.iter());
        (code, std::mem::take(&mut self.heard))
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A chat whose whole input is there from the start.
fn script(station: &Station, folder: &Path, name: &str, flags: &[&str], lines: &str) -> Output {
    let mut command = command(station, folder, name);
    command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn folders() -> [TempDir; 3] {
    [(); 3].map(|()| tempfile::tempdir().unwrap())
}

#[test]
fn two_talk_both_ways_with_files_and_receipts() {
    let station = Station::start(&[]);
    let [here, there, _] = folders();
    let (mut alice, alice_id) = Chat::login(&station, here.path(), "Alice");
    let (mut bob, bob_id) = Chat::login(&station, there.path(), "Bob");
    alice.say(&format!("/nick {bob_id} bobby"));
    alice.say("/to bobby");
    alice.say("hello, \u{1b}[2J you");
    let came = bob.wait("message ");
    assert_eq!(came, format!("message {alice_id} {alice_id} hello, \u{fffd}[2J you"));
    // The station's word and the reader's, whichever is faster.
    let mut receipts = [alice.wait("receipt 1 "), alice.wait("receipt 1 ")];
    receipts.sort();
    for (receipt, state) in receipts.iter().zip(["delivered", "received"]) {
        assert!(receipt.starts_with(&format!("receipt 1 {state} {bob_id} ")), "{receipt}");
    }

    let secret = here.path().join("cat.bin");
    fs::write(&secret, b"\x00\xffcat").unwrap();
    alice.say(&format!("/file {}", secret.display()));
    let came = bob.wait("file ");
    let path = Path::new(came.rsplit(' ').next().unwrap());
    assert_eq!(path, there.path().join("downloads/cat.bin"));
    assert_eq!(fs::read(path).unwrap(), b"\x00\xffcat");

    bob.say("/to Alice");
    bob.say("thanks");
    alice.wait("thanks");
    // Whoever waits for the answer of the station needs no pause.
    bob.say("/wait receipts");
    bob.say("/name Robert");
    bob.wait("name ");
    alice.say("/profile bobby");
    alice.wait("\"name\":\"Robert\"");
    bob.say(&format!("/block {alice_id}"));
    bob.wait("note ");
    alice.say("are you there?");
    alice.wait("receipt 3 ");
    for chat in [alice, bob] {
        let (code, heard) = chat.end();
        assert_eq!(code, 0, "{heard:#?}");
        assert!(!heard.iter().any(|line| line.starts_with("message") && line.contains("there?")));
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let own = there.path().join("chat").join(&bob_id);
    let record = own.join("history").join(format!("{alice_id}.jsonl"));
    for path in [record, own.join("book.json"), own.join("keys.json")] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn what_was_said_while_away_comes_and_the_record_survives_restarts() {
    let mut station = Station::start(&[]);
    let [here, there, _] = folders();
    let (bob, bob_id) = Chat::login(&station, there.path(), "Bob");
    assert_eq!(bob.end().0, 0);
    let (mut alice, _) = Chat::login(&station, here.path(), "Alice");
    alice.say(&format!("/to {bob_id}"));
    alice.say("while you were away");
    alice.wait("receipt 1 cached");

    station.kill();
    alice.wait("disconnected ");
    alice.say("into the dark");
    station.restart_here();
    alice.wait("login ");
    alice.wait("receipt 2 ");
    assert_eq!(alice.end().0, 0);

    let lines = "/wait 60 away\n/wait 60 dark\n/to Alice\nI was out\n/exit\n";
    let output = script(&station, there.path(), "Bob", &[], lines);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    let again =
        script(&station, there.path(), "Bob", &["--ws"], "/wait login\n/to Alice\n/history\n");
    let told = text_of(&again);
    let said: Vec<&str> = told.lines().filter(|line| line.starts_with("history ")).collect();
    let ends = ["while you were away", "into the dark", "I was out"];
    assert_eq!(said.len(), 3, "{told}");
    assert!(said.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{told}");
}

#[test]
fn three_talk_in_a_group_and_one_is_put_out() {
    let station = Station::start(&[]);
    let folders = folders();
    let (mut alice, alice_id) = Chat::login(&station, folders[0].path(), "Alice");
    let (mut bob, bob_id) = Chat::login(&station, folders[1].path(), "Bob");
    let (mut carol, carol_id) = Chat::login(&station, folders[2].path(), "Carol");
    alice.say(&format!("/group new friends {bob_id} {carol_id}"));
    let made = alice.wait("group ");
    let group = made.split(' ').nth(1).unwrap().to_owned();
    for chat in [&mut bob, &mut carol] {
        let told = chat.wait("group ");
        for id in [&group, &alice_id, &bob_id, &carol_id] {
            assert!(told.contains(id.as_str()), "{told}");
        }
    }
    alice.say("welcome");
    let welcome = format!("message {group} {alice_id} welcome");
    assert_eq!([bob.wait("message "), carol.wait("message ")], [welcome.clone(), welcome]);
    bob.say("/group send friends hello all");
    let hello = format!("message {group} {bob_id} hello all");
    assert_eq!([alice.wait("message "), carol.wait("message ")], [hello.clone(), hello]);

    // Not hers to decide.
    carol.say(&format!("/group expel friends {bob_id}"));
    carol.wait("error only its owner");
    alice.say(&format!("/group expel friends {bob_id}"));
    for chat in [&mut bob, &mut carol] {
        assert!(!chat.wait("group ").contains(&bob_id));
    }
    carol.say("/group quit friends");
    let told = [alice.wait("group "), alice.wait("group ")];
    assert_eq!(told[0], format!("group {group} friends {alice_id} {carol_id}"));
    assert_eq!(told[1], format!("group {group} friends {alice_id}"));
    // Who is no member speaks for itself only.
    bob.say("/group send friends still here?");
    let lone = format!("message {bob_id} {bob_id} still here?");
    assert_eq!(alice.wait("message "), lone);
    for chat in [alice, bob] {
        let (code, heard) = chat.end();
        assert_eq!(code, 0, "{heard:#?}");
    }
    assert_eq!(carol.end().0, 1);
}

#[test]
fn each_line_that_means_nothing_is_answered_by_one_line() {
    let station = Station::start(&[]);
    let [folder, ..] = folders();
    let big = folder.path().join("big");
    fs::write(&big, vec![0; (1 << 20) + 1]).unwrap();
    let long = "x".repeat(70_000);
    let lines = [
        ("/dance".to_owned(), "there is no command /dance"),
        ("hello?".to_owned(), "to whom?"),
        ("/to nobody-here".to_owned(), "nobody is called nobody-here"),
        ("/to me".to_owned(), "that is you"),
        ("/to everyone".to_owned(), "everybody"),
        ("/group".to_owned(), "usage: /group new"),
        ("/users".to_owned(), "no archivist"),
        (long, "at most 65536 bytes"),
        ("/file nowhere".to_owned(), "to whom?"),
        ("/to moky@anywhere".to_owned(), "everybody"),
        ("/wait 1 something that nobody says".to_owned(), "came in time"),
        ("/to 0xC718114F1207bac31Dd5F7686485699e5361A952".to_owned(), "to 0xC71"),
        ("/file nowhere".to_owned(), "nowhere: "),
        (format!("/file {}", big.display()), "longer than 1024 KiB"),
    ];
    let input: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let input = format!("/wait login\n{input}");
    let output = script(&station, folder.path(), "Alice", &[], &input);
    let told = text_of(&output);
    let answers: Vec<&str> =
        told.lines().filter(|line| line.starts_with("error ") || line.starts_with("to ")).collect();
    assert_eq!(answers.len(), lines.len(), "{told}");
    for (answer, (line, part)) in answers.iter().zip(&lines) {
        assert!(answer.contains(part), "{line:.40}: {answer}");
    }
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "dims: 13 things were not done\n");
}

#[test]
fn json_has_an_object_a_line_and_names_that_do_not_change() {
    let station = Station::start(&[]);
    let [folder, ..] = folders();
    let input = "/wait login\n/station\n/help\n/nope\n";
    let output = script(&station, folder.path(), "Alice", &["--json", "--ws"], input);
    let events: Vec<Value> =
        text_of(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |event: &str| events.iter().find(|it| it["event"] == event).unwrap();
    assert_eq!(find("account")["name"], "Alice");
    assert_eq!(find("login")["station"], station.id.as_str());
    assert_eq!(find("station")["state"], "online");
    assert!(find("error")["text"].as_str().unwrap().contains("/nope"));
    assert!(find("help")["command"].as_str().unwrap().starts_with('/'));
}

#[test]
fn a_command_line_that_cannot_be_meant_is_refused() {
    let station = Station::start(&[]);
    let [folder, other, _] = folders();
    for flags in [&["--station", "nowhere"][..], &["--station", ":1"], &["--dance"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_dims"))
            .args(["chat", "--data-dir"])
            .arg(folder.path())
            .args(flags)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(output.stdout.is_empty());
    }
    let (alice, id) = Chat::login(&station, folder.path(), "Alice");
    let second = script(&station, folder.path(), "Alice", &[], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8(second.stderr).unwrap().contains("already"));
    assert_eq!(alice.end().0, 0);
    let stranger = script(&station, other.path(), &id, &[], "");
    assert_eq!(stranger.status.code(), Some(1));
}

#[test]
fn one_goes_on_as_another_account_and_a_long_file_goes_by_a_shelf() {
    let station = Station::start(&[]);
    let [here, there, shelf] = folders();
    let flags = ["--upload-dir", shelf.path().to_str().unwrap()];
    let mut bob = Chat::start(&station, there.path(), "Bob", &flags);
    let bob_id = bob.wait("account 0x").split(' ').nth(1).unwrap().to_owned();
    bob.wait("login ");
    let long = here.path().join("long.bin");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    fs::write(&long, &bytes).unwrap();
    let lines = format!(
        "/wait login\n/login Dora\n/wait login\n/to {bob_id}\n/file {}\n/offline\n/online\n/mute {bob_id}\n",
        long.display()
    );
    let output = script(&station, here.path(), "Alice", &flags, &lines);
    let told = text_of(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let accounts: Vec<&str> = told.lines().filter(|line| line.starts_with("account ")).collect();
    assert!(accounts[0].ends_with(" Alice") && accounts[1].ends_with(" Dora"), "{told}");
    let came = bob.wait("file ");
    assert!(came.contains(accounts[1].split(' ').nth(1).unwrap()), "{came}");
    assert_eq!(fs::read(came.rsplit(' ').next().unwrap()).unwrap(), bytes);
    let covered = fs::read_dir(shelf.path()).unwrap().next().unwrap().unwrap().path();
    assert!(!fs::read(covered).unwrap().windows(64).any(|part| part == &bytes[..64]));
    assert_eq!(bob.end().0, 0);
}
