//! Contents under seal: with a content key that is known, and with one that has to be unwrapped.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]

#[path = "kit/time.rs"]
mod clock;
mod kit;

use clock::{CpuTime, cpu_time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dim::crypto::aes::AesKey;
use dim::crypto::identity::seal_keys;
use dim::crypto::key::CipherKey;
use dim::crypto::seal::{open, wrap_key};
use dim::crypto::sign::verify;
use dim::proto::json::Parser;
use kit::{Pen, parsed, person};

fn seal(c: &mut Criterion<CpuTime>) {
    let (alice, bob) = (person(1), person(2));
    let message = parsed(&Pen::new(&alice, &bob).message());
    let message = verify(message, &[alice.sign_key().verify_key().unwrap()]).unwrap();
    let (mut parser, keys) = (Parser::new(), bob.message_keys());
    let mut group = c.benchmark_group("seal");
    group.bench_function("open/first", |b| {
        b.iter(|| open(&message, bob.id(), keys, &mut None, &mut parser).unwrap());
    });
    let mut known = None;
    group.bench_function("open/known key", |b| {
        b.iter(|| open(&message, bob.id(), keys, &mut known, &mut parser).unwrap());
    });
    let key = CipherKey::Aes(AesKey::from_passphrase("a content key"));
    let receivers = seal_keys(bob.meta(), bob.documents());
    group.bench_function("wrap/rsa-1024", |b| b.iter(|| wrap_key(&key, &receivers)));
    let plain = [7; 1024];
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function("encrypt/1 KiB", |b| b.iter(|| key.encrypt(&plain).unwrap()));
    let (sealed, iv) = key.encrypt(&plain).unwrap();
    group.bench_function("decrypt/1 KiB", |b| b.iter(|| key.decrypt(&sealed, iv).unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = seal
}
criterion_main!(benches);
