//! A station's settings as a file of ours or of the reference, and as arguments: taken within
//! their bounds, or refused with words that name the place. What was taken, written out whole, is
//! taken again as the same.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use dim::server::config::{Args, Config, Loaded, Neighbors};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static PLACE: RefCell<TempDir> = RefCell::new(TempDir::new().expect("a folder"));
}

/// Bits of the first byte: which file it is, and whether a line before it is an argument.
const INI: u8 = 1;
const SET: u8 = 2;
const ANS: u8 = 4;
const HOST: u8 = 8;

fn load(path: &Path, args: Args) -> Option<Loaded> {
    match Config::load(&Args { config: Some(path.to_owned()), ..args }) {
        Ok(loaded) => {
            assert!(loaded.config.shards > 0 && loaded.config.limits.message_bytes_max > 0);
            assert!(loaded.warnings.iter().all(|warning| !warning.to_string().is_empty()));
            assert_eq!(loaded.file.as_deref(), Some(path));
            Some(loaded)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// What is relative in an ini or an argument is so to the working directory, which a file of ours
/// cannot say; here both are the same folder.
fn placed(mut config: Config, place: &Path) -> Config {
    config.data_dir = place.join(config.data_dir);
    let Config { tls, neighbors, log, .. } = &mut config;
    let Neighbors { output, ca, .. } = neighbors;
    for path in [&mut tls.certificate, &mut tls.key, output, ca, &mut log.dir] {
        *path = path.take().map(|path| place.join(path));
    }
    config
}

fuzz_target!(|input: &[u8]| {
    let Some((shape, mut file)) = input.split_first() else { return };
    let mut args = Args::default();
    for bit in [SET, ANS, HOST] {
        if shape & bit == 0 {
            continue;
        }
        let end = file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len());
        let line = String::from_utf8_lossy(&file[..end]).into_owned();
        file = file.get(end + 1..).unwrap_or_default();
        match bit {
            SET => args.set.push(line),
            ANS => args.ans.push(line),
            _ => args.host = Some(line),
        }
    }
    PLACE.with_borrow(|place| {
        let name = if shape & INI != 0 { "config.ini" } else { "station.toml" };
        let path = place.path().join(name);
        fs::write(&path, file).expect("a file");
        let Some(mut loaded) = load(&path, args) else { return };
        let whole = loaded.keys.to_string();
        let path = place.path().join("whole.toml");
        fs::write(&path, &whole).expect("a file");
        let again = load(&path, Args::default()).expect("what was taken is within its bounds");
        // An ini says where its files are; ours are in the data folder.
        loaded.config.reference = None;
        let again = placed(again.config, place.path());
        assert_eq!(again, placed(loaded.config, place.path()), "{whole}");
    });
});
