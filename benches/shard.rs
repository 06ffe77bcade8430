//! A message through `Shard::handle`, from the sender's bytes to the first effects: to a user of
//! the same shard, and to one of another. What follows (acknowledgements, the receipt) is not
//! measured here but in `mail`.

#[path = "kit/time.rs"]
mod clock;
mod kit;

use std::time::Duration;

use bytes::Bytes;
use clock::{CpuTime, cpu_time, thread_time};
use criterion::{Criterion, criterion_group, criterion_main};
use dim::shard::effect::Effect;
use dim::shard::input::{ConnId, Input};
use dim::shard::ring::{Ring, ShardIndex};
use dim::shard::{Policy, Verify};
use dim::wire::Framing;
use kit::{Pen, World, person_of};

#[cfg(feature = "station")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NEAR: ShardIndex = ShardIndex(0);
const FAR: ShardIndex = ShardIndex(1);

/// Two users, logged in, on the shards named.
fn pair(to: ShardIndex, verify: Verify) -> (World, Pen, ConnId) {
    let mut world = World::new(2, Policy { verify, ..Policy::default() });
    let alice = person_of(NEAR, Ring::new(2), 1);
    let bob = person_of(to, Ring::new(2), 100);
    let conn = world.login(&alice);
    world.login(&bob);
    let pen = Pen::new(&alice, &bob);
    (world, pen, conn)
}

/// The step in which the sender's shard takes the message.
fn take(world: &mut World, conn: ConnId, bytes: Bytes) -> (Duration, Vec<Effect>) {
    let mut effects = Vec::with_capacity(8);
    let start = thread_time();
    world.handle(NEAR, Input::Received { conn, bytes }, &mut effects);
    (thread_time() - start, effects)
}

/// The step in which the receiver's shard takes it from the sender's.
fn take_over(world: &mut World, effects: Vec<Effect>) -> Duration {
    let mut spent = Duration::ZERO;
    for effect in effects {
        let Effect::Forward { to, parcel } = effect else {
            world.carry_out(NEAR, vec![effect]);
            continue;
        };
        let mut effects = Vec::with_capacity(8);
        let start = thread_time();
        world.handle(to, Input::Parcel(parcel), &mut effects);
        spent += thread_time() - start;
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Send { .. })), "no push");
        world.carry_out(to, effects);
    }
    spent
}

fn route(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("shard");
    for (name, verify) in [("verified", Verify::Every), ("trusted", Verify::Session)] {
        let (mut world, mut pen, conn) = pair(NEAR, verify);
        group.bench_function(format!("local/{name}"), |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let (step, effects) = take(&mut world, conn, pen.frame(Framing::Mtp));
                    spent += step;
                    assert!(effects.iter().any(|e| matches!(e, Effect::Send { .. })), "no push");
                    world.carry_out(NEAR, effects);
                    world.pass(1);
                }
                spent
            });
        });
    }
    let (mut world, mut pen, conn) = pair(FAR, Verify::Every);
    for name in ["cross/sender", "cross/receiver"] {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let (mut sent, mut received) = (Duration::ZERO, Duration::ZERO);
                for _ in 0..rounds {
                    let (step, effects) = take(&mut world, conn, pen.frame(Framing::Mtp));
                    sent += step;
                    received += take_over(&mut world, effects);
                    world.pass(1);
                }
                if name == "cross/sender" { sent } else { received }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time();
    targets = route
}
criterion_main!(benches);
