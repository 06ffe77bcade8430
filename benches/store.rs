//! The store's rates on this machine's disk: `cargo bench --bench store`.
//!
//! CPU time counts all threads of the process, flushes and compactions included.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads files and stops at the first surprise"
)]
#![expect(clippy::unwrap_used, reason = "a measurement may end where it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dim::store::rocks::{RocksSettings, RocksStore};
use dim::store::writer::{Answers, Writer, WriterSettings};
use dim::store::{Mail, QueueKey, Store, StoreAnswer, StoreOp};

const BODY_BYTES: usize = 1024;
const RUN: Duration = Duration::from_secs(2);
const USERS: u64 = 1000;

fn cpu() -> Duration {
    // Fields 14 and 15 after the name: ticks in user and kernel mode, a hundred a second.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let ticks: u64 =
        after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn queue(user: u64) -> QueueKey {
    QueueKey {
        user: format!("user{user}@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj").into(),
        device: "".into(),
    }
}

/// Incompressible, as ciphertext is.
fn body(seed: u64) -> Bytes {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(BODY_BYTES);
    while bytes.len() < BODY_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

fn put(seq: u64, body: &Bytes) -> StoreOp {
    let mail = Mail { received_ms: seq, digest: [7; 16], body: body.clone() };
    StoreOp::Enqueue { queue: queue(seq % USERS), seq, mail }
}

fn report(name: &str, messages: u64, wall: Duration, cpu: Duration) {
    println!(
        "{name:<28} {:>9.0} /s   {:>6.1} us CPU each",
        messages as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / messages as f64
    );
}

fn enqueue(group: u64, sync: bool) {
    let folder = tempfile::tempdir_in(".").unwrap();
    let settings = RocksSettings { sync, ..RocksSettings::default() };
    let store = RocksStore::open(folder.path(), settings).unwrap();
    let bodies: Vec<Bytes> = (1..=64).map(body).collect();
    let (start, before, mut seq) = (Instant::now(), cpu(), 0);
    while start.elapsed() < RUN {
        let ops: Vec<_> =
            (seq..seq + group).map(|seq| put(seq, &bodies[(seq % 64) as usize])).collect();
        store.commit(&ops).unwrap();
        seq += group;
    }
    let how = if sync { "sync" } else { "no sync" };
    report(&format!("enqueue, group {group}, {how}"), seq, start.elapsed(), cpu() - before);
}

fn grouped() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let store = Arc::new(RocksStore::open(folder.path(), RocksSettings::default()).unwrap());
    let answered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&answered);
    let answers: Answers = Arc::new(move |_, list| {
        count.fetch_add(list.len() as u64, Ordering::Release);
    });
    let writer = Writer::spawn(store, WriterSettings::default(), answers).unwrap();
    let body = body(3);
    let (start, before, mut seq) = (Instant::now(), cpu(), 0);
    while start.elapsed() < RUN {
        if seq - answered.load(Ordering::Acquire) > 512 {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        if writer.submit(vec![(0, seq, put(seq, &body))]).is_ok() {
            seq += 1;
        }
    }
    writer.shutdown();
    report("writer, 512 in flight, sync", seq, start.elapsed(), cpu() - before);
}

fn drain() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let store = RocksStore::open(folder.path(), RocksSettings::default()).unwrap();
    let (users, each) = (500_u64, 100_u64);
    let body = body(5);
    for seq in 0..each {
        let ops: Vec<_> = (0..users).map(|user| put(seq * USERS + user, &body)).collect();
        store.commit(&ops).unwrap();
    }
    store.settle().unwrap();
    let read_all = |name: &str, expected: usize| {
        let (start, before) = (Instant::now(), cpu());
        for user in 0..users {
            let page = StoreOp::Page {
                queue: queue(user),
                from_seq: 0,
                count_max: 200,
                bytes_max: 1 << 20,
            };
            let StoreAnswer::Page { mails, .. } = store.read(&page) else { panic!("no page") };
            assert_eq!(mails.len(), expected);
        }
        report(name, users * each, start.elapsed(), cpu() - before);
    };
    let sum_up = |name: &str| {
        let (start, before) = (Instant::now(), cpu());
        for user in 0..users {
            store.read(&StoreOp::LoadUser { user: queue(user).user });
        }
        report(name, users, start.elapsed(), cpu() - before);
    };
    sum_up("load user of 100");
    read_all("page of 100", each as usize);
    let (start, before) = (Instant::now(), cpu());
    for user in 0..users {
        let seqs = (0..each).map(|seq| seq * USERS + user).collect();
        store.commit(&[StoreOp::Delete { queue: queue(user), seqs }]).unwrap();
    }
    report("delete of 100", users * each, start.elapsed(), cpu() - before);
    read_all("page, emptied queue (a 100th)", 0);
    sum_up("load user, emptied queue");
}

fn large_queue() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let store = RocksStore::open(folder.path(), RocksSettings::default()).unwrap();
    let body = body(9);
    for chunk in 0..20_u64 {
        let ops: Vec<_> = (0..1000).map(|at| put((chunk * 1000 + at) * USERS, &body)).collect();
        store.commit(&ops).unwrap();
    }
    store.settle().unwrap();
    let load = |name: &str| {
        let start = Instant::now();
        store.read(&StoreOp::LoadUser { user: queue(0).user });
        println!("{name:<36} {:>8.2?}", start.elapsed());
    };
    load("summary of 20,000, cold cache");
    load("summary of 20,000, warm cache");
    let (start, mut from_seq, mut found) = (Instant::now(), 0, 0);
    loop {
        let page = StoreOp::Page { queue: queue(0), from_seq, count_max: 200, bytes_max: 1 << 20 };
        let StoreAnswer::Page { mails, more } = store.read(&page) else { panic!("no page") };
        found += mails.len();
        from_seq = mails.last().map_or(0, |(seq, _)| seq + 1);
        if !more {
            break;
        }
    }
    println!("{:<36} {:>8.2?}", format!("all {found} in pages of 200"), start.elapsed());
    let seqs = (0..20_000).map(|seq| seq * USERS).collect();
    store.commit(&[StoreOp::Delete { queue: queue(0), seqs }]).unwrap();
    load("summary after 20,000 deletes");
}

fn main() {
    for group in [1, 16, 128] {
        enqueue(group, true);
    }
    for group in [1, 128] {
        enqueue(group, false);
    }
    grouped();
    drain();
    large_queue();
}
