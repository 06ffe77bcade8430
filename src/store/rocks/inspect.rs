//! A look into a folder that changes nothing in it: whether it would open, and who is known there.

use std::path::Path;

use rocksdb::DB;

use super::view::View;
use super::{RocksSettings, RocksStore, fault, options, refuse_headless};
use crate::store::op::{StoreAnswer, StoreOp};
use crate::store::{StoreError, migrate};

/// A store that is open for reading. Not for the folder of a station that runs: its log and tables
/// change meanwhile.
#[derive(Debug)]
pub struct Inspection {
    db: DB,
}

impl RocksStore {
    /// Opens the folder at `path` for reading; `None` if there is no store in it. Errors are those
    /// of [`RocksStore::open`].
    pub fn inspect(path: &Path) -> Result<Option<Inspection>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        refuse_headless(path)?;
        if !path.join("CURRENT").exists() {
            return Ok(None);
        }
        let settings = RocksSettings::default();
        let db = options::open_for_reading(path, &settings).map_err(|error| fault(path, &error))?;
        migrate::refuse_newer(&db)?;
        Ok(Some(Inspection { db }))
    }
}

impl Inspection {
    /// Whether the meta of `user` is stored.
    pub fn knows(&self, user: &str) -> Result<bool, StoreError> {
        let op = StoreOp::LoadUser { user: user.into() };
        match View::of(&self.db)?.answer(&op, &mut Vec::new())? {
            StoreAnswer::User(record) => Ok(record.meta.is_some()),
            _ => Ok(false),
        }
    }
}
