//! RocksDB behind the ops of a store.
//!
//! What it must never do: answer `Saved` before the sync, walk over another user's keys, or use
//! range deletions (every live one slows every later read). It blocks, so it is called from the
//! threads of [`super::writer`] only.
//!
//! On recovery: a log whose end is torn, as kill -9 and a loss of power leave it, is taken up to
//! the tear, since nothing behind it was acknowledged. A wrong checksum before the end stops the
//! opening with [`StoreError::Damaged`]. The other mode on offer, point in time, would open
//! silently without anything behind a single flipped bit, acknowledged messages among it; so it
//! is what [`RocksSettings::salvage`] asks for, by a person's decision.
#![expect(
    clippy::disallowed_methods,
    reason = "the disk's side of the store: here is where it waits"
)]

mod commit;
mod inspect;
mod options;
mod view;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use rocksdb::{DB, ErrorKind};

use self::commit::Draft;
pub use self::inspect::Inspection;
use self::view::{Sighting, View};
use super::migrate;
use super::op::{StoreAnswer, StoreOp};
use super::{Damage, Store, StoreError};

/// Between two tries to reopen a store after a failed write, so that a sick disk is not flooded
/// and readers are not kept out all the time.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Default for all memtables together.
pub const WRITE_BUFFER_BYTES: usize = 24 << 20;
/// Default for the block cache: accounts and heads of users who come and go.
pub const BLOCK_CACHE_BYTES: usize = 32 << 20;
/// Default for the room that must stay free on the disk.
pub const RESERVE_BYTES: u64 = 128 << 20;
/// Default for open table files; each costs a descriptor and some memory.
pub const OPEN_FILES_MAX: u32 = 256;

const _: () = assert!(
    RESERVE_BYTES >= 4 * WRITE_BUFFER_BYTES as u64,
    "memtables, their log and a compaction of them must still fit when saves are refused"
);

/// How a [`RocksStore`] is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksSettings {
    /// Whether a save is synced before it is answered. Without, a loss of power loses what was
    /// acknowledged since the last [`StoreOp::Flush`]; the end of the process alone loses nothing.
    pub sync: bool,
    /// Bound for all memtables together, in bytes.
    pub write_buffer_bytes: usize,
    /// Bound for cached blocks, indexes and filters, in bytes.
    pub block_cache_bytes: usize,
    /// Bound for open table files.
    pub open_files_max: u32,
    /// With less than this free on the disk, in bytes, saves are answered [`StoreError::Full`]
    /// and never reach RocksDB, which would refuse deletes as well after a failed write.
    pub reserve_bytes: u64,
    /// Opens in spite of a damaged log, without what lies behind the damage.
    pub salvage: bool,
}

impl Default for RocksSettings {
    fn default() -> Self {
        Self {
            sync: true,
            write_buffer_bytes: WRITE_BUFFER_BYTES,
            block_cache_bytes: BLOCK_CACHE_BYTES,
            open_files_max: OPEN_FILES_MAX,
            reserve_bytes: RESERVE_BYTES,
            salvage: false,
        }
    }
}

/// A folder with everything that the station remembers.
pub struct RocksStore {
    path: PathBuf,
    settings: RocksSettings,
    /// Empty only after a failed try to reopen.
    open: RwLock<Option<DB>>,
    /// Held by the one who writes; taken before `open`, never the other way round.
    state: Mutex<WriteState>,
    damage: Mutex<Damage>,
}

#[derive(Default)]
struct WriteState {
    /// Where the next expiry begins.
    expire_from: Vec<u8>,
    /// RocksDB refuses every write after a failed one, until it is opened anew.
    broken: bool,
    tried: Option<Instant>,
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RocksStore {
    /// Opens the folder at `path`, making it if there is none.
    pub fn open(path: impl AsRef<Path>, settings: RocksSettings) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let db = open_folder(&path, &settings)?;
        Ok(Self {
            path,
            settings,
            open: RwLock::new(Some(db)),
            state: Mutex::default(),
            damage: Mutex::default(),
        })
    }

    /// Writes what is in memory into table files, so that the next opening has no log to read.
    /// For an orderly end; durability does not need it.
    pub fn settle(&self) -> Result<(), StoreError> {
        let _state = self.state();
        let open = self.db();
        let db = open.as_ref().ok_or(StoreError::Closed)?;
        View::of(db)?.flush()
    }

    /// Users with an account here, at most `count_max` of them, in a fixed order: those that follow
    /// `after`, or the first. For walks over everything, as an export makes.
    pub fn users(
        &self,
        after: Option<&str>,
        count_max: usize,
    ) -> Result<Vec<Arc<str>>, StoreError> {
        let open = self.db();
        View::of(open.as_ref().ok_or_else(not_open)?)?.users(after, count_max)
    }

    fn db(&self) -> RwLockReadGuard<'_, Option<DB>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, WriteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether less than the reserve is free. If the system does not tell, RocksDB will.
    fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|disk| {
            disk.f_bavail.saturating_mul(disk.f_frsize) < self.settings.reserve_bytes
        })
    }

    fn reopen(&self, state: &mut WriteState, full: bool) -> Result<(), StoreError> {
        if full {
            // Opening writes as well; closed and not to be opened, it could not even be read.
            return Err(StoreError::Full);
        }
        if state.tried.is_some_and(|tried| tried.elapsed() < REOPEN_PAUSE) {
            return Err(StoreError::Io("waiting to open the store again".into()));
        }
        state.tried = Some(Instant::now());
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        *open = None;
        *open = Some(open_folder(&self.path, &self.settings)?);
        state.broken = false;
        state.expire_from.clear();
        Ok(())
    }

    /// Puts damaged records aside. What cannot be written now is found again by the next read.
    fn quarantine(&self, view: &View<'_>, sightings: &[Sighting]) {
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        for sighting in sightings {
            if let Ok(Some(error)) = view.set_aside(sighting) {
                damage.note(error);
            }
        }
    }

    fn look(&self, op: &StoreOp) -> Result<(StoreAnswer, Vec<Sighting>), StoreError> {
        let open = self.db();
        let db = open.as_ref().ok_or_else(not_open)?;
        let mut sightings = Vec::new();
        let answer = View::of(db)?.answer(op, &mut sightings)?;
        Ok((answer, sightings))
    }

    fn draft(
        &self,
        state: &mut WriteState,
        ops: &[StoreOp],
    ) -> Result<Vec<StoreAnswer>, StoreError> {
        let full = self.is_full();
        if state.broken {
            self.reopen(state, full)?;
        }
        let open = self.db();
        let view = View::of(open.as_ref().ok_or_else(not_open)?)?;
        let mut draft = Draft::new(&view, self.settings.sync, full, &mut state.expire_from);
        let mut answers = Vec::with_capacity(ops.len());
        for op in ops {
            answers.push(draft.carry_out(op)?);
        }
        let sightings = draft.finish()?;
        self.quarantine(&view, &sightings);
        Ok(answers)
    }
}

impl Store for RocksStore {
    fn read(&self, op: &StoreOp) -> StoreAnswer {
        if !op.is_read() {
            return StoreAnswer::Failed(StoreError::Misused("only reads may be read"));
        }
        match self.look(op) {
            Ok((answer, sightings)) => {
                if !sightings.is_empty() {
                    let _state = self.state();
                    if let Some(db) = self.db().as_ref()
                        && let Ok(view) = View::of(db)
                    {
                        self.quarantine(&view, &sightings);
                    }
                }
                answer
            }
            Err(error) => StoreAnswer::Failed(error),
        }
    }

    fn commit(&self, ops: &[StoreOp]) -> Result<Vec<StoreAnswer>, StoreError> {
        let mut state = self.state();
        let done = self.draft(&mut state, ops);
        if done.is_err() {
            state.broken = true;
        }
        done
    }

    fn damage(&self) -> Damage {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn not_open() -> StoreError {
    StoreError::Io("the store could not be opened again after a failed write".into())
}

fn open_folder(path: &Path, settings: &RocksSettings) -> Result<DB, StoreError> {
    // Mail is nobody's business but the station's.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| system_fault(path, &error))?;
    refuse_headless(path)?;
    let db = options::open(path, settings).map_err(|error| fault(path, &error))?;
    migrate::prepare(&db)?;
    Ok(db)
}

/// Without the file CURRENT, RocksDB would take the folder for a new one and delete the tables.
fn refuse_headless(path: &Path) -> Result<(), StoreError> {
    if path.join("CURRENT").exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|error| system_fault(path, &error))? {
        let entry = entry.map_err(|error| system_fault(path, &error))?;
        let name = entry.file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "sst") {
            let key = format!("{}: tables without the file CURRENT", path.display()).into();
            return Err(StoreError::Damaged { what: "store", key });
        }
    }
    Ok(())
}

fn system_fault(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists => denied(path, &error.to_string()),
        _ => StoreError::Io(format!("{}: {error}", path.display()).into()),
    }
}

fn denied(path: &Path, text: &str) -> StoreError {
    StoreError::Denied { path: path.display().to_string().into(), text: text.into() }
}

/// What an error of RocksDB means. It comes as text only, the system's own words included.
pub(in crate::store) fn fault(path: &Path, error: &rocksdb::Error) -> StoreError {
    let text: &str = error.as_ref();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["No space left on device", "Disk quota exceeded"]) {
        StoreError::Full
    } else if says(&["lock hold by current process", "While lock file"]) {
        StoreError::Locked { path: path.display().to_string().into() }
    } else if says(&["Permission denied", "Read-only file system", "Not a directory"]) {
        denied(path, text)
    } else if error.kind() == ErrorKind::Corruption {
        StoreError::Damaged { what: "store", key: format!("{}: {text}", path.display()).into() }
    } else {
        StoreError::Io(text.into())
    }
}
