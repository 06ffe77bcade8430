//! What a login costs in proofs: a meta against its ID, a visa against its meta.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]

#[path = "kit/time.rs"]
mod clock;
mod kit;

use clock::{CpuTime, cpu_time};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dim::crypto::identity::{prove_document, prove_meta, verify_keys};
use dim::proto::document::Document;
use dim::proto::id::Id;
use dim::proto::meta::Meta;
use kit::{object, vectors};

fn identity(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("identity");
    // One has an ECC key and an ETH address, the other an RSA key, a seed and a BTC address.
    for (name, account) in [("ecc", &vectors()["alice"]), ("rsa", &vectors()["bob"])] {
        let id = Id::parse(account["id"].as_str().unwrap()).unwrap();
        let meta = Meta::from_map(object(&account["meta"])).unwrap();
        let visa = object(&account["documents"][0]);
        let visa = Document::from_map(visa).unwrap();
        group.bench_function(format!("meta/{name}"), |b| {
            b.iter_batched(
                || meta.clone(),
                |meta| prove_meta(&id, meta).unwrap(),
                BatchSize::SmallInput,
            );
        });
        let meta = prove_meta(&id, meta).unwrap();
        group.bench_function(format!("document/{name}"), |b| {
            b.iter_batched(
                || visa.clone(),
                |visa| prove_document(&meta, &id, visa).unwrap(),
                BatchSize::SmallInput,
            );
        });
        let visas = [prove_document(&meta, &id, visa).unwrap()];
        group.bench_function(format!("keys/{name}"), |b| b.iter(|| verify_keys(&meta, &visas)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = identity
}
criterion_main!(benches);
