//! A station's settings as a file of ours or of the reference, and as arguments: taken within
//! their bounds, or refused with words that name the place.
#![no_main]

use std::cell::RefCell;
use std::fs;

use arbitrary::Arbitrary;
use dim::server::config::{Args, Config};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    ini: bool,
    set: Vec<String>,
    ans: Option<String>,
    host: Option<String>,
    file: &'a [u8],
}

thread_local! {
    static PLACE: RefCell<TempDir> = RefCell::new(TempDir::new().expect("a folder"));
}

fuzz_target!(|input: Input<'_>| {
    PLACE.with_borrow(|place| {
        let name = if input.ini { "config.ini" } else { "station.toml" };
        let path = place.path().join(name);
        fs::write(&path, input.file).expect("a file");
        let args = Args {
            config: Some(path),
            set: input.set,
            ans: input.ans.into_iter().collect(),
            host: input.host,
            ..Args::default()
        };
        match Config::load(&args) {
            Ok(loaded) => {
                assert!(loaded.config.shards > 0);
                for warning in &loaded.warnings {
                    assert!(!warning.to_string().is_empty());
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
});
