//! What operators do to a station that runs: settings read again, log files moved away, a second start,
//! a service manager. The real program, driven by signals.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts programs, writes files and stops at the first surprise"
)]

mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use kit::{Client, Form, PATIENCE, Person, Station, command};
use rustix::process::Signal;
use serde_json::{Value, json};

const ALICE: &str = "archivist@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR";
const BOB: &str = "hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj";

/// The service manager's end of its socket.
struct Service {
    socket: UnixDatagram,
}

impl Service {
    /// For a station that has not been started.
    fn of(station: &mut Station) -> Self {
        let path = station.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        station.set_env("NOTIFY_SOCKET", path);
        Self { socket }
    }

    fn next(&self) -> String {
        let mut heard = [0; 256];
        let length = self.socket.recv(&mut heard).expect("the station says something");
        String::from_utf8(heard[..length].to_vec()).unwrap()
    }

    /// SIGHUP, until the station says that it has dealt with it.
    fn reload(&self, station: &Station) {
        station.signal(Signal::HUP);
        let said = self.next();
        let us = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&said);
        assert!(us.parse::<u64>().unwrap() > 0);
        assert_eq!(self.next(), "READY=1");
    }
}

/// A station with these settings, and its service manager.
fn serviced(settings: &str, flags: &[&str]) -> (Station, Service) {
    let mut station = Station::stopped(flags);
    station.write_settings(settings);
    let service = Service::of(&mut station);
    station.restart();
    assert_eq!(service.next(), "READY=1");
    (station, service)
}

/// What a name stands for.
fn asked(client: &mut Client, name: &str) -> Value {
    let from = client.inbox.len();
    client.send(&client.who.ask(&command("ans", json!({"names": name}))));
    let answer = client.wait_from(from, "an answer", |m| m.command("ans").is_some());
    answer.command("ans").unwrap()["records"][name].clone()
}

fn names(pairs: &[(&str, &str)]) -> String {
    let lines: String = pairs.iter().map(|(name, id)| format!("{name} = \"{id}\"\n")).collect();
    format!("[ans]\n{lines}")
}

/// What has been logged, after the station has ended: its lines are written by a thread of their own.
fn log_at_the_end(station: &mut Station) -> String {
    assert!(station.terminate(PATIENCE).expect("it ends").success());
    station.log()
}

#[test]
fn names_and_bounds_change_without_a_restart_and_what_cannot_is_named() {
    let before = format!("shards = 2\n{}", names(&[("helper", ALICE), ("old", ALICE)]));
    let (mut station, service) = serviced(&before, &[]);
    let mut early = station.login(&Person::new(), Form::Mtp);
    assert_eq!(asked(&mut early, "helper"), ALICE);
    assert_eq!(asked(&mut early, "old"), ALICE);

    let after = names(&[("helper", BOB)]);
    station.write_settings(&format!(
        "shards = 3\n{after}[listen]\nport = 9\n[limits]\nmessage_bytes_max = 20000\n\
         idle_ms_max = 90000\n[store]\ncache_mib = 64\n"
    ));
    service.reload(&station);
    let mut late = station.login(&Person::new(), Form::Mtp);
    for client in [&mut late, &mut early] {
        // The answer to a second question: the first may have met the change on its way.
        asked(client, "helper");
        assert_eq!(asked(client, "helper"), BOB);
        assert_eq!(asked(client, "old"), Value::Null);
    }
    // The bound of a message is that of its connection's beginning.
    let long = |client: &Client| client.who.letter(&client.who, 30_000);
    let letter = long(&early);
    early.send(&letter);
    early.wait_letter(&letter);
    let letter = long(&late);
    late.send(&letter);
    late.leave();

    service.reload(&station);
    let log = log_at_the_end(&mut station);
    let line = |part: &str| log.lines().find(|line| line.contains(part)).expect(part).to_owned();
    let changed = line("settings read again");
    for key in ["ans.helper", "ans.old", "limits.idle_ms_max", "limits.message_bytes_max"] {
        assert!(changed.contains(key), "{changed}");
    }
    assert!(line("WARN").ends_with("takes effect at the next start: shards, store.cache_mib"));
    let again = log.matches("takes effect at the next start").count();
    assert_eq!(again, 2, "said as long as it is so\n{log}");
    assert_eq!(log.matches("settings read again changed=\"\"").count(), 1, "{log}");
}

#[test]
fn waits_that_become_shorter_hold_for_what_waits_already() {
    let settings = "[limits]\nlogin_ms_max = 3600000\nidle_ms_max = 3600000\n";
    let (station, service) = serviced(settings, &["--shards", "2"]);
    let mut stranger = station.connect(&Person::new(), Form::Mtp);
    stranger.ping();
    station.write_settings("[limits]\nlogin_ms_max = 50\n");
    service.reload(&station);
    let until = std::time::Instant::now() + PATIENCE;
    assert_eq!(stranger.hear(until), kit::Heard::End);
}

#[test]
fn a_broken_file_changes_nothing_and_is_reported_with_its_line() {
    let (mut station, service) = serviced(&names(&[("helper", ALICE)]), &[]);
    let mut client = station.login(&Person::new(), Form::Mtp);
    let other = names(&[("helper", BOB)]);
    for broken in [
        format!("{other}[limits]\nidle_msmax = 1\n"),
        format!("{other}x = \"nobody\"\n"),
        format!("{other}[log]\ndir = \"station.toml\"\n"),
        format!("{other}[log]\nlevel = \"loud\"\n"),
    ] {
        station.write_settings(&broken);
        service.reload(&station);
        assert_eq!(asked(&mut client, "helper"), ALICE);
        assert_eq!(asked(&mut client, "x"), Value::Null);
    }
    fs::remove_file(station.data_dir().join("station.toml")).unwrap();
    service.reload(&station);
    assert_eq!(asked(&mut client, "helper"), ALICE);
    let log = log_at_the_end(&mut station);
    assert_eq!(log.matches("settings stay as they are").count(), 5, "{log}");
    for part in [
        "data/station.toml:4:1: limits.idle_msmax: unknown key; did you mean `idle_ms_max`?",
        "data/station.toml:3:1: ans.x: not an ID",
        "log.dir ",
        "data/station.toml:4:1: log.level: not a log level",
        "data/station.toml: the config file is gone",
    ] {
        assert!(log.contains(part), "{part:?} in {log}");
    }
}

#[test]
fn a_log_file_that_was_moved_away_is_made_anew_and_the_level_changes() {
    let settings = |level| format!("[log]\ndir = \"../lines\"\nlevel = \"{level}\"\n");
    let (mut station, service) = serviced(&settings("info"), &[]);
    let dir = station.folder().join("lines");
    let files = || -> Vec<_> {
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let name = files().pop().unwrap();
    assert!(name.to_str().unwrap().starts_with("dims.log."), "{name:?}");
    fs::rename(dir.join(&name), station.folder().join("moved")).unwrap();
    station.write_settings(&settings("warn"));
    service.reload(&station);
    assert_eq!(files().len(), 1);
    station.write_settings(&settings("info"));
    service.reload(&station);
    assert_eq!(log_at_the_end(&mut station), "", "standard error stays empty");
    let moved = fs::read_to_string(station.folder().join("moved")).unwrap();
    assert!(!moved.contains("settings read again"), "{moved}");
    let new = fs::read_to_string(dir.join(files().pop().unwrap())).unwrap();
    assert_eq!(new.matches("settings read again").count(), 1, "not the one at `warn`: {new}");
    assert!(new.contains("stopped"), "{new}");
    // A line that waits for its thread meanwhile goes to the new file.
    assert_eq!((moved + &new).matches("the station is up").count(), 1);
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time() {
    let mut station = Station::stopped(&[]);
    fs::write(station.log_path(), "").unwrap();
    let at = fs::metadata(station.log_path()).unwrap();
    station.set_env("JOURNAL_STREAM", format!("{}:{}", at.dev(), at.ino()));
    station.write_settings("[log]\nlevel = \"dim=debug\"\n");
    station.restart();
    station.login(&Person::new(), Form::Mtp).leave();
    station.write_settings("[log]\nlevel = \"x\"\n");
    station.signal(Signal::HUP);
    let log = log_at_the_end(&mut station);
    assert!(log.lines().any(|line| line.starts_with("<6>dim::server::start: the station is up")));
    for line in log.lines() {
        let priority = line.get(..3).unwrap_or_default();
        assert!(["<3>", "<4>", "<6>", "<7>"].contains(&priority), "{line}");
        assert!(!line.contains("INFO") && !line.contains('\u{1b}'), "{line}");
    }

    // A shell that redirects standard error leaves the variable behind.
    let mut station = Station::stopped(&[]);
    station.set_env("JOURNAL_STREAM", format!("{}:{}", at.dev(), at.ino() + 1));
    station.restart();
    let log = log_at_the_end(&mut station);
    assert!(log.contains(" INFO dim::server::start: the station is up"), "{log}");
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    let mut station = Station::stopped(&["--shards", "2"]);
    let service = Service::of(&mut station);
    station.set_env("WATCHDOG_USEC", "300000");
    station.restart();
    assert_eq!(service.next(), "READY=1");
    for _ in 0..3 {
        assert_eq!(service.next(), "WATCHDOG=1");
    }
    assert!(station.terminate(PATIENCE).expect("it ends").success());
    let rest = std::iter::from_fn(|| Some(service.next()));
    let mut last = rest.skip_while(|said| said == "WATCHDOG=1");
    assert_eq!(last.next().unwrap(), "STOPPING=1");
}

/// Every file below a folder, by path: when it was changed and what it holds.
fn picture(folder: &Path) -> BTreeMap<String, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(picture(&path));
        } else {
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            let name = path.to_str().unwrap().to_owned();
            found.insert(name, (changed, fs::read(&path).unwrap()));
        }
    }
    found
}

fn dims(station: &Station, line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dims"));
    for name in ["CONFIG", "DATA_DIR", "HOST", "PORT", "ANS", "LOG"] {
        command.env_remove(format!("DIM_{name}"));
    }
    command.args(line).arg("--data-dir").arg(station.data_dir()).output().unwrap()
}

#[test]
fn a_second_start_ends_at_once_and_leaves_no_trace() {
    let station = Station::start(&[]);
    let mut client = station.login(&Person::new(), Form::Mtp);
    let before = picture(&station.data_dir());
    for _ in 0..3 {
        for word in ["run", "check"] {
            let output = dims(&station, &[word, "--port", "0"]);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            let pid = format!("(process {})", station.pid());
            assert!(said.contains("a station runs already in ") && said.contains(&pid), "{said}");
        }
    }
    assert!(before == picture(&station.data_dir()), "nothing in the folder was changed");
    client.ping();
}

#[test]
fn a_killed_station_leaves_its_folder_free() {
    let mut station = Station::start(&[]);
    station.kill();
    assert!(station.data_dir().join("dims.pid").exists());
    station.restart();
    let pid = fs::read_to_string(station.data_dir().join("dims.pid")).unwrap();
    assert_eq!(pid.trim(), station.pid().to_string());
}

/// The folder of the station's account below `public` or `private`.
fn account_folder(station: &Station, kind: &str) -> std::path::PathBuf {
    station.data_dir().join(kind).join(station.id.split('@').nth(1).unwrap())
}

#[test]
fn the_stations_visa_is_renewed_at_every_start() {
    let visa_time = |station: &Station| {
        let path = account_folder(station, "public").join("documents.js");
        let documents: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let visa = documents["documents"][0]["data"].as_str().unwrap();
        serde_json::from_str::<Value>(visa).unwrap()["time"].as_f64().unwrap()
    };
    let mut station = Station::start(&[]);
    for _ in 0..2 {
        assert!(station.terminate(PATIENCE).expect("it ends").success());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(visa_time(&station) < now);
        station.restart();
        assert!(visa_time(&station) >= now, "renewed at the start");
    }
}

#[test]
fn no_start_without_the_stations_own_keys() {
    let mut station = Station::start(&[]);
    assert!(station.terminate(PATIENCE).expect("it ends").success());
    let id = format!("station.id={}", station.id);
    let secret = account_folder(&station, "private").join("secret.js");
    fs::remove_file(&secret).unwrap();
    for line in [&["run", "--port", "0", "--set", &id][..], &["run", "--port", "0"]] {
        let before = picture(&station.data_dir().join("public"));
        let output = dims(&station, line);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        let wrong = format!("{}: no such file", secret.display());
        assert!(said.contains(&wrong) && said.contains("put the keys of "), "{said}");
        assert!(output.stdout.is_empty(), "nothing is announced: {output:?}");
        assert!(before == picture(&station.data_dir().join("public")), "nothing was written");
    }
}

#[test]
fn no_secret_is_said_at_any_level() {
    let mut station = Station::start(&["--log", "trace"]);
    let (alice, bob) = (Person::new(), Person::new());
    let mut sessions = Vec::new();
    let mut letters = Vec::new();
    for form in Form::ALL {
        let mut at_alice = station.login(&alice, form);
        let mut at_bob = station.login(&bob, form);
        let letter = alice.letter(&bob, 200);
        at_alice.send(&letter);
        at_bob.wait_letter(&letter);
        // A key that is not this connection's, and what is no message at all.
        at_bob.send(&bob.hello(at_alice.session.as_deref()));
        at_bob.send(&kit::Letter { signature: String::new(), text: b"{\"sender\":1}".to_vec() });
        sessions.extend([at_alice.session.clone().unwrap(), at_bob.session.clone().unwrap()]);
        letters.push(serde_json::from_slice::<Value>(&letter.text).unwrap());
        at_alice.leave();
    }
    let log = log_at_the_end(&mut station);
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "it says a lot: {log}");
    for session in &sessions {
        assert!(!log.contains(session), "a session key");
    }
    for letter in &letters {
        assert!(!log.contains(letter["data"].as_str().unwrap()), "a message");
        assert!(!log.contains(letter["key"].as_str().unwrap()), "a content key");
    }
    assert!(!log.contains("PRIVATE KEY"), "{log}");
    for entry in fs::read_dir(account_folder(&station, "private")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        // Any line of a PEM between its bounds.
        let lines: Vec<&str> = text.split("\\n").filter(|line| line.len() > 40).collect();
        assert!(!lines.is_empty(), "the file holds keys");
        assert!(lines.iter().all(|line| !log.contains(line)), "a private key");
    }
}
