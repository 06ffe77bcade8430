//! JSON to a tape and to values: a message of 1,200 bytes, and one with meta and visa.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]

#[path = "kit/time.rs"]
mod clock;
mod kit;

use clock::{CpuTime, cpu_time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dim::proto::json::{Parser, write};
use kit::{Pen, person};
use std::hint::black_box;

fn json(c: &mut Criterion<CpuTime>) {
    let (alice, bob) = (person(1), person(2));
    let plain = Pen::new(&alice, &bob).message();
    let visa = alice.document().map(|visa| visa.to_map());
    let attached = Pen::new(&alice, &bob).reliable().attach(alice.meta().to_map(), visa).to_bytes();
    let mut parser = Parser::new();
    let mut group = c.benchmark_group("json");
    for (name, text) in [("message", &plain), ("attached", &attached)] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("tape/{name}"), |b| {
            b.iter(|| black_box(parser.tape(text).unwrap()).0.len());
        });
        group.bench_function(format!("value/{name}"), |b| b.iter(|| parser.value(text).unwrap()));
        let value = parser.value(text).unwrap();
        group.bench_function(format!("write/{name}"), |b| b.iter(|| write(&value)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = json
}
criterion_main!(benches);
