//! Bytes to events, in each framing: sixteen messages of 1,200 bytes, in the reads of a busy
//! connection and in those of a slow one.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]

#[path = "kit/time.rs"]
mod clock;
mod kit;

use bytes::Bytes;
use clock::{CpuTime, cpu_time};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dim::wire::{DeframeLimits, Deframer, Event, Framing, upgrade};
use kit::{Pen, person};

const MESSAGES: usize = 16;
/// What the executor reads at once, and what a slow line brings.
const READS: [(&str, usize); 2] = [("busy", 16 << 10), ("slow", 100)];

/// A whole connection: the upgrade too, where there is one.
fn stream(framing: Framing) -> Vec<u8> {
    let mut pen = Pen::new(&person(1), &person(2));
    let mut stream = match framing {
        Framing::WebSocket => {
            upgrade::request("127.0.0.1", 9394, "dGhlIHNhbXBsZSBub25jZQ==").into()
        }
        _ => Vec::new(),
    };
    (0..MESSAGES).for_each(|_| stream.extend_from_slice(&pen.frame(framing)));
    stream
}

fn messages(reads: &[Bytes]) -> usize {
    let mut deframer = Deframer::new(DeframeLimits { bare_lines: true, ..Default::default() });
    let mut found = 0;
    for read in reads {
        deframer.feed(read.clone());
        while let Some(event) = deframer.next_event().unwrap() {
            found += usize::from(matches!(event, Event::Message { .. }));
        }
    }
    found
}

fn deframe(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("deframe");
    for framing in [Framing::Mtp, Framing::WebSocket, Framing::Mars, Framing::Lines] {
        let stream = stream(framing);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        for (name, bytes) in READS {
            // A WebSocket's payload is unmasked where it lies if nobody else holds it, as in the
            // station; so each round has bytes of its own.
            let cut = || stream.chunks(bytes).map(Bytes::copy_from_slice).collect::<Vec<_>>();
            assert_eq!(messages(&cut()), MESSAGES);
            let id = format!("{framing:?}/{name}").to_lowercase();
            group.bench_function(id, |b| {
                b.iter_batched(cut, |reads| messages(&reads), BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = deframe
}
criterion_main!(benches);
