//! Signing and checking, with each kind of key; and a whole message checked.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]

#[path = "kit/time.rs"]
mod clock;
mod kit;

use clock::{CpuTime, cpu_time};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dim::crypto::key::SignKey;
use dim::crypto::sign::verify;
use kit::{Pen, object, parsed, person, sign_key, vectors};

fn sign(c: &mut Criterion<CpuTime>) {
    let rsa_1024 = SignKey::from_map(object(&vectors()["bob"]["id_key"])).unwrap();
    let rsa_2048 = SignKey::generate_rsa(2048).unwrap();
    let signed = [7_u8; 480];
    let mut group = c.benchmark_group("sign");
    for (name, key) in [("ecc", sign_key(1)), ("rsa-1024", rsa_1024), ("rsa-2048", rsa_2048)] {
        group.bench_function(format!("sign/{name}"), |b| b.iter(|| key.sign(&signed).unwrap()));
        let (check, signature) = (key.verify_key().unwrap(), key.sign(&signed).unwrap());
        assert!(check.verify(&signed, &signature));
        group.bench_function(format!("verify/{name}"), |b| {
            b.iter(|| check.verify(&signed, &signature));
        });
    }
    let alice = person(1);
    let message = parsed(&Pen::new(&alice, &person(2)).message());
    let keys = [alice.sign_key().verify_key().unwrap()];
    group.bench_function("message", |b| {
        b.iter_batched(
            || message.clone(),
            |message| verify(message, &keys).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = sign
}
criterion_main!(benches);
