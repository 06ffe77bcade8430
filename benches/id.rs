//! Text to an ID: read for the first time, in each form of address, and read again.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]

#[path = "kit/time.rs"]
mod clock;

use std::hint::black_box;
use std::sync::Arc;

use clock::{CpuTime, cpu_time};
use criterion::{Criterion, criterion_group, criterion_main};
use dim::proto::directory::{Ans, Names};
use dim::proto::id::Id;

const ETH: &str = "0x4C33A4B2e6f267FFA7691d661E21EC01fbD5f13D";
const BTC: &str = "hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj";

fn id(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("id");
    for (name, text) in [("eth", ETH), ("btc", BTC), ("broadcast", "stations@everywhere")] {
        group.bench_function(format!("parse/{name}"), |b| {
            b.iter(|| Id::parse(black_box(text)).unwrap());
        });
    }
    let mut names = Names::new(Arc::new(Ans::default()));
    group.bench_function("read again", |b| b.iter(|| names.read(black_box(BTC)).unwrap()));
    let id = Id::parse(BTC).unwrap();
    group.bench_function("dressed", |b| b.iter(|| id.dressed(black_box("phone")).unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = id
}
criterion_main!(benches);
