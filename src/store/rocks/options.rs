//! How RocksDB is tuned: little memory, two background threads, a log that is read again quickly.

use std::ffi::c_int;
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Error,
    LogLevel, Options,
};

use super::RocksSettings;
use crate::store::columns::{self, Column, Preset};

/// One flush and one compaction at a time: shards need the cores.
const BACKGROUND_JOBS: c_int = 2;
/// Log that may have to be read on opening; at over 100 MB/s well under the three seconds that an
/// opening may take.
const LOG_BYTES_MAX: u64 = 96 << 20;
/// RocksDB's own lines for people: enough to look back on, never a full disk.
const INFO_LOG_BYTES_MAX: usize = 1 << 20;
const INFO_LOG_FILES: usize = 3;
/// Flushes and compactions write this much between two nudges to the disk, so that a sync of the
/// log does not find the disk's queue full.
const SMOOTH_BYTES: u64 = 1 << 20;
/// Large blocks for bodies: read in order, and a block index of a third the size.
const QUEUE_BLOCK_BYTES: usize = 16 << 10;
const BLOCK_BYTES: usize = 4 << 10;
/// One false answer in a hundred.
const BLOOM_BITS: f64 = 10.0;

/// Opens every family that is there or should be. Families of a newer program are opened too: only
/// then can its format be read and named.
pub(super) fn open(path: &Path, settings: &RocksSettings) -> Result<DB, Error> {
    let options = whole(settings);
    DB::open_cf_descriptors(&options, path, families(path, settings, &options, columns::ALL)?)
}

/// Opens the families that are there, and writes nothing.
pub(super) fn open_for_reading(path: &Path, settings: &RocksSettings) -> Result<DB, Error> {
    let mut options = whole(settings);
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    let families = families(path, settings, &options, [])?;
    DB::open_cf_descriptors_read_only(&options, path, families, false)
}

/// `wanted` and whatever is there.
fn families(
    path: &Path,
    settings: &RocksSettings,
    options: &Options,
    wanted: impl IntoIterator<Item = Column>,
) -> Result<Vec<ColumnFamilyDescriptor>, Error> {
    let cache = Cache::new_lru_cache(settings.block_cache_bytes)?;
    let mut families: Vec<(String, Preset)> =
        wanted.into_iter().map(|column| (column.name.to_owned(), column.preset)).collect();
    if path.join("CURRENT").exists() {
        for name in DB::list_cf(options, path)? {
            if !families.iter().any(|(known, _)| *known == name) {
                let known = columns::ALL.iter().find(|column| column.name == name);
                let preset = known.map_or(Preset::Tiny, |column| column.preset);
                families.push((name, preset));
            }
        }
    }
    Ok(families
        .into_iter()
        .map(|(name, preset)| ColumnFamilyDescriptor::new(name, family(preset, settings, &cache)))
        .collect())
}

fn whole(settings: &RocksSettings) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(c_int::try_from(settings.open_files_max).unwrap_or(c_int::MAX));
    options.set_db_write_buffer_size(settings.write_buffer_bytes);
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    options.set_bytes_per_sync(SMOOTH_BYTES);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options.set_stats_dump_period_sec(0);
    // Log files are not recycled: in this mode a recycled log ends at its first wrong checksum,
    // which would hide damage in the middle.
    options.set_wal_recovery_mode(if settings.salvage {
        DBRecoveryMode::PointInTime
    } else {
        DBRecoveryMode::TolerateCorruptedTailRecords
    });
    options
}

fn family(preset: Preset, settings: &RocksSettings, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Indexes and filters count as cached blocks, or memory would grow with the store.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    table.set_block_size(if preset == Preset::Queue { QUEUE_BLOCK_BYTES } else { BLOCK_BYTES });
    if preset == Preset::Point {
        table.set_bloom_filter(BLOOM_BITS, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // Bodies are ciphertext and do not shrink; the rest is small. Also, which compressors a
    // system's library has is not known.
    options.set_compression_type(DBCompressionType::None);
    options.set_level_compaction_dynamic_level_bytes(true);
    let share = match preset {
        Preset::Queue => 2,
        // Accounts are written once: they need not wait in memory until there are many.
        Preset::Point => 32,
        Preset::Tiny | Preset::Index => 8,
    };
    options.set_write_buffer_size(settings.write_buffer_bytes / share);
    options
}
