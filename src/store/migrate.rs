//! The format version of a folder: refuses a newer one, brings an older one up to date.
//!
//! Apart from the store, so that the store knows one format only.

use rocksdb::{DB, WriteBatch, WriteOptions};

use super::StoreError;
use super::columns::FORMAT;
use super::rocks::fault;

/// The format that this program writes.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_KEY: &[u8] = b"format";

/// One step: the format it starts from, and what turns that into the next one. A step may be
/// interrupted and begun again, so it must bear being done twice.
type Step = (u32, fn(&DB) -> Result<(), StoreError>);

/// All steps, in order. Empty as long as there is one format.
const STEPS: &[Step] = &[];

/// Checks the format of an opened folder and upgrades it where needed; a new folder is marked.
pub fn prepare(db: &DB) -> Result<(), StoreError> {
    let Some(mut format) = refuse_newer(db)? else { return mark(db, FORMAT_VERSION) };
    for (from, step) in STEPS {
        if *from == format {
            step(db)?;
            format += 1;
            mark(db, format)?;
        }
    }
    if format == FORMAT_VERSION { Ok(()) } else { Err(unknown(&format.to_string())) }
}

/// The format of a folder, unless this program does not know it yet; none if it is not marked.
pub(super) fn refuse_newer(db: &DB) -> Result<Option<u32>, StoreError> {
    match read(db)? {
        Some(found) if found > FORMAT_VERSION => {
            Err(StoreError::NewerFormat { found, known: FORMAT_VERSION })
        }
        found => Ok(found),
    }
}

fn read(db: &DB) -> Result<Option<u32>, StoreError> {
    let Some(bytes) = db.get(FORMAT_KEY).map_err(|error| fault(db.path(), &error))? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    text.parse().map(Some).map_err(|_| unknown(&text))
}

fn mark(db: &DB, format: u32) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    batch.put(FORMAT_KEY, format.to_string());
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.write_opt(batch, &options).map_err(|error| fault(db.path(), &error))
}

fn unknown(text: &str) -> StoreError {
    StoreError::Damaged { what: FORMAT.what, key: text.escape_debug().to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_is_marked_and_a_newer_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let db = DB::open_default(folder.path()).unwrap();
        prepare(&db).unwrap();
        assert_eq!(read(&db), Ok(Some(FORMAT_VERSION)));
        prepare(&db).unwrap();
        mark(&db, FORMAT_VERSION + 1).unwrap();
        let known = FORMAT_VERSION;
        assert_eq!(prepare(&db), Err(StoreError::NewerFormat { found: known + 1, known }));
        db.put(FORMAT_KEY, b"?").unwrap();
        assert!(matches!(prepare(&db), Err(StoreError::Damaged { .. })));
        mark(&db, 0).unwrap();
        assert!(matches!(prepare(&db), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn steps_lead_without_a_gap_to_the_present_format() {
        for (step, next) in STEPS.iter().zip(STEPS.iter().skip(1)) {
            assert_eq!(step.0 + 1, next.0);
        }
        assert!(STEPS.last().is_none_or(|last| last.0 + 1 == FORMAT_VERSION));
    }
}
