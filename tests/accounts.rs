//! `dims id`, `dims import` and `dims export` from outside.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts programs and writes files"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use dim::base::encode::base64_encode;
use dim::client::account::Account;
use dim::client::folder::Folder;
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::address::EntityKind;
use dim::proto::id::Id;
use dim::proto::meta::MetaKind;
use dim::store::rocks::{RocksSettings, RocksStore};
use dim::store::{QueueKey, Store, StoreAnswer, StoreOp};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs in a folder of its own, with `answers` on standard input and nothing of the surroundings.
fn dims(folder: &Path, line: &[&str], answers: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dims"));
    for name in ["CONFIG", "DATA_DIR", "HOST", "PORT", "ANS", "LOG"] {
        command.env_remove(format!("DIM_{name}"));
    }
    let mut child = command
        .args(line)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that asks nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same, which must be fine.
fn fine(folder: &Path, line: &[&str], answers: &str) -> String {
    let said = dims(folder, line, answers);
    assert_eq!(said.code, 0, "{line:?}: {}", said.err);
    assert_eq!(said.err, "", "{line:?}");
    said.out
}

fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn data(place: &TempDir) -> Folder {
    Folder::below(&place.path().join("dim-data"))
}

fn id_in(out: &str) -> Id {
    let text = out.lines().find_map(|line| line.strip_prefix("New ID: ")).unwrap();
    Id::parse(text).unwrap()
}

fn generate(place: &TempDir, line: &[&str]) -> Id {
    id_in(&fine(place.path(), &[&["id", "generate"], line].concat(), ""))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// All files below, by name.
fn files(below: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![below.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found
                    .insert(path.strip_prefix(below).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn an_account_of_every_type_is_made_by_flags() {
    let place = place();
    let founder = generate(&place, &["USER"]);
    let founded = ["--founder", founder.as_str()];
    for (line, kind, network, seed) in [
        (&["USER"][..], EntityKind::User, 0, None),
        (&["User", "--meta=btc"], EntityKind::User, 0, None),
        (&["user", "--seed", "moki"], EntityKind::User, 0, Some("moki")),
        (&["STATION", "--seed=gsp-s001"], EntityKind::Station, 2, Some("gsp-s001")),
        (&["STATION", "--key=rsa-1024"], EntityKind::Station, 2, Some("station")),
        (&["ROBOT", "--seed=assistant"], EntityKind::Bot, 4, Some("assistant")),
        (&["ROBOT"], EntityKind::Bot, 4, Some("robot")),
        (&["BOT", "--key=RSA-2048", "--message-key=1024"], EntityKind::Bot, 4, Some("bot")),
        (&[&["GROUP", "--seed=club"][..], &founded].concat(), EntityKind::Group, 1, Some("club")),
        (&[&["ISP", "--seed=gsp"][..], &founded].concat(), EntityKind::Provider, 3, Some("gsp")),
        (&[&["icp", "--seed=x"][..], &founded].concat(), EntityKind::ContentProvider, 5, Some("x")),
    ] {
        let id = generate(&place, line);
        assert_eq!((id.kind(), id.network(), id.name()), (kind, network, seed), "{line:?}");
        // Reads and proves everything.
        let account = data(&place).account(&id, None).unwrap();
        assert_eq!(account.message_keys().len(), usize::from(!id.is_group()), "{line:?}");
        fine(place.path(), &["id", "show", id.as_str()], "");
        fine(place.path(), &["id", "show", id.address()], "");
    }
    let listed = fine(place.path(), &["id", "list"], "");
    assert_eq!(listed.lines().count(), 12);
    let group = generate(&place, &["GROUP", founded[0], founded[1]]);
    assert!(group.name().unwrap().starts_with("group-"));
}

#[test]
fn what_was_said_by_flags_stands_in_the_document() {
    let place = place();
    let line = ["STATION", "--name=Our Station", "--host=dim.example.com", "--port=9400"];
    let id = generate(&place, &line);
    let account = data(&place).account(&id, None).unwrap();
    let said = |name: &str| account.document().unwrap().properties().get(name).cloned();
    assert_eq!(said("name"), Some(json!("Our Station")));
    assert_eq!((said("host"), said("port")), (Some(json!("dim.example.com")), Some(json!(9400))));
}

#[test]
fn secrets_are_their_owners_and_never_shown() {
    let place = place();
    let id = generate(&place, &["USER", "--key=ecc"]);
    let private = place.path().join("dim-data/private").join(id.address());
    assert_eq!(mode(&private), 0o700);
    for name in ["secret.js", "secret_keys.js"] {
        assert_eq!(mode(&private.join(name)), 0o600, "{name}");
    }
    let shown = fine(place.path(), &["id", "show", id.as_str()], "");
    for expected in ["ETH, ECC key, proven", "visa, 2", "RSA-2048", "fits the meta"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn modifying_by_flags_signs_anew_and_keeps_the_keys() {
    let place = place();
    let id = generate(&place, &["STATION"]);
    let before = data(&place).account(&id, None).unwrap();
    let private = place.path().join("dim-data/private");
    let keys = files(&private);
    let line = ["id", "modify", id.as_str(), "--name=New", "--host=a.example", "--port=1"];
    let out = fine(place.path(), &line, "");
    for expected in ["name = New\n", "host = a.example\n", "port = 1\n"] {
        assert!(out.contains(expected), "{out}");
    }
    let after = data(&place).account(&id, None).unwrap();
    let (old, new) = (before.document().unwrap(), after.document().unwrap());
    assert!(old.time() < new.time());
    assert_eq!(old.visa_key(), new.visa_key());
    assert_eq!(old.properties().get("created_time"), new.properties().get("created_time"));
    assert_eq!(after.documents().len(), 1);
    assert_eq!(files(&private), keys);

    let user = generate(&place, &["USER"]);
    let group = generate(&place, &["GROUP", "--founder", user.as_str()]);
    let line =
        ["id", "modify", group.as_str(), "--owner", user.as_str(), "--administrator", id.as_str()];
    fine(place.path(), &line, "");
    let bulletin = data(&place).account(&group, None).unwrap().document().unwrap().clone();
    assert_eq!(bulletin.properties()["owner"], json!(user.as_str()));
    assert_eq!(bulletin.properties()["founder"], json!(user.as_str()));
    let stranger = generate(&place, &["USER"]);
    let line = ["id", "modify", group.as_str(), "--founder", stranger.as_str()];
    let said = dims(place.path(), &line, "");
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.err.contains("belongs to another id"), "{}", said.err);
}

#[test]
fn a_user_of_2019_is_given_a_message_key() {
    let place = place();
    let folder = data(&place);
    let (sign, open) = (SignKey::generate_rsa(1024).unwrap(), OpenKey::generate(1024).unwrap());
    let old =
        Account::create(MetaKind::Mkm, 8, Some("hulk"), sign, open, 1000.0, Map::new()).unwrap();
    folder.save_meta(old.meta()).unwrap();
    let private = folder.private.join(old.id().address());
    fs::create_dir_all(&private).unwrap();
    let key = Value::Object(old.sign_key().to_map().unwrap()).to_string();
    fs::write(private.join("private_key.js"), key).unwrap();
    fine(place.path(), &["id", "modify", old.id().as_str(), "--name=Hulk"], "");
    let new = folder.account(old.id(), None).unwrap();
    assert_eq!(new.message_keys().len(), 1);
    let offered = new.document().unwrap().visa_key();
    assert_eq!(offered, Some(&new.message_keys()[0].public_map().unwrap()));
    assert_eq!(mode(&private.join("secret.js")), 0o600);
}

#[test]
fn help_is_fine_and_wrong_usage_is_two() {
    let place = place();
    for line in [
        &["id", "help"][..],
        &["id", "--help"],
        &["id", "help", "generate"],
        &["id", "help", "modify"],
        &["id", "generate", "-h"],
        &["id", "modify", "--help"],
        &["help", "import"],
        &["export", "--help"],
    ] {
        assert!(fine(place.path(), line, "").contains("Usage: dims"), "{line:?}");
    }
    let user = generate(&place, &["USER"]);
    for line in [
        &["id"][..],
        &["id", "walk"],
        &["id", "generate", "THING"],
        &["id", "generate", "GROUP"],
        &["id", "generate", "USER", "--founder", user.as_str()],
        &["id", "generate", "USER", "--host=x"],
        &["id", "generate", "STATION", "--meta=ETH"],
        &["id", "generate", "USER", "--key=rsa-2048"],
        &["id", "generate", "USER", "--meta=BTC", "--seed=x"],
        &["id", "generate", "GROUP", "--founder", user.as_str(), "--key=ecc"],
        &["id", "generate", "--seed=x"],
        &["id", "generate", "--name=x"],
        &["id", "modify", user.as_str(), "--port=70000"],
        &["id", "modify", user.as_str(), "--port=7000"],
        &["id", "modify"],
        &["import"],
        &["export"],
    ] {
        let said = dims(place.path(), line, "");
        assert_eq!(said.code, 2, "{line:?}: {}", said.err);
        assert!(!said.err.is_empty());
    }
    assert_eq!(fine(place.path(), &["id", "list"], "").lines().count(), 1);
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_written() {
    let place = place();
    let station = generate(&place, &["STATION"]);
    let strange = "0x52908400098527886E0F7030069857D2E4169EE7";
    let before = files(place.path());
    for (line, answers, expected) in [
        (&["id", "generate", "BOT", "--seed=two words"][..], "", "cannot be the name in an ID"),
        (&["id", "generate", "BOT", "--seed="], "", "cannot be the name in an ID"),
        (&["id", "generate", "GROUP", "--founder", strange], "", "founder"),
        (&["id", "modify", strange, "--name=x"], "", "is not known here"),
        (&["id", "modify", strange], "", "is not known here"),
        (&["id", "modify", "everyone@everywhere"], "", "is not the ID of an account"),
        (&["id", "show", strange], "", "is not known here"),
        (&["id", "generate"], "", "the input ended"),
        (&["id", "generate"], "2\n", "the input ended"),
        (&["id", "generate"], "2\ntwo words\n", "cannot be the name in an ID"),
        (&["id", "generate"], "2\nx\nname\nhost\n", "the input ended"),
        (&["id", "generate"], "1\nx\n\n", "is not the ID of an account"),
        (&["id", "generate"], &format!("1\nx\n{strange}\n"), "founder"),
        (&["id", "modify", station.as_str()], "name\n", "the input ended"),
    ] {
        let said = dims(place.path(), line, answers);
        assert_eq!(said.code, 1, "{line:?} {answers:?}: {} {}", said.out, said.err);
        assert!(said.err.starts_with("dims: ") && said.err.contains(expected), "{}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        assert!(files(place.path()) == before, "{line:?} {answers:?}");
    }
}

#[test]
fn everything_is_asked_for_when_no_type_is_given() {
    let place = place();
    let answers = "7\nstation\n2\n gsp \nOur Station\n\nport\n9400\n";
    let out = fine(place.path(), &["id", "generate"], answers);
    let id = out.lines().find_map(|line| line.strip_prefix("!!! ID: ")).unwrap();
    let id = Id::parse(id).unwrap();
    assert_eq!((id.kind(), id.name()), (EntityKind::Station, Some("gsp")));
    for expected in [
        "Generating DIM account...\n--- address type(s) ---\n    0: User\n",
        ">>> please input address type: !!! address type error: 7\n",
        ">>> please input address type: !!! address type: 2\n!!! meta type: 1\n",
        ">>> please input ID.name (default is \"test_station\"): !!! ID.name (meta seed): gsp\n",
        ">>>   please input station name (default is \"Base Station\"): <<<   name = Our Station;\n",
        ">>>   please input station host (default is \"127.0.0.1\"): <<<   host = 127.0.0.1;\n",
        ">>>   please input station port (default is 9394): !!! station port error: port\n",
        "!!! meta type: 1, document type: visa, name: \"Our Station\"\n!!!\n",
        "!!! private key: ECC, msg keys: ['RSA']\n",
    ] {
        assert!(out.contains(expected), "{expected:?} in {out}");
    }
    let out = fine(place.path(), &["id", "modify", id.as_str()], "\nb.example\n\n");
    for expected in [
        "Modifying DIM account...\n!!!\n",
        "station name (default is \"Our Station\"): <<<   name = Our Station;\n",
        "station port (default is 9400): <<<   port = 9400;\n",
    ] {
        assert!(out.contains(expected), "{expected:?} in {out}");
    }
    let visa = data(&place).account(&id, None).unwrap().document().unwrap().clone();
    assert_eq!(visa.properties()["host"], json!("b.example"));
    assert_eq!(visa.properties()["port"], json!(9400));
}

#[test]
fn the_references_configuration_names_the_folders() {
    let place = place();
    let ini = "[database]\nroot = theirs\nprivate = keys\n";
    fs::write(place.path().join("config.ini"), ini).unwrap();
    for line in [
        &["id", "--config=config.ini", "generate", "BOT"][..],
        &["id", "generate", "--config=config.ini", "BOT"],
        &["id", "--config", "config.ini", "--log-dir=logs", "generate", "BOT"],
    ] {
        let id = id_in(&fine(place.path(), line, ""));
        assert!(place.path().join("keys").join(id.address()).join("secret.js").is_file());
        assert!(place.path().join("theirs/public").join(id.address()).join("meta.js").is_file());
    }
    assert!(!place.path().join("logs").exists());
}

/// An account as the reference would have made it, with a card of `time`.
fn person(name: &str, time: f64) -> Account {
    let (sign, open) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
    let card = Map::from_iter([("name".to_owned(), name.into())]);
    Account::create(MetaKind::Eth, 0, None, sign, open, time, card).unwrap()
}

/// The record of a login at `station`, signed by `who`.
fn login(who: &Account, device: &str, time: u32) -> Value {
    let sender = who.id().dressed(device).unwrap();
    let station = json!({"did": "gsp@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR", "host": "h", "port": 1});
    let command = json!({"type": "136", "sn": time, "time": time, "command": "login",
        "did": sender.as_str(), "station": station});
    let text = command.to_string();
    let signature = base64_encode(&who.sign_key().sign(text.as_bytes()).unwrap());
    let message = json!({"sender": sender.as_str(), "receiver": "everyone@everywhere",
        "time": time, "data": text, "signature": signature});
    json!({"cmd": command, "msg": message})
}

fn write(path: &Path, value: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

/// What a store holds of everybody, by user.
fn kept(data: &Path) -> BTreeMap<String, [Option<Value>; 3]> {
    let store = RocksStore::open(data.join("store"), RocksSettings::default()).unwrap();
    let mut all = BTreeMap::new();
    let mut last: Option<std::sync::Arc<str>> = None;
    // Pages of two, so that their seams are met.
    loop {
        let users = store.users(last.as_deref(), 2).unwrap();
        for user in &users {
            let StoreAnswer::User(found) = store.read(&StoreOp::LoadUser { user: user.clone() })
            else {
                panic!()
            };
            let parts = [found.meta, found.documents, found.logins]
                .map(|part| part.map(|bytes| serde_json::from_slice(&bytes).unwrap()));
            assert!(all.insert(user.to_string(), parts).is_none());
        }
        match users.last() {
            Some(user) => last = Some(user.clone()),
            None => return all,
        }
    }
}

/// A reference's folder with everything that can lie in one.
fn old_station(root: &Path) -> Vec<Account> {
    let folder = Folder::below(root);
    let people: Vec<_> = (0..5).map(|n| person(&format!("p{n}"), 1e9 + f64::from(n))).collect();
    for (number, account) in people.iter().enumerate() {
        folder.save_meta(account.meta()).unwrap();
        let public = folder.public.join(account.id().address());
        let visa = Value::Object(account.document().unwrap().to_map());
        match number {
            0 => write(&public.join("profile.js"), &visa),
            1 => write(&public.join("document.js"), &visa),
            2 => write(&public.join("documents.js"), &json!([visa])),
            _ => write(&public.join("documents.js"), &json!({"documents": [visa]})),
        }
    }
    let owner = &people[3];
    folder.save(owner).unwrap();
    let records = [login(owner, "phone", 5), login(owner, "pad", 7), login(owner, "phone", 3)];
    folder.save_logins(owner.id(), &records).unwrap();
    let contacts = root.join("private").join(owner.id().address()).join("contacts.js");
    write(&contacts, &json!([people[0].id().as_str()]));
    let blocked = root.join("protected").join(owner.id().address()).join("block_stored.js");
    let block =
        json!({"type": 136, "command": "block", "time": 5.0, "list": [people[0].id().as_str()]});
    write(&blocked, &block);
    write(&root.join("protected/ans.js"), &json!({"archivist": owner.id().as_str()}));
    write(&root.join("public/providers.js"), &json!([{"did": "gsp@everywhere", "chosen": 1}]));
    write(&root.join("public/everywhere/stations.js"), &json!([]));
    people
}

#[test]
fn an_import_takes_everything_and_may_be_repeated() {
    let place = place();
    let root = place.path().join("old");
    let people = old_station(&root);
    let theirs = files(&root);
    let line = ["import", "old", "--data-dir", "ours"];
    let out = fine(place.path(), &line, "");
    for expected in [
        "metas         5 new, 0 known, 0 outdated\n",
        "documents     5 new, 0 known, 0 outdated\n",
        "logins        2 new, 0 known, 1 outdated\n",
        "lists         1 new, 0 known, 0 outdated\n",
        "private keys  1 new, 0 known, 0 outdated\n",
        "other files   4 new, 0 known, 0 outdated\n",
        "damaged       0\n",
    ] {
        assert!(out.contains(expected), "{expected:?} in {out}");
    }
    assert!(files(&root) == theirs, "the source was changed");
    let ours = place.path().join("ours");
    let first = kept(&ours);
    assert_eq!(first.len(), 5);
    let [_, documents, logins] = &first[people[3].id().as_str()];
    assert_eq!(documents.as_ref().unwrap()[0]["did"], json!(people[3].id().as_str()));
    let devices: Vec<_> =
        logins.as_ref().unwrap().as_array().unwrap().iter().map(|r| &r["cmd"]["time"]).collect();
    assert_eq!(devices, [&json!(7), &json!(5)]);
    let account = Folder::below(&ours).account(people[3].id(), None).unwrap();
    assert_eq!(account.message_keys().len(), 1);
    let secret = ours.join("private").join(account.id().address()).join("secret.js");
    assert_eq!(mode(&secret), 0o600);

    let before = files(&ours.join("private"));
    let out = fine(place.path(), &line, "");
    for expected in ["metas         0 new, 5", "documents     0 new, 5", "private keys  0 new, 1"] {
        assert!(out.contains(expected), "{expected:?} in {out}");
    }
    assert!(kept(&ours) == first && files(&ours.join("private")) == before);
}

#[test]
fn an_export_can_be_imported_and_is_the_same() {
    let place = place();
    old_station(&place.path().join("old"));
    fine(place.path(), &["import", "old", "--data-dir=one"], "");
    fine(place.path(), &["id", "generate", "STATION", "--data-dir=one"], "");
    fine(place.path(), &["export", "files", "--data-dir=one"], "");
    fine(place.path(), &["import", "files", "--data-dir=two"], "");
    let (one, mut two) = (kept(&place.path().join("one")), kept(&place.path().join("two")));
    // The station's own account is in files only, until it is imported.
    let station = two.keys().find(|id| id.starts_with("station@")).unwrap().clone();
    two.remove(&station);
    assert!(one == two && one.len() == 5);
    for folder in ["private", "protected"] {
        // Lists are in the store, unlike the other files.
        let of = |root: &str| {
            let mut files = files(&place.path().join(root).join(folder));
            files.retain(|name, _| !name.ends_with("block_stored.js"));
            files
        };
        assert!(of("one") == of("files") && of("one") == of("two"), "{folder}");
    }
    fine(place.path(), &["export", "again", "--data-dir=two"], "");
    assert!(files(&place.path().join("files")) == files(&place.path().join("again")));
    fine(place.path(), &["export", "nothing", "--data-dir=three"], "");
    assert_eq!(mode(&place.path().join("nothing")), 0o700);
    let said = dims(place.path(), &["export", "files", "--data-dir=one"], "");
    assert_eq!((said.code, said.err.contains("is not empty")), (1, true));
}

#[test]
fn each_damaged_or_forged_file_is_named_and_the_rest_imported() {
    let place = place();
    let root = place.path().join("old");
    let people = old_station(&root);
    let [a, b, c, owner, e] = &people[..] else { panic!() };
    let public =
        |who: &Account, name: &str| root.join("public").join(who.id().address()).join(name);
    fs::write(public(a, "meta.js"), "{\"type\": 4, \"ke").unwrap();
    fs::copy(public(c, "meta.js"), public(b, "meta.js")).unwrap();
    let mut forged = c.document().unwrap().to_map();
    forged.insert("data".into(), "{\"name\": \"Eve\", \"time\": 2000000000}".into());
    let visa = c.document().unwrap().to_map();
    write(&public(c, "documents.js"), &json!({"documents": [forged, visa]}));
    let mut moved = login(owner, "phone", 5);
    moved["cmd"]["station"]["host"] = json!("evil.example");
    let mut unsigned = login(owner, "pad", 7);
    unsigned["msg"]["data"] = json!(unsigned["msg"]["data"].as_str().unwrap().replace("1", "2"));
    let records = [moved, unsigned, login(e, "phone", 9), login(owner, "tv", 1)];
    Folder::below(&root).save_logins(owner.id(), &records).unwrap();
    let private = |name: &str| root.join("private").join(owner.id().address()).join(name);
    write(&private("secret.js"), &e.sign_key().to_map().unwrap().into());
    fs::write(root.join("protected/ans.js"), "{").unwrap();
    fs::remove_file(public(e, "meta.js")).unwrap();

    let said = dims(place.path(), &["import", "old"], "");
    assert_eq!(said.code, 1, "{}", said.out);
    let relative = |path: PathBuf| path.strip_prefix(place.path()).unwrap().display().to_string();
    let logins = relative(public(owner, "login_commands.js"));
    let mut expected = vec![
        format!("dims: {}: not valid json", relative(public(a, "meta.js"))),
        format!("dims: {}: belongs to another id", relative(public(b, "meta.js"))),
        format!("dims: {}: entry 1: signature does not match", relative(public(c, "documents.js"))),
        format!("dims: {logins}: entry 1: this should hold the command that the message holds"),
        format!("dims: {logins}: entry 2: signature does not match"),
        format!("dims: {logins}: entry 3: belongs to another id"),
        format!("dims: {}: this should hold the key of the meta", relative(private("secret.js"))),
        "dims: old/protected/ans.js: not valid json".to_owned(),
        format!(
            "dims: {}: this should hold the meta; without it nothing else here can be proven",
            relative(public(e, "meta.js"))
        ),
        "dims: 9 damaged, all others imported".to_owned(),
    ];
    expected.sort();
    let mut named: Vec<_> = said.err.lines().map(str::to_owned).collect();
    named.sort();
    assert_eq!(named, expected);
    assert!(said.out.contains("damaged       9\n"), "{}", said.out);
    let kept = kept(&place.path().join("dim-data"));
    assert_eq!(kept.keys().map(String::as_str).collect::<Vec<_>>().len(), 2);
    let [_, documents, _] = &kept[c.id().as_str()];
    assert_eq!(documents.as_ref().unwrap().as_array().unwrap().len(), 1);
    let [.., logins] = &kept[owner.id().as_str()];
    assert_eq!(logins.as_ref().unwrap().as_array().unwrap().len(), 1);
    assert!(
        !place
            .path()
            .join("dim-data/private")
            .join(owner.id().address())
            .join("secret.js")
            .exists()
    );
}

#[test]
fn an_import_never_replaces_what_is_newer_or_a_key() {
    let place = place();
    let root = place.path().join("old");
    let folder = Folder::below(&root);
    let mut who = person("one", 1000.0);
    folder.save(&who).unwrap();
    let old = files(&root);
    who.publish(Map::new(), 2000.0).unwrap();
    folder.save(&who).unwrap();
    fine(place.path(), &["import", "old"], "");
    let before = kept(&place.path().join("dim-data"));
    for (name, bytes) in old {
        fs::write(root.join(name), bytes).unwrap();
    }
    let out = fine(place.path(), &["import", "old"], "");
    assert!(out.contains("documents     0 new, 0 known, 1 outdated\n"), "{out}");
    assert_eq!(kept(&place.path().join("dim-data")), before);
    let account = data(&place).account(who.id(), None).unwrap();
    assert_eq!(account.document().unwrap().time(), Some(2000.0));
}

#[test]
fn nothing_is_imported_while_the_folder_is_in_use() {
    let place = place();
    old_station(&place.path().join("old"));
    let data = place.path().join("dim-data");
    let store = RocksStore::open(data.join("store"), RocksSettings::default()).unwrap();
    for line in [&["import", "old"][..], &["export", "new"]] {
        let said = dims(place.path(), line, "");
        assert_eq!(said.code, 1);
        assert!(said.err.contains("is in use by another process"), "{}", said.err);
    }
    drop(store);
    assert!(kept(&data).is_empty() && !data.join("private").exists());
    let said = dims(place.path(), &["import", "nowhere"], "");
    assert_eq!((said.code, said.err.contains("is a folder")), (1, true), "{}", said.err);
}

/// A redis server that holds `mail` (an ID and its messages) and answers one program after another.
fn redis(mail: Vec<(String, Vec<Value>)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let list = |items: Vec<String>| format!("*{}\r\n{}", items.len(), items.concat());
    let mut answers = BTreeMap::new();
    let names = mail.iter().map(|(id, _)| bulk(&format!("dkd.msg.{id}.messages"))).collect();
    answers.insert("SCAN".to_owned(), list(vec![bulk("0"), list(names)]));
    for (id, messages) in &mail {
        let ends: Vec<_> = (0..messages.len()).map(|n| bulk(&format!("end{n}"))).collect();
        answers.insert(format!("ZRANGE dkd.msg.{id}.messages"), list(ends));
        for (number, message) in messages.iter().enumerate() {
            let key = format!("GET dkd.msg.{id}.end{number}");
            answers.insert(key, bulk(&message.to_string()));
        }
    }
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
            while let Some(count) = lines.next() {
                let count: usize = count.strip_prefix('*').unwrap().parse().unwrap();
                // Lengths and words in turn; no word that is asked has a line break in it.
                let asked: Vec<_> = lines.by_ref().take(2 * count).skip(1).step_by(2).collect();
                let key = match asked[0].as_str() {
                    "SCAN" => "SCAN".to_owned(),
                    _ => asked[..2].join(" "),
                };
                let answer = answers.get(&key).map_or("+OK\r\n", String::as_str);
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    port
}

fn letter(from: &Account, to: &Id, text: &str, time: f64) -> Value {
    let signature = base64_encode(&from.sign_key().sign(text.as_bytes()).unwrap());
    json!({"sender": from.id().as_str(), "receiver": to.as_str(), "time": time,
        "data": base64_encode(text.as_bytes()), "keys": {}, "signature": signature})
}

/// The times of the letters in a queue, in its order.
fn waiting(data: &Path, user: &Id, device: &str) -> Vec<f64> {
    let store = RocksStore::open(data.join("store"), RocksSettings::default()).unwrap();
    let queue = QueueKey { user: user.as_str().into(), device: device.into() };
    let op = StoreOp::Page { queue, from_seq: 0, count_max: 100, bytes_max: 1 << 20 };
    let StoreAnswer::Page { mails, .. } = store.read(&op) else { panic!() };
    let time = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["time"].as_f64();
    mails.iter().map(|(_, mail)| time(&mail.body).unwrap()).collect()
}

#[test]
fn mail_in_redis_is_proven_sorted_and_taken_once() {
    let place = place();
    let root = place.path().join("old");
    let people = old_station(&root);
    let [bob, alice, .., last] = &people[..] else { panic!() };
    let stranger = person("stranger", 1e9);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64().floor();
    let at = |text: &str, age: f64| letter(alice, bob.id(), text, now - age);
    let mut forged = at("true", 3.0);
    forged["data"] = json!(base64_encode(b"false"));
    let mut introduced = letter(&stranger, bob.id(), "hello", now - 2.0);
    introduced["meta"] = stranger.meta().to_map().into();
    let phone = at("phone", 5.0);
    let naked = vec![
        at("later", 10.25),
        at("sooner", 10.75),
        phone.clone(),
        forged,
        at("last year", 3e7),
        introduced,
        letter(&person("nobody", 1e9), bob.id(), "who?", now),
        letter(alice, last.id(), "elsewhere", now),
    ];
    let port = redis(vec![
        (bob.id().as_str().to_owned(), naked),
        (format!("{}//", bob.id()), vec![at("later", 10.25)]),
        (format!("{}/phone", bob.id()), vec![phone]),
        ("?".to_owned(), vec![]),
    ]);
    let redis = format!("--redis=redis://127.0.0.1:{port}");
    let said = dims(place.path(), &["import", "old", &redis], "");
    assert_eq!(said.code, 1);
    let key = |rest: &str| format!("dims: redis: dkd.msg.{}.{rest}", bob.id());
    let mut expected = [
        "dims: redis: dkd.msg.?.messages: not the messages of an ID".to_owned(),
        key("end3: its signature does not match"),
        key("end6: its sender is unknown here, so it cannot be verified"),
        key("end7: a message for somebody else"),
        "dims: 4 damaged, all others imported".to_owned(),
    ];
    expected.sort();
    let mut named: Vec<_> = said.err.lines().map(str::to_owned).collect();
    named.sort();
    assert_eq!(named, expected);
    assert!(said.out.contains("mail          4 new, 2 known, 1 outdated\n"), "{}", said.out);
    let data = place.path().join("dim-data");
    assert_eq!(waiting(&data, bob.id(), "*"), [now - 10.75, now - 10.25, now - 2.0]);
    assert_eq!(waiting(&data, bob.id(), "phone"), [now - 5.0]);

    let said = dims(place.path(), &["import", &redis], "");
    assert!(said.out.contains("mail          0 new, 6 known, 1 outdated\n"), "{}", said.out);
    assert_eq!(waiting(&data, bob.id(), "*").len(), 3);
}

#[test]
fn a_redis_that_is_none_is_named() {
    let place = place();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap().port();
    drop(listener);
    for (url, expected) in [
        ("localhost", "dims: redis: not a redis address; expected redis://"),
        (&format!("redis://127.0.0.1:{closed}"), "dims: redis: Connection refused"),
    ] {
        let said = dims(place.path(), &["import", &format!("--redis={url}")], "");
        assert_eq!(said.code, 1);
        assert!(said.err.starts_with(expected), "{}", said.err);
    }
}
