//! The whole relay in memory: two users on one shard, and everything that one message costs there:
//! deframing, checking, the receiver's copy and acknowledgement, the sender's `OK` and receipt,
//! both acknowledged. No socket and no disk; the clients' own deframing is within it.

#[path = "kit/time.rs"]
mod clock;
mod kit;

use bytes::Bytes;
use clock::{CpuTime, cpu_time};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dim::shard::input::ConnId;
use dim::shard::{Policy, Verify};
use dim::wire::Framing;
use kit::{Pen, World, person};

#[cfg(feature = "station")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One function by itself, so that a profile can be told to count within it only.
#[inline(never)]
fn relay_one(world: &mut World, conn: ConnId, frame: Bytes) {
    world.write(conn, frame);
    world.pass(1);
}

/// Messages that come in one read; their receipts are gathered.
const BURST: u64 = 64;

/// So many of them, and the time in which the receipts go.
#[inline(never)]
fn relay_burst(world: &mut World, conn: ConnId, frames: Bytes) {
    world.write(conn, frames);
    world.pass(100);
}

fn burst(pen: &mut Pen) -> Bytes {
    (0..BURST).flat_map(|_| pen.frame(Framing::Mtp)).collect()
}

fn mail(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("mail");
    group.throughput(Throughput::Elements(1));
    for (name, verify) in [("verified", Verify::Every), ("trusted", Verify::Session)] {
        let mut world = World::new(1, Policy { verify, ..Policy::default() });
        let (alice, bob) = (person(1), person(2));
        let conn = world.login(&alice);
        world.login(&bob);
        let mut pen = Pen::new(&alice, &bob);
        let (heard, acknowledged) = (world.heard, world.acknowledged);
        relay_one(&mut world, conn, pen.frame(Framing::Mtp));
        assert_eq!(world.heard - heard, 2, "the message and the receipt arrive");
        assert_eq!(world.acknowledged - acknowledged, 1, "the sender is told");
        group.bench_function(format!("relay/{name}"), |b| {
            b.iter_batched(
                || pen.frame(Framing::Mtp),
                |frame| relay_one(&mut world, conn, frame),
                BatchSize::SmallInput,
            );
        });
        let heard = world.heard;
        relay_burst(&mut world, conn, burst(&mut pen));
        assert_eq!(
            world.heard - heard,
            BURST + 2,
            "each message, a receipt, and the others in one"
        );
        group.throughput(Throughput::Elements(BURST));
        group.bench_function(format!("burst/{name}"), |b| {
            b.iter_batched(
                || burst(&mut pen),
                |frames| relay_burst(&mut world, conn, frames),
                BatchSize::SmallInput,
            );
        });
        group.throughput(Throughput::Elements(1));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = mail
}
criterion_main!(benches);
