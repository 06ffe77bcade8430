//! The archivist's index at a million accounts: `cargo bench --bench search`. Prints how fast it is
//! filled, and how long questions of several sorts take; criterion measures two of them closely.
//! `cargo bench --bench search -- none` prints the figures alone.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a measurement reads the clock")]

use std::time::{Duration, Instant};

use criterion::Criterion;
use dim::base::random::split_mix;
use dim::bot::index::{Index, words};
use dim::proto::address::Address;

const ACCOUNTS: u64 = 1_000_000;
const QUESTIONS: usize = 500;
const FIRST: [&str; 16] = [
    "Alice", "Bob", "Carol", "Dave", "Eve", "Frank", "Grace", "Heidi", "Ivan", "Judy", "Mallory",
    "Niaj", "Olivia", "Peggy", "Rupert", "Sybil",
];

/// As accounts are: a first name of few, a last name of many, an address of its own.
fn account(n: u64) -> (String, String) {
    let mut seed = n;
    let fingerprint = split_mix(&mut seed).to_be_bytes();
    let address = Address::btc(0, &fingerprint);
    let first = FIRST[(split_mix(&mut seed) % 16) as usize];
    (format!("user@{}", address.as_str()), format!("{first} {:x}", split_mix(&mut seed) % 50_000))
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

fn report(index: &Index, sort: &str, question: impl Fn(u64) -> String) {
    let mut seed = 7;
    let mut hits = 0;
    let mut took: Vec<_> = (0..QUESTIONS)
        .map(|_| {
            let words = words(&question(split_mix(&mut seed) % ACCOUNTS));
            let start = Instant::now();
            hits += index.find(&words, 0, 50).len();
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    let (p50, p99) = (percentile(&took, 50), percentile(&took, 99));
    let hits = hits as f64 / QUESTIONS as f64;
    println!("{sort:<34} p50 {p50:>7.3} ms   p99 {p99:>7.3} ms   {hits:>5.1} hits");
}

fn main() {
    let accounts: Vec<_> = (0..ACCOUNTS).map(account).collect();
    let (mut index, start) = (Index::default(), Instant::now());
    for (id, name) in &accounts {
        index.put(id, name);
    }
    let rate = ACCOUNTS as f64 / start.elapsed().as_secs_f64();
    println!("{ACCOUNTS} accounts, {rate:.0} indexed a second");
    let of = |n: u64| &accounts[usize::try_from(n).unwrap()];
    report(&index, "an address", |n| of(n).0.clone());
    report(&index, "first and last name", |n| of(n).1.clone());
    report(&index, "first name, last name of nobody", |_| "alice zzzzz".to_owned());
    report(&index, "four words that many have", |_| "user@ , alice bob".to_owned());
    report(&index, "a word that nobody has", |_| "nobodyhasthis".to_owned());
    report(&index, "a word that many have", |_| "alice".to_owned());

    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let (miss, common) = (words("nobodyhasthis"), words("alice"));
    criterion.bench_function("a word that nobody has", |b| b.iter(|| index.find(&miss, 0, 50)));
    criterion.bench_function("a word that many have", |b| b.iter(|| index.find(&common, 0, 50)));
    criterion.final_summary();
}
