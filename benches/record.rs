//! Stored records: to bytes and back, checksum and validation included. The disk's share is in
//! `store`.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]

#[path = "kit/time.rs"]
mod clock;
mod kit;

use clock::{CpuTime, cpu_time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dim::store::key::mail_key;
use dim::store::record::{decode_mail, encode_mail};
use dim::store::{Mail, QueueKey};
use kit::{Pen, person};

fn record(c: &mut Criterion<CpuTime>) {
    let (alice, bob) = (person(1), person(2));
    let body = Pen::new(&alice, &bob).message();
    let queue = QueueKey { user: bob.id().as_str().into(), device: "phone".into() };
    let (key, mail) = (mail_key(&queue, 7), Mail { received_ms: 1, digest: [7; 16], body });
    let stored = encode_mail(&key, &mail).unwrap();
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Bytes(stored.len() as u64));
    group.bench_function("encode", |b| b.iter(|| encode_mail(&key, &mail).unwrap()));
    group.bench_function("decode", |b| b.iter(|| decode_mail(&key, &stored).unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = record
}
criterion_main!(benches);
