//! The store on a real disk: the same answers as the reference, and nothing acknowledged is lost.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads files and stops at the first surprise"
)]
#![cfg(feature = "station")]
#![expect(clippy::unwrap_used, reason = "a test may end where it fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dim::store::columns::{self, ACCOUNT, DAMAGED, HEAD, MAIL};
use dim::store::key::{self, AccountPart};
use dim::store::memory::MemoryStore;
use dim::store::rocks::{RocksSettings, RocksStore};
use dim::store::writer::{Answers, Writer, WriterSettings};
use dim::store::{Mail, QueueKey, Store, StoreAnswer, StoreError, StoreOp, UserRecord};
use rocksdb::{DB, Options};

/// A small generator, so that a failure is a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// How often to try: few in the usual run, as many as wanted by hand.
fn times(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn queue(user: &str, device: &str) -> QueueKey {
    QueueKey { user: user.into(), device: device.into() }
}

/// A message whose body can be foretold from its place.
fn mail(seq: u64, bytes: usize) -> Mail {
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&seq.to_be_bytes());
    let body: Vec<u8> = (0..bytes).map(|at| (seq as usize * 31 + at * 7) as u8).collect();
    Mail { received_ms: seq, digest, body: body.into() }
}

fn put(queue: &QueueKey, seq: u64, bytes: usize) -> StoreOp {
    StoreOp::Enqueue { queue: queue.clone(), seq, mail: mail(seq, bytes) }
}

fn open(path: &Path) -> RocksStore {
    RocksStore::open(path, RocksSettings::default()).unwrap()
}

fn page(store: &dyn Store, queue: &QueueKey, from_seq: u64) -> Vec<(u64, Mail)> {
    let op = StoreOp::Page {
        queue: queue.clone(),
        from_seq,
        count_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    match store.read(&op) {
        StoreAnswer::Page { mails, more: false } => mails,
        other => panic!("{other:?}"),
    }
}

fn seqs(store: &dyn Store, queue: &QueueKey) -> Vec<u64> {
    page(store, queue, 0).into_iter().map(|(seq, _)| seq).collect()
}

fn user(store: &dyn Store, user: &str) -> UserRecord {
    match store.read(&StoreOp::LoadUser { user: user.into() }) {
        StoreAnswer::User(record) => record,
        other => panic!("{other:?}"),
    }
}

fn raw(path: &Path) -> DB {
    let names = columns::ALL.map(|column| column.name);
    DB::open_cf(&Options::default(), path, names).unwrap()
}

fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn random_op(dice: &mut Dice, next_seq: &mut u64) -> StoreOp {
    let users = ["hulk", "hul", "hulk2", "h\0lk", ""];
    let devices = ["", "pad", "pa", "d"];
    let name = users[dice.roll(5) as usize];
    let queue = queue(name, devices[dice.roll(4) as usize]);
    let json = Bytes::from(format!("{{\"n\":{}}}", dice.roll(100)));
    match dice.roll(20) {
        0 => StoreOp::Save { user: name.into(), part: AccountPart::Meta, json },
        1 => StoreOp::Save { user: name.into(), part: AccountPart::Documents, json },
        2 => StoreOp::Save { user: name.into(), part: AccountPart::Logins, json },
        3 => StoreOp::Flush,
        4 | 5 => StoreOp::Expire {
            before_ms: next_seq.saturating_sub(dice.roll(60)),
            limit: dice.roll(12) as usize,
        },
        6..=8 => {
            let seqs = (0..dice.roll(30)).map(|_| dice.roll(*next_seq + 1)).collect();
            StoreOp::Delete { queue, seqs }
        }
        9 | 10 => StoreOp::LoadUser { user: name.into() },
        11..=13 => StoreOp::Page {
            queue,
            from_seq: dice.roll(*next_seq + 1),
            count_max: dice.roll(9) as usize,
            bytes_max: dice.roll(900) as usize,
        },
        _ => {
            *next_seq += dice.roll(3);
            put(&queue, *next_seq, dice.roll(300) as usize)
        }
    }
}

#[test]
fn both_stores_give_the_same_answers() {
    for seed in 1..=times("DIM_SEEDS", 12) {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ seed);
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new();
        let settings = RocksSettings { sync: seed % 4 == 0, ..RocksSettings::default() };
        let mut rocks = RocksStore::open(folder.path(), settings.clone()).unwrap();
        let mut next_seq = 0;
        for _ in 0..150 {
            let ops: Vec<_> =
                (0..=dice.roll(12)).map(|_| random_op(&mut dice, &mut next_seq)).collect();
            assert_eq!(rocks.commit(&ops), memory.commit(&ops), "seed {seed}");
            let op = random_op(&mut dice, &mut next_seq);
            assert_eq!(rocks.read(&op), memory.read(&op), "seed {seed}");
            match dice.roll(40) {
                0 => rocks.settle().unwrap(),
                1 => {
                    // Both forget how far an expiry had come, and nothing else.
                    drop(rocks);
                    memory.commit(&[StoreOp::Flush]).unwrap();
                    memory.crash();
                    rocks = RocksStore::open(folder.path(), settings.clone()).unwrap();
                }
                _ => {}
            }
        }
        assert_eq!(rocks.damage().count, 0);
    }
}

#[test]
fn users_come_in_pages_each_once_and_without_those_who_only_have_mail() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let names = ["a", "a\0", "ab", "b", "c"];
    let json = Bytes::from_static(b"{}");
    let mut ops = vec![put(&queue("aa", "pad"), 1, 10)];
    for name in names {
        ops.push(StoreOp::Save { user: name.into(), part: AccountPart::Meta, json: json.clone() });
        ops.push(StoreOp::Save {
            user: name.into(),
            part: AccountPart::Logins,
            json: json.clone(),
        });
    }
    store.commit(&ops).unwrap();
    for size in 1..7 {
        let (mut found, mut last) = (Vec::new(), None);
        loop {
            let page = store.users(last.as_deref(), size).unwrap();
            assert!(page.len() <= size);
            let Some(end) = page.last().cloned() else { break };
            found.extend(page.iter().map(|user| user.to_string()));
            last = Some(end);
        }
        assert_eq!(found, names, "pages of {size}");
    }
}

#[test]
fn a_second_open_says_who_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let second = RocksStore::open(folder.path(), RocksSettings::default()).unwrap_err();
    assert_eq!(second, StoreError::Locked { path: folder.path().display().to_string().into() });
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    {
        let mut db = raw(folder.path());
        db.put(b"format", b"7").unwrap();
        db.create_cf("of_the_future", &Options::default()).unwrap();
    }
    for _ in 0..2 {
        let refused = RocksStore::open(folder.path(), RocksSettings::default()).unwrap_err();
        assert_eq!(refused, StoreError::NewerFormat { found: 7, known: 1 });
    }
}

#[test]
fn an_unusable_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = RocksStore::open(&path, RocksSettings::default()).unwrap_err();
        assert!(matches!(&error, StoreError::Denied { .. }), "{error}");
        assert!(error.to_string().contains("file"));
    }
}

#[test]
fn tables_without_their_list_are_not_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.commit(&[put(&queue("hulk", ""), 1, 10)]).unwrap();
    store.settle().unwrap();
    drop(store);
    let tables = files(folder.path(), "sst");
    fs::remove_file(folder.path().join("CURRENT")).unwrap();
    let error = RocksStore::open(folder.path(), RocksSettings::default()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(files(folder.path(), "sst"), tables);
}

#[test]
fn a_damaged_record_is_put_aside_and_the_rest_served() {
    let folder = tempfile::tempdir().unwrap();
    let pad = queue("hulk", "pad");
    let json = Bytes::from_static(b"{}");
    {
        let store = open(folder.path());
        let mut ops: Vec<_> = (1..=9).map(|seq| put(&pad, seq, 100)).collect();
        ops.push(StoreOp::Save {
            user: pad.user.clone(),
            part: AccountPart::Meta,
            json: json.clone(),
        });
        ops.push(StoreOp::Save {
            user: pad.user.clone(),
            part: AccountPart::Logins,
            json: json.clone(),
        });
        store.commit(&ops).unwrap();
    }
    {
        let db = raw(folder.path());
        let spoil = |column: columns::Column, key: &[u8]| {
            let family = db.cf_handle(column.name).unwrap();
            let mut bytes = db.get_cf(family, key).unwrap().unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            db.put_cf(family, key, bytes).unwrap();
        };
        spoil(MAIL, &key::mail_key(&pad, 3));
        spoil(HEAD, &key::mail_key(&pad, 5));
        spoil(ACCOUNT, &key::account_key("hulk", AccountPart::Meta));
    }
    let store = open(folder.path());
    let found = user(&store, "hulk");
    assert_eq!((found.meta, found.logins), (None, Some(json)));
    assert_eq!(found.queues[0].count, 9);
    assert_eq!(store.damage().count, 2);
    assert_eq!(seqs(&store, &pad), [1, 2, 4, 5, 6, 7, 8, 9]);
    let damage = store.damage();
    assert_eq!(damage.count, 3);
    assert_eq!(damage.last, Some(StoreError::Damaged { what: "mail", key: "hulk/pad 3".into() }));
    assert_eq!(user(&store, "hulk").queues[0].count, 8);
    assert_eq!(seqs(&store, &pad).len(), 8);
    assert_eq!(store.damage().count, 3);
    drop(store);
    let db = raw(folder.path());
    let family = db.cf_handle(DAMAGED.name).unwrap();
    let aside = [b"mail:", &*key::mail_key(&pad, 3)].concat();
    assert!(db.get_cf(family, aside).unwrap().unwrap().len() > 100);
}

#[test]
fn a_flipped_bit_in_a_table_never_makes_a_wrong_message() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, spoilt) = (folder.path().join("whole"), folder.path().join("spoilt"));
    let pad = queue("hulk", "pad");
    let store = open(&whole);
    store.commit(&(1..=200).map(|seq| put(&pad, seq, 700)).collect::<Vec<_>>()).unwrap();
    store.settle().unwrap();
    drop(store);
    let mut dice = Dice(77);
    let (mut served, mut refused) = (0, 0);
    for _ in 0..times("DIM_FLIPS", 40) {
        copy(&whole, &spoilt);
        let tables = files(&spoilt, "sst");
        let table = &tables[dice.roll(tables.len() as u64) as usize];
        let mut bytes = fs::read(table).unwrap();
        let at = dice.roll(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.roll(8);
        fs::write(table, bytes).unwrap();
        let store = match RocksStore::open(&spoilt, RocksSettings::default()) {
            Ok(store) => store,
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                refused += 1;
                continue;
            }
        };
        let all = StoreOp::Page {
            queue: pad.clone(),
            from_seq: 0,
            count_max: 999,
            bytes_max: usize::MAX,
        };
        match store.read(&all) {
            StoreAnswer::Page { mails, .. } => {
                assert!(mails.iter().all(|(seq, found)| *found == mail(*seq, 700)));
                // A block holds 23 of them.
                assert!(mails.len() >= 170, "{} served", mails.len());
                assert_eq!(mails.len() < 200, store.damage().count > 0);
                served += 1;
            }
            StoreAnswer::Failed(error) => {
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
        match store.read(&StoreOp::LoadUser { user: "hulk".into() }) {
            StoreAnswer::User(record) => assert!(record.queues[0].count >= 170),
            StoreAnswer::Failed(error) => assert!(matches!(error, StoreError::Damaged { .. })),
            other => panic!("{other:?}"),
        }
    }
    assert!(served > 2 * refused, "{served} served, {refused} refused");
}

#[test]
fn a_torn_log_is_taken_up_and_a_damaged_one_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, spoilt) = (folder.path().join("whole"), folder.path().join("spoilt"));
    let pad = queue("hulk", "pad");
    let store = open(&whole);
    for seq in 1..=50 {
        store.commit(&[put(&pad, seq, 700)]).unwrap();
    }
    copy(&whole, &spoilt);
    let log = files(&spoilt, "log").pop().unwrap();
    let bytes = fs::read(&log).unwrap();
    for torn in [1, 8, 300, 800] {
        copy(&whole, &spoilt);
        fs::write(&log, &bytes[..bytes.len() - torn]).unwrap();
        let found = seqs(&open(&spoilt), &pad);
        assert!(found.len() == 49 && found.last() == Some(&49), "torn by {torn}: {found:?}");
    }
    copy(&whole, &spoilt);
    let mut flipped = bytes;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&log, flipped).unwrap();
    let error = RocksStore::open(&spoilt, RocksSettings::default()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let salvage = RocksSettings { salvage: true, ..RocksSettings::default() };
    let found = seqs(&RocksStore::open(&spoilt, salvage).unwrap(), &pad);
    assert!(found.len() > 20 && found.len() < 30, "{}", found.len());
}

#[test]
fn a_full_disk_refuses_saves_only() {
    let folder = tempfile::tempdir().unwrap();
    let pad = queue("hulk", "pad");
    open(folder.path()).commit(&[put(&pad, 1, 9), put(&pad, 2, 9)]).unwrap();
    let settings = RocksSettings { reserve_bytes: u64::MAX, ..RocksSettings::default() };
    let store = RocksStore::open(folder.path(), settings).unwrap();
    let delete = StoreOp::Delete { queue: pad.clone(), seqs: vec![1] };
    let answers = store.commit(&[put(&pad, 3, 9), delete]).unwrap();
    assert_eq!(answers, [StoreAnswer::Failed(StoreError::Full), StoreAnswer::Deleted]);
    assert_eq!(seqs(&store, &pad), [2]);
    drop(store);
    open(folder.path()).commit(&[put(&pad, 3, 9)]).unwrap();
}

/// A small disk of its own; `None` where the system does not let us.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_really_full_disk_is_survived() {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        return;
    };
    let folder = disk.0.path().join("store");
    let settings = RocksSettings {
        reserve_bytes: 6 << 20,
        write_buffer_bytes: 2 << 20,
        ..RocksSettings::default()
    };
    let store = RocksStore::open(&folder, settings).unwrap();
    let pad = queue("hulk", "pad");
    let mut last = 0;
    loop {
        let answers = store.commit(&[put(&pad, last + 1, 10_000)]).unwrap();
        if answers == [StoreAnswer::Failed(StoreError::Full)] {
            break;
        }
        last += 1;
    }
    assert!(last > 200, "{last}");
    assert_eq!(seqs(&store, &pad).len() as u64, last);

    // Now somebody else takes the reserve as well, while the store thinks that there is room.
    let foreign = disk.0.path().join("foreign");
    let delete = |from: u64| StoreOp::Delete { queue: pad.clone(), seqs: vec![from] };
    assert_eq!(store.commit(&[delete(1)]), Ok(vec![StoreAnswer::Deleted]));
    let mut file = fs::File::create(&foreign).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let mut refused = None;
    for seq in 2..200 {
        let many = StoreOp::Delete { queue: pad.clone(), seqs: vec![seq; 500] };
        refused = store.commit(&[many]).err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused, Some(StoreError::Full));
    assert!(page(&store, &pad, 0).iter().all(|(seq, found)| *found == mail(*seq, 10_000)));

    drop(file);
    fs::remove_file(foreign).unwrap();
    let start = Instant::now();
    while store.commit(&[delete(2)]).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "does not recover");
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = seqs(&store, &pad);
    assert_eq!(left.last(), Some(&last));
}

#[test]
fn twenty_thousand_messages_are_summed_up_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let pad = queue("hulk", "pad");
    for chunk in 0..20 {
        let ops: Vec<_> = (0..1000).map(|at| put(&pad, chunk * 1000 + at, 1024)).collect();
        store.commit(&ops).unwrap();
    }
    store.settle().unwrap();
    let start = Instant::now();
    let record = user(&store, "hulk");
    let took = start.elapsed();
    assert_eq!((record.queues[0].count, record.queues[0].bytes), (20_000, 20_000 << 10));
    assert!(took < Duration::from_millis(900), "{took:?}");
}

const CHILD: &str = "DIM_STORE_CHILD";

/// The process that gets killed: not a test unless the next one starts it.
#[test]
fn child_writes_until_killed() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let store = Arc::new(open(Path::new(&path)));
    let pad = queue("hulk", "pad");
    let mut seq = user(&*store, "hulk").queues.first().map_or(0, |queue| queue.last_seq);
    let (send, receive) = channel();
    let answers: Answers = Arc::new(move |_, list| {
        let _ = send.send(list);
    });
    let writer = Writer::spawn(store, WriterSettings::default(), answers).unwrap();
    let mut waiting = 0;
    loop {
        while waiting < 64 {
            seq += 1;
            writer.submit(vec![(0, seq, put(&pad, seq, 900))]).unwrap();
            waiting += 1;
        }
        let mut lines = String::new();
        for (ticket, answer) in receive.recv().unwrap() {
            assert!(matches!(answer, StoreAnswer::Saved(_)));
            lines.push_str(&format!("ack {ticket}\n"));
            waiting -= 1;
        }
        std::io::stdout().write_all(lines.as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let pad = queue("hulk", "pad");
    let mut dice = Dice(4711);
    let mut acked = BTreeMap::new();
    for round in 0..times("DIM_KILL_ROUNDS", 12) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_killed", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut kill_after = dice.roll(3000);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap_or(0) > 0 {
            // A line that was cut by the kill does not count.
            if let Some(seq) = line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix('\n')) {
                acked.insert(seq.parse::<u64>().unwrap(), round);
                if kill_after == 0 {
                    child.kill().unwrap();
                }
                kill_after = kill_after.wrapping_sub(1);
            }
            line.clear();
        }
        child.wait().unwrap();
        let start = Instant::now();
        let store = open(folder.path());
        assert!(start.elapsed() < Duration::from_secs(3), "{:?} to open", start.elapsed());
        let found: BTreeMap<u64, Mail> = page(&store, &pad, 0).into_iter().collect();
        for (seq, round) in &acked {
            assert!(found.contains_key(seq), "{seq}, acknowledged in round {round}, is lost");
        }
        assert!(found.iter().all(|(seq, found)| *found == mail(*seq, 900)));
        assert_eq!(
            user(&store, "hulk").queues.first().map_or(0, |queue| queue.count),
            found.len() as u64
        );
    }
    assert!(acked.len() > 1000);
}
