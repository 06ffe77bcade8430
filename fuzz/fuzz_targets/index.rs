//! The archivist's index against a plain list: whatever was put in and asked for, the same accounts
//! are found, in the same order.
#![no_main]

use arbitrary::Arbitrary;
use dim::bot::index::{Index, NAME_BYTES_MAX, Put, WORDS_MAX, clean, words};
use libfuzzer_sys::fuzz_target;

/// Operations of one input; more are cut off, so that an execution stays short.
const OPS_MAX: usize = 64;
/// So many puts in a row that what was taken out is cleared away.
const CHURN: usize = 1100;

#[derive(Debug, Arbitrary)]
enum Op {
    Put { id: u8, name: String },
    Find { keywords: String, start: u8, count: u8 },
    Churn { id: u8, name: String },
}

/// IDs as they are: no line feed in them.
fn id_of(id: u8) -> String {
    match id % 16 {
        0 => "Ünïcøde@İX".to_owned(),
        1 => "ab@cd".to_owned(),
        // The beginning of another's.
        2 => "ab@c".to_owned(),
        n => format!("user{n}@XyZ{n}/phone"),
    }
}

/// ID and name of each, the one put in last at the end.
type Plain = Vec<(String, String)>;

fn put(index: &mut Index, plain: &mut Plain, id: String, name: &str) {
    let name = clean(name);
    assert!(name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control));
    let pair = (id, name);
    if plain.contains(&pair) {
        assert_eq!(index.put(&pair.0, &pair.1), Put::Same);
        return;
    }
    assert_eq!(index.put(&pair.0, &pair.1), Put::Changed);
    plain.retain(|(known, _)| *known != pair.0);
    plain.push(pair);
}

fn find(plain: &Plain, words: &[String], start: usize, count: usize) -> Vec<String> {
    let line = |id: &str, name: &str| match name {
        "" => id.to_lowercase(),
        name => format!("{name}, {id}").to_lowercase(),
    };
    let has_all = |id: &str, name: &str| {
        words.iter().take(WORDS_MAX).all(|word| line(id, name).contains(word.as_str()))
    };
    let hits = plain.iter().filter(|(id, name)| has_all(id, name));
    hits.skip(start).take(count).map(|(id, _)| id.clone()).collect()
}

fuzz_target!(|ops: Vec<Op>| {
    let (mut index, mut plain) = (Index::default(), Plain::new());
    for op in ops.into_iter().take(OPS_MAX) {
        match op {
            Op::Put { id, name } => put(&mut index, &mut plain, id_of(id), &name),
            Op::Churn { id, name } => {
                // Once an input: it takes a thousand times as long as the others.
                if index.len() == 1 {
                    for turn in 0..CHURN {
                        let name = format!("{turn}{}", name.get(..16).unwrap_or_default());
                        put(&mut index, &mut plain, id_of(id), &name);
                    }
                }
            }
            Op::Find { keywords, start, count } => {
                let (words, start, count) = (words(&keywords), start.into(), count.into());
                let found = index.find(&words, start, count);
                assert_eq!(found, find(&plain, &words, start, count), "{words:?} in {plain:?}");
            }
        }
        assert_eq!(index.len(), plain.len());
    }
    let all: Vec<_> = index.iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect();
    assert_eq!(all, plain);
});
