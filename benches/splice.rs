//! A message to a receiver's copy of it.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]

#[path = "kit/time.rs"]
mod clock;
mod kit;

use clock::{CpuTime, cpu_time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dim::proto::json::Parser;
use dim::proto::splice::{Routing, relay};
use kit::{Pen, parsed, person, station};

fn splice(c: &mut Criterion<CpuTime>) {
    let (alice, bob, station) = (person(1), person(2), station());
    let message = parsed(&Pen::new(&alice, &bob).message());
    let mut parser = Parser::new();
    let mut group = c.benchmark_group("splice");
    group.throughput(Throughput::Bytes(message.raw().len() as u64));
    let phone = bob.id().dressed("phone").unwrap();
    for (name, rcpt) in [("user", bob.id()), ("device", &phone)] {
        let (traces, recipients) = (&[], &[]);
        let station = &station.id;
        let routing = Routing { from: "/phone", rcpt, station, time: 1.79e9, traces, recipients };
        group.bench_function(name, |b| b.iter(|| relay(&message, routing, &mut parser)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = splice
}
criterion_main!(benches);
