//! A line to a message: envelope, places of the members, base64 of the signature.

#[path = "kit/time.rs"]
mod clock;
mod kit;

use std::sync::Arc;

use clock::{CpuTime, cpu_time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dim::proto::directory::{Ans, Names};
use dim::proto::json::Parser;
use dim::proto::message::ReliableMessage;
use kit::{Pen, person};

fn message(c: &mut Criterion<CpuTime>) {
    let (alice, bob) = (person(1), person(2));
    let plain = Pen::new(&alice, &bob).message();
    let visa = alice.document().map(|visa| visa.to_map());
    let attached = Pen::new(&alice, &bob).reliable().attach(alice.meta().to_map(), visa).to_bytes();
    let (mut parser, mut names) = (Parser::new(), Names::new(Arc::new(Ans::default())));
    let mut group = c.benchmark_group("message");
    for (name, text) in [("plain", &plain), ("attached", &attached)] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("parse/{name}"), |b| {
            b.iter(|| ReliableMessage::parse(text.clone(), &mut parser, &mut names));
        });
    }
    let message = kit::parsed(&plain);
    group.bench_function("signed bytes", |b| b.iter(|| message.signed_bytes()));
    group.bench_function("keys", |b| b.iter(|| message.keys(&mut parser)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = message
}
criterion_main!(benches);
