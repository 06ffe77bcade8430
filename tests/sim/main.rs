//! A station in virtual time: shards, store, network and clients in one thread, driven by a seed.
//!
//! Clients log in, send, acknowledge or forget to, vanish and come back; the store is slow, the
//! mesh is slow, and now and then the whole station is killed and loses what was not synced. At
//! the end everybody comes back and reads, and then: every message that its sender was told is
//! safe has arrived, and none came twice after it was acknowledged.
//!
//! `DIM_SIM_SEED=n` replays one seed, `DIM_SIM_SEEDS=n` runs so many (default 12).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads its settings and stops at the first surprise"
)]

mod world;

use world::World;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_is_acknowledged_arrives_and_arrives_once() {
    let seeds = match setting("DIM_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..setting("DIM_SIM_SEEDS").unwrap_or(12) + 1,
    };
    for seed in seeds {
        println!("DIM_SIM_SEED={seed}");
        let mut world = World::seeded(seed);
        for _ in 0..600 {
            world.step();
        }
        world.come_to_rest();
        world.judge();
    }
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let run = |seed| {
        let mut world = World::seeded(seed);
        for _ in 0..200 {
            world.step();
        }
        world.come_to_rest();
        world.story()
    };
    assert_eq!(run(7), run(7));
}

#[test]
fn mail_that_nobody_fetches_is_thrown_out_after_its_time() {
    let mut world = World::seeded(3);
    world.leave_mail(0, 1, 20);
    assert_eq!(world.stored(), 20);
    world.days_pass(6);
    assert_eq!(world.stored(), 20, "too early");
    world.days_pass(2);
    assert_eq!(world.stored(), 0, "too late");
    world.come_to_rest();
    assert_eq!(world.arrived(), 0);
}

#[test]
fn a_full_mailbox_is_said_and_takes_mail_again_when_it_was_read() {
    let mut world = World::seeded(4);
    world.leave_mail(0, 1, 45);
    assert_eq!(world.stored(), 40, "the policy of the simulation keeps 40");
    world.come_to_rest();
    assert_eq!((world.arrived(), world.stored()), (40, 0));
}
